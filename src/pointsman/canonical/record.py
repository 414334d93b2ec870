"""What a finished request leaves behind: one record, written once, read by the journal, the database and the log."""

from enum import StrEnum
from typing import Final

import msgspec

DEFAULT_ACCOUNT: Final = "default"  # pays when nothing else is said
SHADOW: Final = "shadow"  # the ``route`` of calls that no client asked for: nothing is chosen by them, nobody pays


class Outcome(StrEnum):
    """How a request ended."""

    SUCCESS = "success"
    ERROR = "error"
    CLIENT_CLOSED = "client_closed"


class Exemption(StrEnum):
    """Why a call that cost something is not charged to its account."""

    ZERO_COMPLETION = "zero_completion"
    FINISHED_IN_ERROR = "finished_in_error"


class CacheOutcome(StrEnum):
    """What the response cache did for a request that was let near it."""

    HIT = "hit"
    SEMANTIC = "semantic"  # the answer to a question of the same meaning
    MISS = "miss"  # an upstream was asked; also when that was wished
    BYPASS = "bypass"  # the caller wanted nothing of it


class RequestRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One inference request, filled in as it runs. Holds no prompt, no answer and no credential.

    Instants are microseconds since 1970 UTC, durations microseconds. ``cost_nano_usd`` is None when the model has
    no known price (``unpriced``), never 0 for lack of one. Token counts that no upstream reported are marked by
    ``usage_estimated``. ``fidelity`` is what translation did, in JSON: a list of [path, action, detail].
    ``attempts`` are the targets that failed, in JSON: a list of [target, what was wrong, status, microseconds]; for an
    answer that was given again it is one row ["replay of", the first request's id, status, 0]. ``combo`` and ``target``
    are the combo that was asked for and its target that was tried last. ``plan`` is the routing decision
    (routing/replay.py), kept in a table of its own. ``cost_nano_usd`` is what ``account_id`` is charged;
    ``upstream_cost_nano_usd`` what the upstream takes for it, None when that is the same. With ``byok`` the upstream
    bills the caller itself and the charge is a fee. ``exemption`` says why what an upstream takes
    is not charged. ``charges`` are the budgets in which the cost counts, in JSON: a list of [budget, period, whether it
    was reserved before], and fourth the cost that counts there, where it is another. ``guards`` is what rules on
    content have found, in JSON: a list of [rule, action, how often]. ``cache`` is what the response cache did, None
    when it was not asked; ``cache_source`` the request whose answer was given again. The identifier makes repeated
    projection harmless.
    """

    request_id: str
    created_at: int
    operation: str
    route: str
    dialect: str
    workspace_id: str = ""  # none: nobody was authenticated
    key_id: str | None = None
    connection_id: str | None = None
    provider: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    stream: bool = False
    status: int = 0
    outcome: Outcome = Outcome.ERROR
    error_kind: str | None = None
    finish_reason: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_estimated: bool = False
    cost_nano_usd: int | None = None
    duration_us: int = 0
    first_byte_us: int | None = None
    upstream_us: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    fidelity: str | None = None
    attempts: str | None = None
    combo: str | None = None
    target: str | None = None
    account_id: str = DEFAULT_ACCOUNT
    upstream_cost_nano_usd: int | None = None
    byok: bool = False
    exemption: Exemption | None = None
    charges: str | None = None
    guards: str | None = None
    cache: CacheOutcome | None = None
    cache_source: str | None = None
    plan: bytes | None = None
