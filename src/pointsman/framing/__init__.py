"""Bytes to frames, incrementally: each framing has one splitter whose frames don't depend on how the bytes arrive."""
