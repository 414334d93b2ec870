"""In whose words an error is told where no dialect has taken the request: at an unknown path, or one not read on."""

from typing import Final

from pointsman.contracts.operations import Contract, owner_of
from pointsman.dialects import openai_chat
from pointsman.server.exchange import ErrorDialect, Exchange
from pointsman.server.inference import BASES, BY_BODY, GEMINI_BASES, OLLAMA, dialect_module
from pointsman.server.views import contract_of

_DIALECTS: Final = {
    Contract.OPENROUTER: "openrouter",
    Contract.HARDCARRX: "hardcarrx",
    Contract.HYBRID: "hybrid",
}
# Paths that tell whose words are read there.
_BY_PATH: Final = {
    **{(base + path).encode(): name for base in BASES for path, name in BY_BODY},
    **{f"{base}/messages/count_tokens".encode(): "anthropic" for base in BASES},
    **{path.encode(): name for path, name in OLLAMA},
}
_OF_TWO: Final = "openai_responses"  # OpenRouter's clients read errors of their own there
_GEMINI: Final = tuple(f"{base}/models/".encode() for base in GEMINI_BASES)


def error_dialect(exchange: Exchange) -> ErrorDialect:
    """The module that writes an error for this client; OpenAI's words where nothing tells whose it is."""
    name = "gemini" if exchange.path.startswith(_GEMINI) else _BY_PATH.get(exchange.path)
    if name is None or name == _OF_TWO:
        contract = exchange.contract or owner_of(exchange.path) or contract_of(exchange)
        name = _DIALECTS.get(contract, name) if contract is not None else name
    found: ErrorDialect = openai_chat if name is None else dialect_module(name)
    return found
