"""NotDiamond as the engine that chooses among a profile's candidates, within a deadline; else the local order stands.

A call that fails or comes late costs its request the deadline and nothing more. After some failures in a row it is
left alone for a while, so that a service that is down does not slow every request.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, Request
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.profile_settings import StoredEngine
from pointsman.routing.plan import Problem
from pointsman.routing.targets import Target
from pointsman.runner import in_task
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.json_posts import JsonPost
from pointsman.wire.notdiamond import OPENROUTER, PATH, Candidate, Selected, Selecting

TRADEOFF: Final = {"cheap": 10, "medium": 5, "premium": 0}  # cost against quality, by budget
MOST_CANDIDATES: Final = 12
MOST_MESSAGES: Final = 20
MOST_CHARACTERS: Final = 16_000  # of a message: its two ends say what it is about
FAILURES: Final = 3  # in a row, until it is left alone
REST_SECONDS: Final = 30.0
MAX_WORD: Final = 128  # characters of its own names for a session and a request
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Selected).decode
log = structlog.get_logger("pointsman.profiles")


class Picked(msgspec.Struct, frozen=True, kw_only=True):
    """``targets`` are the ids of those that serve the chosen model."""

    targets: tuple[str, ...]
    session: str | None = None
    request_id: str | None = None


class NotDiamond:
    """Asks the service. Nothing of a request goes there that wants its provider to keep nothing."""

    NAME: Final = "notdiamond"

    def __init__(self, client: UpstreamClient, clock: Clock, settings: StoredEngine, secret: Secret) -> None:
        url = Secret(settings.base_url)
        self._post = JsonPost("NotDiamond", client, url, secret, allow_private=settings.allow_private)
        self._clock = clock
        self._settings = settings
        self._failures = 0
        self._resting_until = 0.0

    def asks(self, problem: Problem) -> bool:
        """Whether a request's candidates may be told to it now."""
        judged, preferences, bounds = problem.wants.judged, problem.wants.preferences, problem.wants.bounds
        if judged is None or preferences.zdr or preferences.deny_data_collection:
            return False
        if bounds is not None and (bounds.zdr or bounds.untrained):
            return False
        return self._clock.monotonic() >= self._resting_until

    async def choose(
        self, request: Request, problem: Problem, order: Sequence[Target], session: str | None
    ) -> Picked | None:
        """Its choice among the first of ``order``; None when there is none, for whatever reason. Never raises."""
        judged = problem.wants.judged
        named = _named(order)
        if judged is None or len(named) < 2:
            return None
        body = _encode(
            Selecting(
                llm_providers=[_candidate(slug, targets[0], problem) for slug, targets in named.items()],
                messages=_messages(request.messages),
                type=OPENROUTER,
                cost_quality_tradeoff=TRADEOFF.get(judged.budget),
                hash_content=self._settings.hash_content,
                preference_id=self._settings.preference_id,
                previous_session=session,
            )
        )
        await in_task()
        try:
            selected, request_id = await self._ask(body)
        except (GatewayError, _UnfitError) as error:
            self._failed(error)
            return None
        self._failures = 0
        for choice in selected.providers:
            targets = named.get(choice.model.lower()) or named.get(f"{choice.provider}/{choice.model}".lower())
            if targets is not None:
                ids = tuple(target.id for target in targets)
                return Picked(targets=ids, session=_word(selected.session_id), request_id=_word(request_id))
        return None

    async def _ask(self, body: bytes) -> tuple[Selected, str | None]:
        answer = await self._post.ask(body, self._settings.timeout_ms / 1000, PATH)
        if answer.status != 200:
            raise _UnfitError(f"status {answer.status}")
        try:
            selected = _decode(answer.body)
        except msgspec.DecodeError:
            raise _UnfitError("an answer that can't be read") from None
        request_id = answer.headers.get(b"x-request-id")
        return selected, request_id.decode("latin-1") if request_id is not None else None

    def _failed(self, error: "GatewayError | _UnfitError") -> None:
        """Count a failure; what the service said is not repeated, it could hold what it was told."""
        self._failures += 1
        if isinstance(error, GatewayError):
            reason = "too late" if error.kind is Kind.UPSTREAM_TIMEOUT else "not reached"
        else:
            reason = str(error)
        if self._failures >= FAILURES:
            self._failures = 0
            self._resting_until = self._clock.monotonic() + REST_SECONDS
            log.warning("NotDiamond is left alone for a while", reason=reason, seconds=REST_SECONDS)
        else:
            log.info("NotDiamond gave no choice", reason=reason)


class _UnfitError(Exception):
    """The service answered something else than a choice."""


def _named(order: Sequence[Target]) -> dict[str, list[Target]]:
    """Targets by ``author/name``, the first MOST_CANDIDATES models."""
    found: dict[str, list[Target]] = {}
    for target in order:
        slug = target.facts.slug
        if slug is not None and (slug in found or len(found) < MOST_CANDIDATES):
            found.setdefault(slug.lower(), []).append(target)
    return found


def _candidate(slug: str, target: Target, problem: Problem) -> Candidate:
    price, condition = target.facts.price, problem.conditions.get(target.id)
    return Candidate(
        model=slug,
        context_length=target.facts.context_tokens,
        input_price=price.prompt / 1e6 if price is not None else None,
        output_price=price.completion / 1e6 if price is not None else None,
        latency=condition.latency if condition is not None else None,
    )


def _messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The last messages that have words, as OpenAI's API has them; of long ones the two ends."""
    found = []
    for message in reversed(messages):
        text = "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
        if len(text) > MOST_CHARACTERS:
            text = text[: MOST_CHARACTERS // 2] + "\n...\n" + text[-MOST_CHARACTERS // 2 :]
        if text:
            found.append({"role": "system" if message.role == "developer" else message.role, "content": text})
        if len(found) == MOST_MESSAGES:
            break
    return found[::-1]


def _word(text: str | None) -> str | None:
    """Its name for something, fit for a header."""
    if text is None:
        return None
    return "".join(letter if "!" <= letter <= "~" else "?" for letter in text[:MAX_WORD]) or None
