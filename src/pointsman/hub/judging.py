"""Webhooks that judge a request before it goes out, and its answer before the client gets any of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.errors import GuardBlocked, Unjudged
from pointsman.guards.guard import Report
from pointsman.guards.places import Change, in_json, in_request, in_response
from pointsman.runner import in_task
from pointsman.upstream.guard_hook import GuardHook, HookFailed, Judgement

RETRY_SECONDS = 5.0
Visit = Callable[[Callable[[str], Change]], Any]  # has every text of something pass what it is given, by role


class Judges:
    """The webhooks of one request. ``failed`` counts those that gave no judgement, by rule."""

    __slots__ = ("_answers", "_failed", "_request_id", "_requests")

    def __init__(self, hooks: tuple[GuardHook, ...], failed: Counter[str], request_id: str) -> None:
        self._requests = tuple(hook for hook in hooks if hook.requests)
        self._answers = tuple(hook for hook in hooks if hook.answers)
        self._failed = failed
        self._request_id = request_id

    @property
    def sees_answers(self) -> bool:
        """Whether an answer has to be whole before its client gets any of it."""
        return bool(self._answers)

    async def of_request(self, request: Request, report: Report) -> Request:
        """The request as they leave it; the same object where none has changed it. Raises GuardBlocked, Unjudged."""
        for hook in self._requests:
            judgement = await self._ask(hook, "request", request.model, partial(in_request, request))
            if judgement is not None and _weigh(hook, judgement, report, "request"):
                request = in_request(request, _writer(judgement))
        return request

    async def of_json(self, value: Any, model: str, report: Report) -> Any:
        """A body that we have no words for, as `of_request`."""
        for hook in self._requests:
            judgement = await self._ask(hook, "request", model, partial(_in_json, value))
            if judgement is not None and _weigh(hook, judgement, report, "request"):
                value = _in_json(value, _writer(judgement))
        return value

    async def of_answer(self, response: Response, model: str, report: Report) -> None:
        """Have an answer judged, which may change it where it stands. Raises GuardBlocked, Unjudged."""

        def visit(change_for: Callable[[str], Change]) -> None:
            in_response(response, change_for("assistant"))

        for hook in self._answers:
            judgement = await self._ask(hook, "answer", model, visit)
            if judgement is not None and _weigh(hook, judgement, report, "answer"):
                visit(_writer(judgement))

    async def _ask(self, hook: GuardHook, what: str, model: str, visit: Visit) -> Judgement | None:
        """None: it gave no judgement, and need not."""
        await in_task()
        texts = _texts(visit)
        try:
            return await hook.judge((what, self._request_id), model, texts)
        except HookFailed as failed:
            self._failed[hook.name] += 1
            if not hook.closed:
                return None
            raise Unjudged(f"the guard '{hook.name}' could not be asked: {failed}", RETRY_SECONDS) from None


def _weigh(hook: GuardHook, judgement: Judgement, report: Report, what: str) -> bool:
    """Whether there are other texts to write. Raises GuardBlocked."""
    if judgement.action != "allow":
        report.note(hook.name, judgement.action)
    if judgement.action == "block":
        raise GuardBlocked([hook.name], what)
    return judgement.action == "redact"


def _in_json(value: Any, change_for: Callable[[str], Change]) -> Any:
    return in_json(value, change_for("user"))


def _texts(visit: Visit) -> list[dict[str, str]]:
    """Every text, with its role, in their order."""
    texts: list[dict[str, str]] = []

    def reading(role: str) -> Change:
        def read(text: str) -> str:
            texts.append({"role": role, "text": text})
            return text

        return read

    visit(reading)
    return texts


def _writer(judgement: Judgement) -> Callable[[str], Change]:
    """Writes the judgement's texts, in the order in which they were read."""
    given: Iterator[str] = iter(judgement.texts or ())

    def writing(role: str) -> Change:
        def write(text: str) -> str:
            new = next(given)
            return text if new == text else new

        return write

    return writing
