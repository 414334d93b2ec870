"""What a failed call means for routing: who is at fault, for how long, and whether another target may do better.

The tables follow how people's gateways were seen to fail: a caller's own mistake or a content filter must not be tried
elsewhere, an account without credit must not be tried again and again, and a prompt that is too long for one model may
fit another. What an upstream calls its error counts first, then its words, then its status, then our own kind.
"""

import re
from typing import Final, Literal

import msgspec

from pointsman.errors import BudgetExceeded, EndpointNotReady, GatewayError, Kind, Unjudged

Scope = Literal["request", "model", "connection", "provider"]
INVALID_ANSWER: Final = "response_validation"  # the ``param`` of an answer that a combo does not take for one
Listed = Literal["", "down", "up"]
MAX_TEXT: Final = 4096  # bytes of a refusal that are looked at
HOUR: Final = 3600.0
DAY: Final = 86400.0
YEAR: Final = 365 * DAY


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed call. ``scope`` is who is at fault: nothing is held against the upstream for ``request``.

    ``next``: another target may do better. ``again``: the same one may, at once. ``larger``: only one with a larger
    window. ``seconds``: how long the one at fault is left alone; None: longer each time. ``most``: twice as long each
    further time, up to this. ``midnight``: until the next midnight UTC. ``terminal``: a state that is shown until a
    call succeeds or an operator resets it. ``trips``: counts for the provider's breaker, ``network`` ones but rarely.
    ``sent``: the upstream has seen the call, or was to; without that a failure tells nothing of the provider.
    ``listed``: what a model list tells: nothing; ``down``, that it goes on when there is none to be had; ``up``, also
    that it is over when there is one.
    """

    word: str
    scope: Scope
    next: bool = True
    again: bool = False
    larger: bool = False
    seconds: float | None = None
    most: float | None = None
    midnight: bool = False
    terminal: str | None = None
    trips: bool = False
    network: bool = False
    sent: bool = True
    listed: Listed = ""


_OWN_MISTAKE: Final = Failure(word="invalid_request", scope="request", next=False, seconds=0)
_BUSY_HERE: Final = Failure(word="limited_here", scope="request", seconds=0)
_NOT_READY_HERE: Final = Failure(word="not_ready_here", scope="request", seconds=0)
_TOO_DEAR: Final = Failure(word="budget", scope="request", seconds=0)
_CONTEXT: Final = Failure(word="context_length", scope="request", larger=True, seconds=0)
_FILTERED: Final = Failure(word="content_filtered", scope="request", next=False, seconds=0)
_UNJUDGED: Final = Failure(word="unjudged", scope="request", next=False, seconds=0)
_UNSUPPORTED: Final = Failure(word="unsupported", scope="request", seconds=0)
_LIMITED: Final = Failure(word="rate_limited", scope="connection", again=True)
_MODEL_LIMITED: Final = Failure(word="model_rate_limited", scope="model", again=True)
_MODEL_BUSY: Final = Failure(word="model_overloaded", scope="model", again=True)
_DAILY: Final = Failure(word="daily_quota", scope="connection", midnight=True)
_MODEL_DAILY: Final = Failure(word="model_daily_quota", scope="model", midnight=True)
_NO_CREDIT: Final = Failure(
    word="credits_exhausted", scope="connection", seconds=120, most=HOUR, terminal="credits_exhausted"
)
_NO_CREDIT_SAID: Final = Failure(
    word="credits_exhausted", scope="connection", seconds=HOUR, terminal="credits_exhausted"
)
_BANNED: Final = Failure(word="banned", scope="connection", seconds=YEAR, terminal="banned")
_REJECTED: Final = Failure(word="rejected", scope="connection", seconds=120, most=HOUR, terminal="error", listed="up")
_NO_CREDENTIALS: Final = Failure(word="no_credentials", scope="connection", seconds=120, terminal="error", listed="up")
_NOT_ALLOWED: Final = Failure(word="not_allowed", scope="connection", seconds=5)
_NO_ACCESS: Final = Failure(word="no_model_access", scope="model", seconds=HOUR, most=DAY)
_MALFORMED_THERE: Final = Failure(word="model_capacity", scope="request", seconds=0)
_RETIRED: Final = Failure(word="model_retired", scope="model", seconds=DAY)
_NOT_FOUND: Final = Failure(word="model_not_found", scope="model", seconds=120)
_NOT_ACCEPTABLE: Final = Failure(word="not_acceptable", scope="model")
_OVERLOADED: Final = Failure(word="overloaded", scope="connection", again=True, trips=True, listed="down")
_BROKEN: Final = Failure(word="upstream_error", scope="connection", again=True, trips=True, listed="down")
_SLOW: Final = Failure(word="timeout", scope="connection", trips=True, listed="down")
_CUT: Final = Failure(word="upstream_error", scope="connection", again=True, trips=True, network=True, listed="down")
_SILENT: Final = Failure(word="timeout", scope="connection", trips=True, network=True, listed="down")
_UNREACHABLE: Final = Failure(word="unavailable", scope="connection", again=True, trips=True, network=True, listed="up")
_NOT_READY: Final = Failure(word="not_ready", scope="connection", seconds=15, sent=False)

# Without an answer of the upstream's: it could not be reached, broke off, or we ourselves refused.
BY_KIND: Final = {
    Kind.CONTEXT_LENGTH: _CONTEXT,
    Kind.CONTENT_FILTERED: _FILTERED,
    Kind.UNSUPPORTED: _UNSUPPORTED,
    Kind.MODEL_NOT_FOUND: _NOT_FOUND,
    Kind.RATE_LIMITED: _BUSY_HERE,
    Kind.OVERLOADED: _BUSY_HERE,
    Kind.PAYMENT_REQUIRED: _NO_CREDIT,
    Kind.UPSTREAM_REJECTED: _REJECTED,
    Kind.UPSTREAM_ERROR: _CUT,
    Kind.UPSTREAM_TIMEOUT: _SILENT,
    Kind.UPSTREAM_UNAVAILABLE: _UNREACHABLE,
    Kind.NOT_READY: _NOT_READY_HERE,  # a store of ours is away
}
# An error that an upstream reports inside of a stream that has begun.
IN_STREAM: Final = {
    **BY_KIND, Kind.RATE_LIMITED: _LIMITED, Kind.OVERLOADED: _OVERLOADED, Kind.NOT_READY: _OVERLOADED
}  # fmt: skip
# What upstreams call their errors: the values of code, type, status, reason and __type.
BY_CODE: Final = {
    "account_deactivated": _BANNED,
    "account_suspended": _BANNED,
    "consumer_suspended": _BANNED,
    "organization_deactivated": _BANNED,
    "insufficient_quota": _NO_CREDIT_SAID,
    "billing_not_active": _NO_CREDIT_SAID,
    "billing_hard_limit_reached": _NO_CREDIT_SAID,
    "insufficient_balance": _NO_CREDIT_SAID,
    "insufficient_credits": _NO_CREDIT_SAID,
    "billing_error": _NO_CREDIT_SAID,
    "billing_disabled": _NO_CREDIT_SAID,
    "invalid_payment_instrument": _NO_CREDIT_SAID,
    "invalid_api_key": _REJECTED,
    "api_key_invalid": _REJECTED,
    "authentication_error": _REJECTED,
    "unrecognizedclientexception": _REJECTED,
    "expiredtokenexception": _REJECTED,
    "model_not_found": _NOT_FOUND,
    "model_not_available": _NOT_FOUND,
    "deploymentnotfound": _NOT_FOUND,
    "model_decommissioned": _RETIRED,
    "model_deprecated": _RETIRED,
    "resource_exhausted": _LIMITED,
    "throttlingexception": _LIMITED,
    "servicequotaexceededexception": _LIMITED,
    "modelnotreadyexception": _MODEL_BUSY,
    "modelstreamerrorexception": _BROKEN,
    "overloaded_error": _OVERLOADED,
    "serviceunavailableexception": _OVERLOADED,
    "internalserverexception": _BROKEN,
}
_TYPE_HEADER: Final = b"x-amzn-errortype"  # where AWS says it
_CODE: Final = re.compile(rb'(?<!\\)"(?:code|type|status|reason|__type)"\s*:\s*"([a-z_.#/:-]{3,100})"')

# What upstreams say. In lower case.
_SPENT: Final = (  # an account that is paid in advance, or has a ceiling of its own
    rb"credit balance is too low|reached your specified (?:api |workspace api )?usage limits"
    rb"|prepayment credits are depleted|credits? (?:are |have been |is )?(?:exhausted|depleted)"
    rb"|exceeded its (?:monthly )?spending cap|please enable billing on"
)
_NO_ACCESS_SAID: Final = (
    re.compile(
        rb"(?:does not|do not|don't) have access to (?:the )?(?:requested |specified )?model|no access to model"
        rb"|model[^.]{0,60}(?:is not available (?:in|on|for) your|requires? (?:a |an )?[^.]{0,30}(?:plan|tier))"
    ),
    _NO_ACCESS,
)
_RETIRED_SAID: Final = (
    re.compile(
        rb"no longer (?:available|supported)|end[- ]of[- ]life|has been (?:retired|deprecated|decommissioned|shut down)"
        rb"|has (?:been )?moved to"
    ),
    _RETIRED,
)
BY_TEXT: Final = (
    (
        re.compile(
            rb"account[^.]{0,40}(?:deactivated|disabled|suspended|banned)|verify your account"
            rb"|(?:disabled|suspended)[^.]{0,40}violation|violation of [^.]{0,40}terms"
        ),
        _BANNED,
    ),
    (
        re.compile(
            rb"insufficient[_ ](?:quota|balance|credits?|funds)|exceeded your current quota|out of credits"
            rb"|payment required|requires more credits|billing hard limit|(?:weekly|monthly) (?:usage )?limit"
            rb"|api calls / month|invalid_payment_instrument|" + _SPENT
        ),
        _NO_CREDIT_SAID,
    ),
    _RETIRED_SAID,
    (re.compile(rb"no (?:api )?credentials|missing credentials|no api key"), _NO_CREDENTIALS),
    (re.compile(rb"request not allowed"), _NOT_ALLOWED),
    _NO_ACCESS_SAID,
    (re.compile(rb"model[^.]{0,60}(?:overloaded|at capacity|currently loading)"), _MODEL_BUSY),
)
# A limit: for how long, and of what.
_LIMIT_SAID: Final = re.compile(
    rb"rate[_ -]?limit|too many requests|quota (?:exceeded|exhausted|will reset)|resource[_ ](?:has been )?exhausted"
    rb"|free[- ]tier|capacity|overloaded"
)
_DAILY_SAID: Final = re.compile(
    rb"today's quota|daily[_ ](?:quota|limit|request|token)|try again tomorrow|tokens per day|requests per day"
    rb"|\(tpd\)|\(rpd\)|perday"
)
_OF_MODEL_SAID: Final = re.compile(
    rb"per[-_]?model|limit reached for (?:model )?[`'\"]?(?!requests|tokens|your|the |this|org)[a-z0-9][\w./:-]+"
)
# Words that count for a 400 too: only at the beginning of the message, before it may quote a prompt.
_BAD_REQUEST_TEXT: Final = (
    (re.compile(rb"improperly formed request"), _MALFORMED_THERE),
    (re.compile(rb"api key not valid|invalid api key|incorrect api key|api key expired"), _REJECTED),
    (
        re.compile(rb"\A(?:your |you have )?(?:" + _SPENT + rb")|free tier is not available in your country"),
        _NO_CREDIT_SAID,
    ),
    _NO_ACCESS_SAID,
    _RETIRED_SAID,
)
# A limit that is none of a while: there is nothing to wait for.
_BEYOND_LIMITS: Final = (
    (re.compile(_SPENT), _NO_CREDIT_SAID),
    (re.compile(rb"free_tier[^\n]{0,80}limit: 0,"), _NO_ACCESS),  # Google's: the free plan has nothing of this model
)
_MESSAGE: Final = re.compile(rb'"(?:message|error|detail)"\s*:\s*"([^"]{0,160})')
BY_STATUS: Final = {
    401: _REJECTED,
    402: _NO_CREDIT,
    403: _REJECTED,
    404: _NOT_FOUND,
    406: _NOT_ACCEPTABLE,
    407: _REJECTED,
    408: _SLOW,
    410: _RETIRED,
    425: _LIMITED,
    429: _LIMITED,
    503: _OVERLOADED,
    504: _SLOW,
    524: _SLOW,
    529: _OVERLOADED,
}
_CALLERS_OWN: Final = frozenset((400, 413, 415, 422))  # there a prompt may be quoted, which can say anything
_MAY_BE_LIMITS: Final = frozenset((403, 405, 409, 423, 425))
_TELLS_MORE: Final = frozenset((Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTERED))  # the format knows better than any table


def classify(error: GatewayError) -> Failure:
    """What ``error`` means. One that the gateway itself raised is held against nobody."""
    refusal = error.refusal
    if isinstance(error, BudgetExceeded):
        return _TOO_DEAR
    if isinstance(error, Unjudged):
        return _UNJUDGED
    if isinstance(error, EndpointNotReady):
        return _NOT_READY
    if error.param == INVALID_ANSWER:
        return Failure(word=INVALID_ANSWER, scope="request", seconds=0)
    if refusal is None:
        return BY_KIND.get(error.kind, _OWN_MISTAKE)
    if error.kind in _TELLS_MORE:
        return BY_KIND[error.kind]
    status, body = refusal.status, refusal.body[:MAX_TEXT]
    text = body.lower()
    named = refusal.headers.get(_TYPE_HEADER, b"").partition(b":")[0].lower()
    for code in (*_CODE.findall(text), named):
        found = BY_CODE.get(code.decode("latin-1").rpartition("#")[2])
        if found is not None:
            return _limit(text) if found is _LIMITED else found
    if status in _CALLERS_OWN:
        said = _MESSAGE.search(text)
        return _said(said[1] if said else b"", _BAD_REQUEST_TEXT) or BY_KIND.get(error.kind, _OWN_MISTAKE)
    found = _said(text, BY_TEXT)
    if found is not None:
        return found
    if status == 429 or (status in _MAY_BE_LIMITS and (_LIMIT_SAID.search(text) or _DAILY_SAID.search(text))):
        return _limit(text)
    return BY_STATUS.get(status) or (_BROKEN if status >= 500 else BY_KIND.get(error.kind, _OWN_MISTAKE))


def classify_broken(kind: Kind) -> Failure:
    """What the break of a stream means that had begun."""
    return IN_STREAM.get(kind, _OWN_MISTAKE)


def _said(text: bytes, table: tuple[tuple[re.Pattern[bytes], Failure], ...]) -> Failure | None:
    return next((failure for pattern, failure in table if pattern.search(text)), None)


def _limit(text: bytes) -> Failure:
    """What is limited, and whether it lasts until tomorrow, or until somebody pays."""
    beyond = _said(text, _BEYOND_LIMITS)
    if beyond is not None:
        return beyond
    of_model, daily = _OF_MODEL_SAID.search(text), _DAILY_SAID.search(text)
    if daily:
        return _MODEL_DAILY if of_model else _DAILY
    return _MODEL_LIMITED if of_model else _LIMITED
