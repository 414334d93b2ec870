"""Zstandard: the standard library's from Python 3.14 on, its backport before. Imported at the first use."""

import sys
from typing import Any

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

__all__ = ["ZstdError", "decoder"]


def decoder(window_log: int) -> Any:
    """A decompressor that refuses a window larger than ``2**window_log`` bytes."""
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: window_log})
