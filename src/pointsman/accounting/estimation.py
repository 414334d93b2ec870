"""Token counts when no upstream reported any: rough, cheap, and always marked as estimated."""

from typing import Final

from pointsman.canonical.usage import TokenUsage

# English text and JSON come to about four bytes a token with the tokenizers in use today.
BYTES_PER_TOKEN: Final = 4


def estimate_usage(input_bytes: int, output_tokens: int) -> TokenUsage:
    """Usage of a call that sent ``input_bytes`` and of which about ``output_tokens`` came back."""
    return TokenUsage(
        input_tokens=-(-input_bytes // BYTES_PER_TOKEN), output_tokens=max(0, output_tokens), estimated=True
    )


def tokens_of(output_bytes: int) -> int:
    """About how many tokens this many bytes of answer are."""
    return -(-output_bytes // BYTES_PER_TOKEN)
