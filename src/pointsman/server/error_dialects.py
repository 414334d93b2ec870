"""In whose words an error is told where no dialect has taken the request, such as at an unknown path."""

from typing import Final

from pointsman.contracts.operations import Contract, owner_of
from pointsman.dialects import openai_chat
from pointsman.server.exchange import ErrorDialect, Exchange
from pointsman.server.inference import dialect_module
from pointsman.server.views import contract_of

_DIALECTS: Final = {
    Contract.OPENROUTER: "openrouter",
    Contract.HARDCARRX: "hardcarrx",
    Contract.HYBRID: "hybrid",
}


def error_dialect(exchange: Exchange) -> ErrorDialect:
    """The module that writes an error for this client; OpenAI's words where nothing tells whose it is."""
    contract = exchange.contract or owner_of(exchange.path) or contract_of(exchange)
    name = _DIALECTS.get(contract) if contract is not None else None
    found: ErrorDialect = openai_chat if name is None else dialect_module(name)
    return found
