"""Token usage of one model call."""

import msgspec


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one call: two sums and what they consist of.

    ``cache_read_tokens``, ``cache_write_tokens`` and ``input_audio_tokens`` are part of ``input_tokens``;
    ``cache_write_1h_tokens`` are the part of the cache writes kept for an hour; ``reasoning_tokens``,
    ``output_audio_tokens`` and ``output_image_tokens`` are part of ``output_tokens``. `buckets` are the same figures
    without overlap. ``estimated`` marks figures that no upstream reported.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    estimated: bool = False

    def buckets(self) -> dict[str, int]:
        """The tokens in disjoint buckets; they add up to ``input_tokens + output_tokens``."""
        cached = self.cache_read_tokens + self.cache_write_tokens
        hidden = self.reasoning_tokens + self.output_audio_tokens + self.output_image_tokens
        return {
            "input": self.input_tokens - cached - self.input_audio_tokens,
            "cache_read": self.cache_read_tokens,
            "cache_write_5m": self.cache_write_tokens - self.cache_write_1h_tokens,
            "cache_write_1h": self.cache_write_1h_tokens,
            "input_audio": self.input_audio_tokens,
            "output": self.output_tokens - hidden,
            "reasoning": self.reasoning_tokens,
            "output_audio": self.output_audio_tokens,
            "output_image": self.output_image_tokens,
        }


NO_USAGE = TokenUsage()
