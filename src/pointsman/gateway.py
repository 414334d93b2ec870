"""What all requests of one process share, and what a request's two sides look like to the flow (flow.py)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pointsman.accounting.billing import BillingRules
from pointsman.canonical import halves
from pointsman.canonical.record import RequestRecord
from pointsman.canonical.request import Request
from pointsman.clock import Clock
from pointsman.decisions import Decisions
from pointsman.errors import GatewayError
from pointsman.hub.combo_runs import ComboRuns
from pointsman.hub.lone_calls import LoneCalls
from pointsman.hub.profile_runs import ProfileRuns
from pointsman.identity.key_table import KeyTable
from pointsman.identity.late_keys import LateKeys
from pointsman.planning import Planner
from pointsman.policy.budgets import Budgets, BudgetTable
from pointsman.policy.guardrails import GuardrailTable
from pointsman.policy.ip_filter import IpFilter
from pointsman.policy.kept_answers import KeptAnswers
from pointsman.policy.limits import Limiter, LimitTable
from pointsman.policy.opaque_state import Vault
from pointsman.policy.response_cache import ResponseCache
from pointsman.policy.semantic_cache import Vectors
from pointsman.policy.sessions import SessionTable
from pointsman.policy.shared_calls import (
    SharedCalls,
)
from pointsman.policy.stored_files import StoredFiles
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.health import HealthBook
from pointsman.routing.presets import Presets
from pointsman.settings import AttemptSettings
from pointsman.upstream.answers import Receiver
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import Endpoints
from pointsman.upstream.hedging import HedgeBook

if TYPE_CHECKING:
    from pointsman.hub.guarding import Guarding


class Call(Protocol):
    """A parsed request."""

    @property
    def model(self) -> str:
        """The model's name as the caller wrote it."""
        ...

    @property
    def stream(self) -> bool:
        """Whether the answer is to come in pieces."""
        ...

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        ...

    @property
    def max_output_tokens(self) -> int:
        """The most tokens that one answer may have; what is assumed where the caller says nothing."""
        ...

    @property
    def outline(self) -> bytes | None:
        """The body without its long strings: names and short words are looked for here. None for the body itself."""
        ...

    @property
    def usage_wanted(self) -> bool:
        """The client asked for what a stream tells of its usage."""
        ...

    @property
    def fields(self) -> dict[str, msgspec.Raw] | None:
        """The body's members as they came, when the fast raw lane can carry them."""
        ...

    @property
    def request(self) -> Any:
        """What was read of the body, where `fields` are not all there is."""
        ...

    @property
    def members(self) -> Mapping[str, Any]:
        """What the body holds that may be meant for routing: all its members, or those that nobody has read."""
        ...


class Dialect(halves.Dialect, Protocol):
    """What a client speaks: a module of `pointsman.dialects`, or one with what a request's path says of it."""

    def parse_request(self, body: bytes) -> Call:
        """What the flow needs of a request; raises GatewayError(INVALID_REQUEST) that names the field at fault."""
        ...

    def status_of(self, error: GatewayError) -> int:
        """The HTTP status that the API has for an error."""
        ...

    def as_request(self, call: Call, body: bytes) -> Request:
        """The request in our words, for the hub lane."""
        ...


class Exchange(Receiver, Protocol):
    """A request and the way to answer it (server/exchange.py)."""

    path: bytes
    headers: dict[bytes, bytes]
    body: bytes
    request_id: str
    started: float
    started_at: int
    bytes_out: int
    first_byte: float | None
    limit_head: bytes
    plan_head: bytes
    api_head: bytes
    telling: Callable[[], bytes] | None

    @property
    def responded(self) -> bool:
        """True once any part of an answer was given."""
        ...

    def respond(self, status: int, body: bytes, content_type: bytes = ..., extra: bytes = ...) -> None:
        """The whole answer. ``extra`` are header lines."""
        ...

    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = ...) -> None:
        """Tell the client now and then, by ``comment``, that its stream is being made. ``head`` gives header lines."""
        ...


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that a request sees, the same from its start to its end."""

    revision: int
    keys: KeyTable
    catalogue: Catalogue
    endpoints: Endpoints
    limits: LimitTable | None = None
    login_required: bool = True  # else whoever comes from this machine may manage it
    presets: Presets = {}
    budgets: BudgetTable | None = None
    ip_filter: IpFilter | None = None
    guardrails: GuardrailTable | None = None
    guards: "Guarding | None" = None  # what looks at contents; None: nobody does


class Ledger(Protocol):
    """Takes records in (accounting/ledger.py). ``closed_reason`` tells why no request can be taken now."""

    closed_reason: str | None

    def write(self, record: RequestRecord, *, quiet: bool = False) -> None:
        """Keep a record, durable when this returns; never fails. ``quiet``: the log is not told."""
        ...

    def note(self, record: RequestRecord) -> None:
        """Log a record of nobody's, without keeping it."""
        ...


class Admission(Protocol):
    """Lets calls in, or has them wait (server/admission.py)."""

    def try_enter(self, priority: int) -> bool:
        """Take a place if one is free. Raises GatewayError(OVERLOADED) for low priority while the loop lags."""
        ...

    async def enter(self, priority: int) -> None:
        """Wait for a place. Raises GatewayError(OVERLOADED) when too many wait, or for too long."""
        ...

    def leave(self) -> None:
        """Give a place back."""
        ...


class Gateway:
    """What all requests of one process share."""

    def __init__(
        self,
        *,
        clock: Clock,
        client: UpstreamClient,
        ledger: Ledger,
        observe: Callable[[RequestRecord], None],
        snapshot: Snapshot,
        error_headers: Callable[[GatewayError], bytes],
        admission: Admission,
        limiter: Limiter,
        vault: Vault,
        health: HealthBook,
        attempts: AttemptSettings,
        shared: SharedCalls,
        lone: LoneCalls,
        seed: Callable[[], int],
        combos: ComboRuns,
        profiles: ProfileRuns,
        keep_plans: bool = True,
        files: StoredFiles | None = None,
        default_model: str | None = None,
        most_sessions: int = 0,
        billing: BillingRules = BillingRules(),  # noqa: B008 - frozen
        budgets: Budgets | None = None,
        kept_answers: KeptAnswers | None = None,
        cache: ResponseCache | None = None,
    ) -> None:
        """``seed`` gives 64 random bits for each plan. ``files``: whose uploaded files are whose; without it nobody
        looks for their names in calls. ``default_model`` is for requests that name none. ``most_sessions`` a key may
        have at a time; 0: any number. ``kept_answers``: those that all processes share.
        ``cache``: None keeps no answers for other requests at all.
        """
        self.cache = cache
        self.late_keys: LateKeys | None = None  # finds keys that this process has not seen yet
        self.vectors: Vectors | None = None  # what meanings are compared by
        self.kept_answers = kept_answers
        self.default_model = default_model
        self.billing = billing
        self.budgets = budgets
        self.files = files
        self.vault = vault
        self.health = health
        self.attempts = attempts
        self.hedges = HedgeBook()
        self.shared = shared
        self.lone = lone
        self.seed = seed
        self.planner = Planner(health, seed)
        self.planner.busy = lambda target: self.snapshot.endpoints[target.endpoint].busy
        self.decisions = Decisions(keep_plans, combos.memory)
        self.combos = combos
        self.profiles = profiles
        self.sessions = SessionTable(most_sessions)
        self.clock = clock
        self.client = client
        self.ledger = ledger
        self.observe = observe
        self.snapshot = snapshot
        self.error_headers = error_headers
        self.admission = admission
        self.limiter = limiter
