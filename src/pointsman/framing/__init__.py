"""Bytes to frames and back, incrementally."""
