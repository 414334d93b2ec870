"""Guards on content made while running: checked, stored, and tried on a text.

The configuration file's stand beside them, and can't be changed here. A stored guard of a name that the file has is not
in effect. Secrets of webhooks are sealed with the master key, and never shown again.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.guard_settings import GuardRuleSettings, GuardSettings
from pointsman.keyring import MasterKey, Secret
from pointsman.settings import Environment
from pointsman.storage.configuration import TooManyError
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.guards import GuardRepository, GuardRow
from pointsman.wire.json_faults import describe

if TYPE_CHECKING:
    from pointsman.guards.guard import Trial

MAX_GUARDS: Final = 1000
MAX_SECRET: Final = 1000  # characters
MAX_TEXT: Final = 100_000  # characters of a text that guards are tried on
RESERVED: Final = "guardrail-"  # how the names of guards begin that are made of OpenRouter's guardrails
PURPOSE: Final = "guards"  # of the key that seals
_secrets: Final = msgspec.json.Decoder(dict[str, str])


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A guard as it is shown: its members without secrets, and where it comes from. Instants in us."""

    settings: GuardSettings
    source: str  # "file" or "stored"
    in_effect: bool = True
    created_at: int | None = None
    updated_at: int | None = None


class GuardService:
    """Lists, makes, changes, removes and tries guards (a `GuardSource`, guard_parts.py)."""

    def __init__(
        self,
        repository: GuardRepository,
        master: MasterKey,
        clock: Clock,
        declared: Sequence[GuardSettings],
        environment: Environment,
    ) -> None:
        """``declared`` are the configuration file's, whose webhooks' secrets stand in ``environment``."""
        self._repository = repository
        self._master = master
        self._clock = clock
        self._declared = {one.name: one for one in declared}
        self._environment = environment

    async def guards(self) -> Sequence[GuardSettings]:
        """All in effect, with the secrets of their webhooks. Raises StorageError, ConfigError."""
        stored = [self._opened(row) for row in await self._repository.list() if row.name not in self._declared]
        return [*_resolved(self._declared.values(), self._environment), *stored]

    async def list(self) -> Sequence[Shown]:
        """All, by name; the file's first where there are two. Raises StorageError, ConfigError."""
        shown = [Shown(settings=one, source="file") for one in self._declared.values()]
        shown += [self._shown(row) for row in await self._repository.list()]
        return sorted(shown, key=lambda one: (one.settings.name, one.source))

    async def find(self, name: str) -> Shown:
        """One guard, the file's before a stored one. Raises GatewayError(NOT_FOUND)."""
        for one in await self.list():
            if one.settings.name == name:
                return one
        raise _missing(name)

    async def create(self, body: Mapping[str, Any]) -> tuple[Shown, int]:
        """Store a new guard; gives it and the configuration revision.

        Raises GatewayError: INVALID_REQUEST that names the field at fault, with status 409 for a name that is taken.
        """
        guard, secrets = await asyncio.to_thread(checked, body, {})  # many patterns take a while to compile
        now = self._clock.now_us()
        row = self._row(guard, secrets, now, now)
        try:
            if guard.name in self._declared:
                raise AlreadyExistsError
            return self._shown(row), await self._repository.add(row, MAX_GUARDS)
        except AlreadyExistsError:
            raise _conflict(f"there is a guard '{guard.name}' already") from None
        except TooManyError:
            raise _invalid("name", f"there are {MAX_GUARDS} guards already") from None

    async def change(self, name: str, changes: Mapping[str, Any]) -> tuple[Shown, int]:
        """Replace some members of a stored guard. A webhook that is given without a secret keeps the one that the rule
        of its name has.

        Raises GatewayError: NOT_FOUND, INVALID_REQUEST that names the field at fault, with status 409 for a guard of
        the file, or one that somebody else has changed meanwhile.
        """
        before = await self._stored(name)
        if changes.get("name", name) != name:
            raise _invalid("name", "can't be changed")
        known = self._secrets_of(before)
        guard, secrets = await asyncio.to_thread(checked, {**before.document, **changes}, known)
        row = self._row(guard, secrets, before.created_at, max(self._clock.now_us(), before.updated_at + 1))
        revision = await self._repository.replace(row, before.updated_at)
        if revision is None:
            raise _conflict("the guard was changed meanwhile: look at it again")
        return self._shown(row), revision

    async def remove(self, name: str) -> int:
        """Delete a stored guard; gives the configuration revision. Raises GatewayError: NOT_FOUND, or status 409."""
        await self._stored(name)
        revision = await self._repository.remove(name)
        if revision is None:
            raise _missing(name)
        return revision

    async def named(self, names: Sequence[str] | None) -> Sequence[GuardSettings]:
        """The guards in effect of these names; all for None. Raises GatewayError(INVALID_REQUEST)."""
        known = {one.settings.name: one.settings for one in await self.list() if one.in_effect}
        if names is None:
            return tuple(known.values())
        missing = next((name for name in names if name not in known), None)
        if missing is not None:
            raise _invalid("guards", f"there is no guard '{missing[:64]}'")
        return [known[name] for name in names]

    async def _stored(self, name: str) -> GuardRow:
        if name in self._declared:
            raise _conflict(f"the guard '{name}' is declared in the configuration file: change or remove it there")
        for row in await self._repository.list():
            if row.name == name:
                return row
        raise _missing(name)

    def _row(self, guard: GuardSettings, secrets: Mapping[str, str], created_at: int, updated_at: int) -> GuardRow:
        sealed = None
        if secrets:
            sealed = self._master.seal_bytes(PURPOSE, guard.name, msgspec.json.encode(secrets))
        document = msgspec.to_builtins(guard)
        for rule in document["rules"]:
            del rule["secret"]
        return GuardRow(
            name=guard.name, document=document, sealed_secrets=sealed, created_at=created_at, updated_at=updated_at
        )

    def _secrets_of(self, row: GuardRow) -> dict[str, str]:
        if row.sealed_secrets is None:
            return {}
        return _secrets.decode(self._master.open_bytes(PURPOSE, row.name, row.sealed_secrets))

    def _opened(self, row: GuardRow) -> GuardSettings:
        guard, secrets = _read(row), self._secrets_of(row)
        rules = [
            msgspec.structs.replace(rule, secret=Secret(secrets[rule.name])) if rule.name in secrets else rule
            for rule in guard.rules
        ]
        return msgspec.structs.replace(guard, rules=rules)

    def _shown(self, row: GuardRow) -> Shown:
        return Shown(
            settings=self._opened(row),
            source="stored",
            in_effect=row.name not in self._declared,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


def _resolved(guards: Iterable[GuardSettings], environment: Environment) -> list[GuardSettings]:
    """The configuration file's guards with the secrets that it refers to. Raises ConfigError."""

    def secret(name: str, rule: GuardRuleSettings) -> Secret | None:
        return environment.resolve(rule.secret, f"guards: {name}: secret") if rule.secret is not None else None

    return [
        msgspec.structs.replace(
            one,
            rules=[msgspec.structs.replace(rule, secret=secret(f"{one.name}.{rule.name}", rule)) for rule in one.rules],
        )
        for one in guards
    ]


def _read(row: GuardRow) -> GuardSettings:
    try:
        return msgspec.convert(row.document, GuardSettings)
    except msgspec.ValidationError as error:  # another version's: nobody may go unguarded for that
        raise ConfigError(f"the stored guard '{row.name}' can't be read: {error}") from None


def checked(body: Mapping[str, Any], known: Mapping[str, str]) -> tuple[GuardSettings, dict[str, str]]:
    """The guard that a body describes, and the secrets of its webhooks by rule; ``known`` are those that they had.

    Raises GatewayError(INVALID_REQUEST) that names the field at fault.
    """
    unknown = next((name for name in body if name not in GuardSettings.__struct_fields__), None)
    if unknown is not None:
        raise _invalid(unknown[:100], "is not known here")
    secrets: dict[str, str] = {}
    rules = body.get("rules")
    if isinstance(rules, list):
        rules = [_without_secret(rule, number, secrets, known) for number, rule in enumerate(rules)]
    guard = _settings({**body, "rules": rules})
    if guard.name.startswith(RESERVED):
        raise _invalid("name", f"must not begin with '{RESERVED}'")
    return guard, secrets


def _settings(body: Mapping[str, Any]) -> GuardSettings:
    from pointsman.policy.guard_rules import check_guard  # the patterns of all kinds of rules

    try:
        guard = msgspec.convert(body, GuardSettings)
    except msgspec.ValidationError as error:
        raise describe(error, b"") from None
    try:
        check_guard(guard, "guard")
    except ConfigError as error:
        place, _, message = str(error).partition(": ")
        raise _invalid(place.removeprefix("guard."), message) from None
    return guard


def _without_secret(rule: Any, number: int, secrets: dict[str, str], known: Mapping[str, str]) -> Any:
    """A rule as it is stored; its secret goes to ``secrets``. What is written over an API is not trusted to mean
    private addresses unless it says so, nor to read this machine's files and environment.
    """
    if not isinstance(rule, dict) or rule.get("kind") != "webhook":
        return rule
    rule = {"allow_private": False, **rule}
    name = rule.get("name")
    if not isinstance(name, str):
        return rule  # refused with its place
    secret = rule.pop("secret", known.get(name))
    if secret is None:
        return rule
    if not isinstance(secret, str) or not 0 < len(secret) <= MAX_SECRET or secret.startswith(("env:", "file:")):
        raise _invalid(f"rules[{number}].secret", f"must be the secret itself, 1 to {MAX_SECRET} characters")
    secrets[name] = secret
    return rule


def try_on(guards: Sequence[GuardSettings], text: str, role: str | None) -> "Trial":
    """What the rules of ``guards`` would do with a text of a request, by who says it, or (None) of an answer. Webhooks
    are not asked, and nothing is kept. Raises GatewayError(INVALID_REQUEST) for a text that is too long, ConfigError.
    """
    from pointsman.guards.guard import Guard
    from pointsman.policy.guard_rules import make_rules

    if len(text) > MAX_TEXT:
        raise _invalid("text", f"must have at most {MAX_TEXT} characters")
    return Guard([rule for one in guards for rule in make_rules(one)]).tried(text, role)


def webhooks_of(guards: Sequence[GuardSettings], role: str | None) -> list[str]:
    """The whole names of the webhooks that would be asked about a request, or (None) an answer."""
    aside = "request" if role is None else "answer"
    return [
        f"{one.name}.{rule.name}" for one in guards for rule in one.rules
        if rule.kind == "webhook" and rule.where != aside
    ]  # fmt: skip


def described(shown: Shown) -> dict[str, Any]:
    """A guard for people and programs; of secrets only whether there is one."""
    guard = shown.settings
    out = {name: getattr(guard, name) for name in guard.__struct_fields__}
    out["rules"] = [_rule(rule) for rule in guard.rules]
    out |= {"source": shown.source, "in_effect": shown.in_effect}
    for name in ("created_at", "updated_at"):
        at = getattr(shown, name)
        out[name] = at // 1_000_000 if at is not None else None
    return out


def _rule(rule: GuardRuleSettings) -> dict[str, Any]:
    """The members of a rule that say something."""
    bare = msgspec.structs.replace(rule, secret=None)
    default = GuardRuleSettings(name="", kind=rule.kind)
    out = {
        name: value
        for name in bare.__struct_fields__
        if (value := getattr(bare, name)) != getattr(default, name) or name in ("name", "kind", "action", "where")
    }
    if rule.kind == "webhook":
        out |= {"has_secret": rule.secret is not None, "allow_private": rule.allow_private}
    return out


def _invalid(field: str, message: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"'{field}' {message}", param=field)


def _conflict(message: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, message, param="name", status=409)


def _missing(name: str) -> GatewayError:
    return GatewayError(Kind.NOT_FOUND, f"there is no guard '{name[:64]}'", param="name")
