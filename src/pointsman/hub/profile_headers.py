"""CrossCompute's header lines: by which profile a request was routed, who answers it, and what it costs.

What isn't known when the head of an answer goes out is left out: of a stream its cost.
"""

from typing import Final, Protocol

from pointsman.canonical.credits import credits_text
from pointsman.canonical.record import RequestRecord
from pointsman.routing.metadata import model_of
from pointsman.routing.profiles.budgets import VERSION
from pointsman.routing.targets import Target
from pointsman.routing.wants import Judged

EXPLICIT: Final = "explicit"  # the profile of a request that names a model
MAX_VALUE: Final = 200


class Answering(Protocol):
    """A request's record while it runs (entry.py)."""

    target: Target | None

    @property
    def record(self) -> RequestRecord: ...
    @property
    def price_rule(self) -> str | None: ...


def routing_lines(judged: Judged) -> bytes:
    """How a request was judged; known before anybody is asked."""
    found = {
        "routing-profile": judged.profile,
        "routing-tier": judged.tier,
        "routing-budget": judged.budget,
        "routing-version": VERSION,
        "routing-intelligence": judged.engine,
        "routing-intelligence-session": judged.session,
        "routing-intelligence-request-id": judged.request_id,
    }
    return _lines(found)


def explicit_lines(entry: Answering) -> bytes:
    """For an answer to a request that names a model: no tier and no budget decided anything."""
    return _lines({"routing-profile": EXPLICIT, "routing-version": VERSION}) + answer_lines(entry)


def answer_lines(entry: Answering) -> bytes:
    """Who answers, by which price, and what it costs as far as that is known now."""
    target, record = entry.target, entry.record
    if target is None:
        return b""
    found = {
        "routed-model": model_of(target),
        "provider": target.connection.vendor,
        "price-rule": entry.price_rule,
        "billed-credits": credits_text(record.cost_nano_usd) if record.cost_nano_usd is not None else None,
    }
    return _lines(found)


def _lines(values: dict[str, str | None]) -> bytes:
    return b"".join(
        b"x-crosscompute-%b: %b\r\n" % (name.encode(), plain(value)) for name, value in values.items() if value
    )


def plain(value: str) -> bytes:
    """A value as a header line can have it: what is not visible ASCII becomes a question mark."""
    return "".join(letter if "!" <= letter <= "~" else "?" for letter in value[:MAX_VALUE]).encode()
