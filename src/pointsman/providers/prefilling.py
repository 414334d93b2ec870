"""Which upstreams go on with an answer that a request holds the beginning of, so far as it is known.

Anthropic took prefilled answers away with Claude Opus 4.6 and Sonnet 4.6, which refuse them with 400. Hosts of OpenAI's
chat API: `Quirks.continues`. Ollama leaves a last message of the assistant open. What isn't known is not tried, unless
the operator says so by the connection's option ``prefill``.
"""

import re
from typing import Final

from pointsman.canonical.halves import Upstream
from pointsman.wire.anthropic import WIRE as ANTHROPIC
from pointsman.wire.bedrock import WIRE as BEDROCK
from pointsman.wire.ollama import WIRE as OLLAMA

OPTION: Final = "prefill"
_CLAUDE: Final = re.compile(
    r"claude-(?:2\b|3\b|instant|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:[-@]\d{8}|-latest|-v\d|@|:|$))"
)


def goes_on(wire: str, upstream: Upstream) -> bool:
    """Whether a model is known to go on with what stands last in the request as the assistant's."""
    told = upstream.options.get(OPTION)
    if told is not None:
        return told == "true"
    if wire in (ANTHROPIC, BEDROCK):
        return _CLAUDE.search(upstream.model) is not None
    return wire == OLLAMA or bool(upstream.quirks.get("continues"))
