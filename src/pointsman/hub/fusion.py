"""Several models answer, a judge makes one answer of theirs: the panel's wait, and what the judge is given.

The panel is asked whole and without tools. The judge's call is an ordinary one of the client, with one more turn in it.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, Request
from pointsman.canonical.response import Response
from pointsman.errors import GatewayError, Kind
from pointsman.hub.own_calls import OwnCall, whole_call
from pointsman.routing.targets import Target

MIN_PANEL: Final = 2
GRACE_MS: Final = 8000
HARD_MS: Final = 90_000
TASK: Final = (
    "Several independent answers to the conversation above follow, numbered. Judge them critically: keep what is right "
    "and useful, settle where they disagree, leave out what is wrong. Then give one complete and authoritative answer "
    "to the user. Do not mention these sources, or that there were several."
)


class Panel(NamedTuple):
    """What a panel said, in its order, and why the others said nothing (by target id)."""

    answers: list[tuple[Target, str]]
    reasons: dict[str, str]


def panel_call(request: Request, model: str) -> OwnCall:
    """The call that each member of the panel gets: whole, one choice, no tools."""
    call = whole_call(request, model)
    call.request.tools, call.request.tool_choice = [], None
    return call


def judge_call(request: Request, call: Any, answers: Sequence[tuple[Target, str]]) -> OwnCall:
    """The client's own call with the panel's answers as a last turn."""
    asked = copy.copy(request)
    sources = "\n\n".join(f"[Source {number}]\n{text}" for number, (_, text) in enumerate(answers, 1))
    turn = Message(role="user", parts=[TextPart(text=f"{TASK}\n\n{sources}")], path="fusion")
    asked.messages = [*request.messages, turn]
    return OwnCall.like(call, asked)


async def gather_panel(
    targets: Sequence[Target],
    ask: Callable[[Target], Awaitable[Response | None]],
    tuning: Mapping[str, Any],
    left: float,
) -> Panel:
    """Ask all at the same time. When enough have answered the others get some grace; who is late is cancelled, as all
    are once the ``left`` seconds of the request are over.
    """
    loop = asyncio.get_running_loop()
    least = max(1, min(len(targets), tuning.get("minPanel") or MIN_PANEL))
    end = loop.time() + min(left, (tuning.get("panelHardTimeoutMs") or HARD_MS) / 1000)
    grace = (GRACE_MS if tuning.get("stragglerGraceMs") is None else tuning["stragglerGraceMs"]) / 1000
    tasks = {asyncio.ensure_future(ask(target)): target for target in targets}
    texts: dict[str, str] = {}
    reasons: dict[str, str] = {}
    pending = set(tasks)
    enough = False
    try:
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=max(0.0, end - loop.time()), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in done:
                _note(task, tasks[task].id, texts, reasons)
            if not enough and len(texts) >= least:
                enough, end = True, min(end, loop.time() + grace)
    finally:
        for task in pending:
            task.cancel()
            reasons[tasks[task].id] = "straggler_dropped" if enough else "timeout"
        await asyncio.gather(*pending, return_exceptions=True)
    answers = [(target, texts[target.id]) for target in targets if target.id in texts]
    return Panel(answers, {target.id: reasons[target.id] for target in targets if target.id in reasons})


def _note(task: "asyncio.Future[Response | None]", name: str, texts: dict[str, str], reasons: dict[str, str]) -> None:
    error = task.exception()
    if isinstance(error, GatewayError):
        reasons[name] = f"status_{error.status}"
    elif error is not None:
        raise error
    else:
        text = text_of(task.result())
        if text:
            texts[name] = text
        else:
            reasons[name] = "empty_content"


def text_of(response: Response | None) -> str:
    """The words of an answer."""
    if response is None:
        return ""
    parts = [part for choice in response.choices for part in choice.parts]
    return "".join(part.text for part in parts if isinstance(part, TextPart)).strip()


def nobody_answered(reasons: Mapping[str, str]) -> GatewayError:
    """The error of a panel without any answer."""
    return GatewayError(Kind.UPSTREAM_ERROR, f"no member of the panel answered: {_named(reasons)}", status=503)


def panel_late(seconds: float, found: Panel) -> GatewayError:
    """The error of a request whose ``seconds`` are over when its panel ends: nobody is left to judge."""
    said = dict.fromkeys((target.id for target, _ in found.answers), "answered") | found.reasons
    named = _named(said) or "nobody"
    return GatewayError(Kind.UPSTREAM_TIMEOUT, f"the request's {seconds:g} s are over; tried: {named}")


def _named(said: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={word}" for name, word in said.items())
