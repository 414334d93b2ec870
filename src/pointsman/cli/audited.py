"""Commands that change something leave a row in the audit log: one place for all of them, around the installation.

`CHANGES` says what the log calls each; a test holds it and `READS` against all commands there are.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from pointsman.canonical.audit import Entry, Outcome
    from pointsman.identity.audit_trail import AuditTrail

Function = TypeVar("Function", bound=Callable[..., Any])
_PLACES: Final = frozenset(("data_dir", "config", "as_json", "quiet", "password_stdin"))


class Change(NamedTuple):
    """What a command does to what. ``named_by``: its argument that names the object.

    ``only_when_told``: it does so at times, and then calls `about`.
    """

    action: str
    kind: str
    named_by: str | None = None
    only_when_told: bool = False


class Running:
    """The command that runs: its name without the program's, and the arguments that were given with it."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        self.name = name
        self.given = given
        self.told: tuple[str, str | None] | None = None  # what it said by `about`


_running: Final[ContextVar[Running | None]] = ContextVar("running", default=None)


class Command(TyperCommand):
    """A command of ours: notes which one runs, and with what."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        given = {name: value for name, value in ctx.params.items() if _is_given(ctx, name)}
        token = _running.set(Running(_name(ctx), given))
        try:
            return super().invoke(ctx)
        finally:
            _running.reset(token)


class Commands(typer.Typer):
    """Commands of ours, or a group of them."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        """As typer has it."""
        return super().command(name, **{"cls": Command, **options})


CHANGES: Final = {
    "aliases set": Change("alias.updated", "alias", "name"),
    "aliases remove": Change("alias.deleted", "alias", "name"),
    "budgets set": Change("budget.updated", "budget", "subject"),
    "budgets remove": Change("budget.deleted", "budget", "budget"),
    "chat": Change("apikey.created", "apikey", None, only_when_told=True),
    "combos add": Change("combo.created", "combo", "name"),
    "combos remove": Change("combo.deleted", "combo", "name"),
    "combos test": Change("apikey.created", "apikey", None, only_when_told=True),
    "connections add": Change("provider.credentials.created", "provider.credentials", "connection_id"),
    "connections update": Change("provider.credentials.updated", "provider.credentials", "connection_id"),
    "connections enable": Change("provider.credentials.updated", "provider.credentials", "connection_id"),
    "connections disable": Change("provider.credentials.updated", "provider.credentials", "connection_id"),
    "connections remove": Change("provider.credentials.revoked", "provider.credentials", "connection_id"),
    "guards remove": Change("guard.deleted", "guard", "name"),
    "keys create": Change("apikey.created", "apikey", "name"),
    "keys limit": Change("apikey.updated", "apikey", None, only_when_told=True),
    "keys revoke": Change("apikey.revoked", "apikey", "key"),
    "ledger top-up": Change("ledger.top-ups", "ledger", "account"),
    "ledger rebuild": Change("ledger.rebuilt", "ledger"),
    "models set": Change("model.facts.updated", "model.facts", "model"),
    "models unset": Change("model.facts.deleted", "model.facts", "model"),
    "route notdiamond": Change("profile.engine.updated", "profile.engine", None, only_when_told=True),
    "secrets rotate": Change("secrets.rotated", "secrets"),
    "users create": Change("user.created", "user", "email"),
    "users password": Change("user.updated", "user", "user"),
    "users role": Change("user.updated", "user", "user"),
    "users disable": Change("user.updated", "user", "user"),
    "users enable": Change("user.updated", "user", "user"),
    "users token": Change("user.token", "user", "user"),
}
# Commands that open an installation and change nothing in it, or open none.
READS: Final = frozenset(
    (
        *("aliases list", "audit export", "audit list", "audit verify", "budgets list", "budgets show", "combos list"),
        *("combos show", "connections hosts", "connections list", "connections test", "guards list", "guards test"),
        *("health", "keys list"),
        *("ledger balance", "ledger entries", "ledger reconcile", "ledger unpriced", "ledger verify", "local install"),
        *("local remove", "local status", "logs", "models list", "models show", "models words", "route explain"),
        *("route replay", "route score", "secrets status", "serve", "translate", "users list"),
    )
)


def about(object_id: str, action: str | None = None) -> None:
    """Say what the command that runs has made or found, and that it changes it; ``action``: by another name."""
    running = _running.get()
    if running is not None:
        running.told = (object_id, action)


@asynccontextmanager
async def recorded(trail: "AuditTrail") -> AsyncIterator[None]:
    """Leave a row of what the command that runs does inside, done or refused; none of one that only reads."""
    running = _running.get()
    change = CHANGES.get(running.name) if running is not None else None
    if running is None or change is None:
        yield
        return
    outcome: Outcome = "failed"
    status = 1
    try:
        yield
        outcome, status = "success", 0
    except (Exception, KeyboardInterrupt) as error:
        outcome, status = _outcome(error)
        raise
    finally:
        if running.told is not None or not change.only_when_told:
            await trail.note(_entry(running, change, trail, (outcome, status)))
        running.told = None


def _outcome(error: BaseException) -> "tuple[Outcome, int]":
    from pointsman.errors import ConfigError, GatewayError

    if isinstance(error, typer.Exit):  # done, but a server did not confirm it in time
        return "success", error.exit_code
    if isinstance(error, ConfigError):
        return "refused", 2
    return ("refused" if isinstance(error, GatewayError) and error.status < 500 else "failed"), 1


def _entry(running: Running, change: Change, trail: "AuditTrail", result: "tuple[Outcome, int]") -> "Entry":
    from pointsman.canonical.audit import MOST_FIELDS, Entry

    given, told = running.given, running.told
    named = told[0] if told is not None else str(given.get(change.named_by or "", "") or "")
    return Entry(
        at=trail.now_us(),
        source="cli",
        action=(told[1] if told is not None else None) or change.action,
        outcome=result[0],
        status=result[1],
        object_kind=change.kind,
        object_id=trail.object_name(named, known=told is not None or result[0] == "success") if named else None,
        credential_id=_machine_user(),
        credential_kind="cli",
        fields=tuple(sorted(given))[:MOST_FIELDS],
        digest=trail.digest({name: str(value) for name, value in given.items()}),
    )


# typer carries its own copy of click, whose classes it does not publish: hence Any.
def _is_given(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return name not in _PLACES and source is not None and source.name == "COMMANDLINE"


def _name(context: Any) -> str:
    parts: list[str] = []
    here = context
    while here is not None and here.parent is not None:
        parts.insert(0, here.info_name or "")
        here = here.parent
    return " ".join(parts)


def _machine_user() -> str:
    """Who runs the command on this machine, by the system's word and not the environment's."""
    import pwd

    number = os.getuid()
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return f"({number})"
