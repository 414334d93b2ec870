"""Token usage of one model call."""

import msgspec


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one call. ``cache_read_tokens`` and ``cache_write_tokens`` are part of ``input_tokens``;
    ``reasoning_tokens`` are part of ``output_tokens``. ``estimated`` marks figures that no upstream reported.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


NO_USAGE = TokenUsage()
