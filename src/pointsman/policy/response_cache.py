"""Answers for requests that come again: in memory, within bounds, and sealed in the database for all workers and nodes.

An entry says when it was made. Clearing says since when entries count, for all, a model, or one entry; so that what is
cleared is cleared everywhere at once, in every memory, whoever holds it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from pointsman.cache_settings import CacheSettings
from pointsman.canonical.parts import ReasoningPart, TextPart
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.clock import Clock
from pointsman.policy.cache_names import CacheName
from pointsman.policy.opaque_state import Kept
from pointsman.policy.semantic_cache import Meanings

PURPOSE: Final = "cached-answer"  # of the keys that seal and name (state_store.py)
OVERHEAD_BYTES: Final = 512  # of an entry in memory, beside its bytes
ALL: Final = ""  # the scope of a clearing of everything
_KINDS: Final[dict[str, Any]] = {"text": TextPart, "reasoning": ReasoningPart}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}
_WHOLE: Final = frozenset((FinishReason.STOP, FinishReason.STOP_SEQUENCE))

Cleared = Mapping[str, int]  # since when (us) the entries of a scope count


class Store(Protocol):
    """Where entries are shared and outlive the process (policy/state_store.py)."""

    def put(self, workspace_id: str, key: bytes, data: bytes, seconds: float | None = None) -> None: ...
    async def find(self, workspace_id: str, keys: list[bytes]) -> Mapping[bytes, Kept] | None: ...


class CachedChoice(msgspec.Struct, frozen=True, array_like=True):
    """A choice as it is kept; each part with its kind."""

    index: int
    parts: list[tuple[str, dict[str, Any]]]
    finish_reason: FinishReason | None
    native_finish_reason: str | None
    stop_sequence: str | None
    logprobs: list[TokenLogprob] | None
    extra: dict[str, Any] | None

    def choice(self) -> Choice:
        """The choice in our words."""
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name != "parts"}
        return Choice(**told, parts=[msgspec.convert(value, _KINDS[kind]) for kind, value in self.parts])


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept. ``made_at`` in us; ``source_id`` is the request that it was first given to,
    ``connection_id`` who gave it; ``seconds``: for how long it was to be kept.
    """

    made_at: int
    source_id: str
    connection_id: str | None
    seconds: int
    wire: str
    model: str | None
    service_tier: str | None
    choices: list[CachedChoice]
    extra: dict[str, Any]

    def response(self) -> Response:
        """The answer in our words, with no id, time and usage of its own."""
        choices = [choice.choice() for choice in self.choices]
        return Response(
            wire=self.wire, model=self.model, choices=choices, service_tier=self.service_tier, extra=dict(self.extra)
        )


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and for how many seconds from now it is kept."""

    answer: CachedAnswer
    seconds: float


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(CachedAnswer).decode


def cached_answer(
    response: Response, made_at: int, source_id: str, connection_id: str | None, seconds: int
) -> CachedAnswer | None:
    """What is kept of an answer; None for one that must not be: cut short, filtered, with calls of tools or without
    text. An answer with a call has effects when its reader obeys it, and they must not be repeated unasked.
    """
    if not response.choices or not all(_is_whole(choice) for choice in response.choices):
        return None
    choices = [_kept(choice) for choice in response.choices]
    tier = response.service_tier
    return CachedAnswer(
        made_at, source_id, connection_id, seconds, response.wire, response.model, tier, choices, response.extra
    )


def _kept(choice: Choice) -> CachedChoice:
    told = {name: getattr(choice, name) for name in CachedChoice.__struct_fields__ if name != "parts"}
    return CachedChoice(**told, parts=[(_NAMES[type(part)], msgspec.to_builtins(part)) for part in choice.parts])


def _is_whole(choice: Choice) -> bool:
    said = any(isinstance(part, TextPart) and part.text for part in choice.parts)
    return choice.finish_reason in _WHOLE and said and all(type(part) in _NAMES for part in choice.parts)


class _Held(msgspec.Struct, frozen=True, array_like=True):
    data: bytes
    until: float  # by the monotonic clock: asked for anew in the database from then on
    ends: float  # its own end


class ResponseCache:
    """The cache of one process. ``counts`` are what happened here; the records tell of all processes."""

    def __init__(self, settings: CacheSettings, clock: Clock, secret: bytes, store: Store | None) -> None:
        """``secret`` hides what names are made of. ``store``: None keeps answers in this process alone."""
        self.settings = settings
        self.always = settings.mode == "on"
        self.secret = secret
        self.cleared: Cleared = {}
        self.bytes = 0
        self.counts: Final = {"hit": 0, "semantic": 0, "miss": 0, "kept": 0, "unfit": 0, "evicted": 0}
        semantic = settings.semantic
        self.meanings = Meanings(clock, semantic.threshold, semantic.max_questions)
        self._clock = clock
        self._store = store
        self._held: OrderedDict[tuple[str, bytes], _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    async def find(self, name: CacheName) -> Found | None:
        """The answer of this name. A database that does not answer within its bound has none."""
        place, now = (name.space, name.key), self._clock.monotonic()
        held = self._held.get(place)
        if held is not None and held.until > now:
            self._held.move_to_end(place)
            return self._read(name, held.data, held.ends - now)
        self._drop(place)
        if self._store is None:
            return None
        kept = (await self._store.find(name.space, [name.key]) or {}).get(name.key)
        if kept is None:
            return None
        found = self._read(name, kept.data, kept.seconds)
        if found is not None:
            self._hold(place, kept.data, kept.seconds)
        return found

    def _read(self, name: CacheName, data: bytes, seconds: float) -> Found | None:
        try:
            answer = _decode(data)
        except msgspec.DecodeError:  # of another version
            return None
        scopes = (ALL, f"model:{name.model}", f"entry:{name.signature}")
        if seconds <= 0 or any(answer.made_at <= self.cleared.get(scope, 0) for scope in scopes):
            return None
        return Found(answer=answer, seconds=seconds)

    def keep(self, name: CacheName, answer: CachedAnswer) -> bool:
        """Keep an answer in place of one of its name. Never waits; False when it is too large."""
        data = _encode(answer)
        if len(data) > self.settings.max_entry_bytes:
            self.counts["unfit"] += 1
            return False
        self._hold((name.space, name.key), data, answer.seconds)
        if self._store is not None:
            self._store.put(name.space, name.key, data, answer.seconds)
        self.counts["kept"] += 1
        return True

    def _hold(self, place: tuple[str, bytes], data: bytes, seconds: float) -> None:
        self._drop(place)
        now = self._clock.monotonic()
        # Another process may replace it in the database: what memory has is believed for a while only.
        believed = seconds if self._store is None else min(seconds, self.settings.memory_seconds)
        self._held[place] = _Held(data, now + believed, now + seconds)
        self.bytes += len(data) + OVERHEAD_BYTES
        while self.bytes > self.settings.memory_bytes and self._held:
            self._drop(next(iter(self._held)))
            self.counts["evicted"] += 1

    def _drop(self, place: tuple[str, bytes]) -> None:
        held = self._held.pop(place, None)
        if held is not None:
            self.bytes -= len(held.data) + OVERHEAD_BYTES

    def restart_counts(self) -> None:
        """Count from zero again."""
        self.counts.update(dict.fromkeys(self.counts, 0))

    def forget(self) -> int:
        """Empty this process' memory; gives how many entries it had."""
        count = len(self._held)
        self._held.clear()
        self.meanings.forget()
        self.bytes = 0
        return count
