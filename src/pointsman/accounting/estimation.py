"""Token counts when no upstream reported any: rough, cheap, and always marked as estimated."""

import re
from typing import Final

from pointsman.canonical.usage import TokenUsage

# English text and JSON come to about four bytes a token with the tokenizers in use today.
BYTES_PER_TOKEN: Final = 4
# An image or file inside a body: tokens have nothing to do with its bytes. Providers count some 100 to 2,000 an image.
TOKENS_PER_FILE: Final = 1000
_FILE: Final = re.compile(rb";base64,[A-Za-z0-9+/=_-]+")


def estimate_usage(input_bytes: int, output_tokens: int) -> TokenUsage:
    """Usage of a call that sent ``input_bytes`` and of which about ``output_tokens`` came back."""
    return TokenUsage(
        input_tokens=-(-input_bytes // BYTES_PER_TOKEN), output_tokens=max(0, output_tokens), estimated=True
    )


def tokens_of(output_bytes: int) -> int:
    """About how many tokens this many bytes of answer are."""
    return -(-output_bytes // BYTES_PER_TOKEN)


def estimate_tokens(body: bytes, max_output_tokens: int) -> int:
    """About how many tokens a call will use at most, before it is made: at least 1."""
    if body.startswith(b"--"):
        return TOKENS_PER_FILE + max_output_tokens  # a multipart form: nearly all of it is a file
    size, files = len(body), 0
    if b";base64," in body:
        for found in _FILE.finditer(body):
            files += 1
            size -= found.end() - found.start()
    return max(1, tokens_of(size) + files * TOKENS_PER_FILE + max_output_tokens)
