"""Combos made while running: checked, stored, and built for routing together with those of the configuration file."""

import datetime
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.routing.combo_settings import cascaded, check_settings, members
from pointsman.routing.combo_shapes import InvalidFieldsError, check_chain, document_of
from pointsman.routing.combos import REF, Combo, ComboBook, Entry, nesting_problem
from pointsman.settings import ComboSettings
from pointsman.storage.combos import ChainRow, ComboRepository, ComboRow
from pointsman.storage.configuration import TooManyError
from pointsman.storage.database import AlreadyExistsError

DEFAULTS: Final = "comboDefaults"
OVERRIDES: Final = "providerOverrides"
FALLBACK: Final = "globalFallbackModel"
MAX_COMBOS: Final = 1000
MAX_CHAINS: Final = 1000
MAX_MODEL: Final = 300
FILE_PREFIX: Final = "file:"
OF_ATTEMPTS: Final = ("maxRetries", "retryDelayMs")  # a combo of the file has these of ``[attempts]``


class ComboNotFoundError(Exception):
    """There is no such combo."""


class ComboRefusedError(Exception):
    """A combo can't be so; the message says why."""


class ComboService:
    """Adds, changes, lists and removes combos, what holds for all of them, and fallback chains.

    Raises ConfigError when it is made with a combo of the file whose settings are wrong. Whatever changes something
    gives the new configuration revision, or what was stored beside it.
    """

    def __init__(self, repository: ComboRepository, clock: Clock, declared: list[ComboSettings]) -> None:
        self._repository = repository
        self._clock = clock
        self._file = [_from_file(row, place) for place, row in enumerate(declared)]

    async def list_all(self) -> list[dict[str, Any]]:
        """Every combo as it is shown: those of the file first, then the stored ones in their order."""
        return [*self._file, *(_shown(row) for row in await self._repository.list())]

    async def find(self, combo_id: str) -> dict[str, Any]:
        """One combo by id. Raises ComboNotFoundError."""
        for document in self._file:
            if document["id"] == combo_id:
                return document
        return _shown(await self._row(combo_id))

    async def named(self, name: str) -> dict[str, Any]:
        """One combo by name. Raises ComboNotFoundError."""
        found = next((one for one in await self.list_all() if one["name"] == name), None)
        if found is None:
            raise ComboNotFoundError(name)
        return found

    async def create(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Store a new combo; gives it as it is shown, and the revision.

        Raises InvalidFieldsError, ComboRefusedError.
        """
        document = document_of(body)
        rows = await self._repository.list()
        now = self._clock.now_us()
        row = _row_of(str(uuid.uuid4()), document, now, now)
        await self._check(row, rows)
        try:
            revision = await self._repository.add(row, MAX_COMBOS)
        except AlreadyExistsError:
            raise ComboRefusedError("Combo name already exists") from None
        except TooManyError:
            raise ComboRefusedError(f"there are {MAX_COMBOS} combos already") from None
        return await self.find(row.id), revision

    async def change(self, combo_id: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Change what ``body`` names. Raises ComboNotFoundError, InvalidFieldsError, ComboRefusedError."""
        before = await self._row(combo_id)
        document = document_of(body, {"name": before.name, **before.document})
        place = body.get("sortOrder")
        row = _row_of(combo_id, document, before.created_at, self._clock.now_us())
        sound = isinstance(place, int) and not isinstance(place, bool) and 0 <= place < 2**31
        row = msgspec.structs.replace(row, sort_order=place if sound else before.sort_order)
        await self._check(row, await self._repository.list())
        try:
            revision = await self._repository.replace(row)
        except AlreadyExistsError:
            raise ComboRefusedError("Combo name already exists") from None
        if revision is None:
            raise ComboNotFoundError(combo_id)
        return _shown(row), revision

    async def remove(self, combo_id: str) -> int:
        """Delete a combo. Raises ComboNotFoundError, ComboRefusedError for one of the file."""
        await self._row(combo_id)
        revision = await self._repository.remove(combo_id)
        if revision is None:
            raise ComboNotFoundError(combo_id)
        return revision

    async def reorder(self, ids: list[str]) -> int:
        """Put stored combos in this order. Raises ComboNotFoundError."""
        known = {row.id for row in await self._repository.list()}
        for combo_id in ids:
            if combo_id not in known:
                raise ComboNotFoundError(combo_id)
        return await self._repository.reorder(ids)

    async def options(self) -> dict[str, Any]:
        """``comboDefaults``, ``providerOverrides`` and ``globalFallbackModel``."""
        found = await self._repository.options()
        return {DEFAULTS: found.get(DEFAULTS, {}), OVERRIDES: found.get(OVERRIDES, {}), FALLBACK: found.get(FALLBACK)}

    async def set_options(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Change what ``body`` names: members are put over those there are, null takes one away.

        Raises InvalidFieldsError.
        """
        named = {name: body[name] for name in (DEFAULTS, OVERRIDES, FALLBACK) if name in body}
        _check_options(named)
        before = await self.options()
        values: dict[str, Any] = {}
        if DEFAULTS in named:
            values[DEFAULTS] = _over(before[DEFAULTS], named[DEFAULTS] or {})
        if OVERRIDES in named:
            kept = before[OVERRIDES]
            for provider, settings in (named[OVERRIDES] or {}).items():
                kept = {**kept, provider: _over(kept.get(provider, {}), settings or {})}
            values[OVERRIDES] = {provider: settings for provider, settings in kept.items() if settings}
        if FALLBACK in named:
            values[FALLBACK] = named[FALLBACK] or None
        revision = await self._repository.set_options(values)
        return await self.options(), revision

    async def chains(self) -> dict[str, list[dict[str, Any]]]:
        """Every fallback chain, by model."""
        return {row.model: row.chain for row in await self._repository.chains()}

    async def set_chain(self, body: Mapping[str, Any]) -> int:
        """Store a model's chain. Raises InvalidFieldsError, ComboRefusedError."""
        chain = check_chain(body)
        row = ChainRow(model=body["model"], chain=chain, updated_at=self._clock.now_us())
        try:
            return await self._repository.set_chain(row, MAX_CHAINS)
        except TooManyError:
            raise ComboRefusedError(f"there are {MAX_CHAINS} fallback chains already") from None

    async def remove_chain(self, model: str) -> int | None:
        """Delete a model's chain. None: it has none."""
        return await self._repository.remove_chain(model)

    async def book(self) -> ComboBook:
        """What routing needs of all this."""
        options, rows = await self.options(), await self._repository.list()
        taken = {document["name"] for document in self._file}
        combos = [_combo(document, options, stored=False) for document in self._file]
        combos += [_combo({"name": row.name, "id": row.id, **row.document}, options, stored=True)
                   for row in rows if row.name not in taken]  # fmt: skip
        chains = {
            row.model: tuple(link["provider"] for link in row.chain if link["enabled"])
            for row in await self._repository.chains()
        }
        return ComboBook(combos=tuple(combos), chains=chains, fallback=options[FALLBACK])

    async def _row(self, combo_id: str) -> ComboRow:
        if any(document["id"] == combo_id for document in self._file):
            raise ComboRefusedError("this combo is declared in the configuration file; change it there")
        row = await self._repository.find(combo_id)
        if row is None:
            raise ComboNotFoundError(combo_id)
        return row

    async def _check(self, row: ComboRow, rows: tuple[ComboRow, ...]) -> None:
        """What only all combos together show: a name that is taken, and nesting."""
        others = [*self._file, *({"name": one.name, **one.document} for one in rows if one.id != row.id)]
        if any(other["name"] == row.name for other in others):
            raise ComboRefusedError("Combo name already exists")
        options = await self.options()
        documents = [*others, {"name": row.name, **row.document}]
        problem = nesting_problem([_combo(document, options, stored=True) for document in documents])
        if problem is not None:
            raise ComboRefusedError(problem)


def _check_options(named: Mapping[str, Any]) -> None:
    if not named:
        raise InvalidFieldsError([(DEFAULTS, f"or {OVERRIDES} must be given")])
    faults = []
    if named.get(DEFAULTS) is not None:
        faults += list(check_settings(DEFAULTS, named[DEFAULTS]))
    if named.get(OVERRIDES) is not None:
        wrong = list(members()(OVERRIDES, named[OVERRIDES]))
        faults += wrong
        for provider, settings in named[OVERRIDES].items() if not wrong else ():
            faults += list(check_settings(f"{OVERRIDES}.{provider[:100]}", {} if settings is None else settings))
    model = named.get(FALLBACK)
    if model is not None and (not isinstance(model, str) or len(model) > MAX_MODEL):
        faults.append((FALLBACK, f"must be a text of 0 to {MAX_MODEL} characters"))
    if faults:
        raise InvalidFieldsError(faults)


def _over(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**before, **given}.items() if value is not None}


def _row_of(combo_id: str, document: dict[str, Any], created: int, updated: int) -> ComboRow:
    kept = {name: value for name, value in document.items() if name != "name"}
    return ComboRow(
        id=combo_id, name=document["name"], document=kept, sort_order=0, created_at=created, updated_at=updated
    )


def _shown(row: ComboRow) -> dict[str, Any]:
    """A stored combo in both shapes: ``models`` with ``config``, and ``model`` with ``nodes``."""
    document = {"id": row.id, "name": row.name, **row.document}
    return {
        **document,
        **_spec_shape(document["models"]),
        "sortOrder": row.sort_order,
        "createdAt": _instant(row.created_at),
        "updatedAt": _instant(row.updated_at),
        "source": "database",
    }


def _spec_shape(entries: list[dict[str, Any]]) -> dict[str, Any]:
    model = next((entry["model"] for entry in entries if entry.get("model") is not None), None)
    nodes = [
        {"connectionId": entry["connectionId"], "weight": entry["weight"], "priority": place}
        for place, entry in enumerate(entries, 1)
        if entry.get("connectionId") is not None
    ]
    return {"model": model, "nodes": nodes}


def _instant(micros: int) -> str:
    found = datetime.datetime.fromtimestamp(micros / 1e6, tz=datetime.UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_file(row: ComboSettings, place: int) -> dict[str, Any]:
    faults = list(check_settings("settings", row.settings))
    if faults:
        field, message = faults[0]
        raise ConfigError(f"combos[{place}].{field}: {message}")
    weights = row.weights or [0.0] * len(row.targets)
    entries = [
        {"kind": "model", "id": f"step-{place}", "model": target, "weight": weight}
        for place, (target, weight) in enumerate(zip(row.targets, weights, strict=True), 1)
    ]
    return {
        "id": FILE_PREFIX + row.name,
        "name": row.name,
        "models": entries,
        "strategy": row.strategy,
        "config": row.settings,
        **_spec_shape(entries),
        "sortOrder": 0,
        "createdAt": None,
        "updatedAt": None,
        "source": "file",
    }


def _combo(document: Mapping[str, Any], options: Mapping[str, Any], *, stored: bool) -> Combo:
    """A combo for routing, its settings brought down the cascade."""
    entries = tuple(_entry(item) for item in document["models"])
    defaults, config = options[DEFAULTS], document.get("config", {})
    overrides = {name: cascaded(defaults, given, config) for name, given in options[OVERRIDES].items()}
    vendors = {entry.provider or entry.target.partition("/")[0] for entry in entries}
    only = next(iter(vendors)) if len(vendors) == 1 else None
    settings = overrides.get(only) if only is not None else None
    pinned = bool(document.get("context_cache_protection"))
    settings = dict(cascaded(defaults, config) if settings is None else settings)
    given = frozenset({**defaults, **config})
    if not stored:  # what nobody has said of retries is as for any other model
        overrides = {
            name: _without_defaults(one, {*given, *options[OVERRIDES][name]}) for name, one in overrides.items()
        }
        settings = _without_defaults(settings, {*given, *(options[OVERRIDES].get(only) or {})})
    if pinned:
        settings["disableSessionStickiness"] = False
    allowed = document.get("allowedProviders")
    return Combo(
        name=document["name"],
        entries=entries,
        strategy=document["strategy"],
        settings=settings,
        overrides=overrides,
        set_here=given,
        id=document.get("id", ""),
        allowed_providers=frozenset(allowed) if allowed else None,
        system_message=document.get("system_message") or None,
        tool_filter=document.get("tool_filter_regex") or None,
        pinned=pinned,
        context_length=document.get("context_length"),
        stored=stored,
    )


def _without_defaults(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in given or name not in OF_ATTEMPTS}


def _entry(item: Mapping[str, Any]) -> Entry:
    if item["kind"] == "combo-ref":
        return Entry(target=REF + item["comboName"], weight=item["weight"], id=item["id"])
    return Entry(
        target=item["model"],
        weight=item["weight"],
        id=item["id"],
        connection=item.get("connectionId"),
        provider=item.get("provider") or item.get("providerId"),
    )
