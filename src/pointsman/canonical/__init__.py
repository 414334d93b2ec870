"""Pointsman's own language: pure data and pure functions that every other part shares."""
