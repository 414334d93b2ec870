"""What an upstream's API has no way to say, brought about around it: several choices, answers bound to JSON.

An answer bound to a schema is asked for in words, then checked. A wrong one is sent back once, with what is wrong about
it; if it is still wrong the client gets an error, never an answer that only looks right.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, OutputFormat, Request
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind

Ask = Callable[[Request], Awaitable[Response]]
MAX_LOOPED: Final = 16  # choices that are made by as many calls
_FENCE: Final = "```"
_decode: Final = msgspec.json.Decoder().decode


def missing(request: Request, lacks: frozenset[str]) -> frozenset[str]:
    """What the request wants of that which the upstream's API lacks and this module can bring about."""
    wanted = set()
    if request.choices is not None and request.choices > 1:
        wanted.add("choices")
    if request.output_format is not None and request.output_format.kind in ("json_schema", "json_object"):
        wanted.add(request.output_format.kind)
    return frozenset(wanted & lacks)


def calls_needed(request: Request, wanted: frozenset[str]) -> int:
    """How many calls `emulate` makes, beside those for answers that have to be corrected.

    Raises GatewayError(UNSUPPORTED) for more than it would make.
    """
    count = (request.choices or 1) if "choices" in wanted else 1
    if count > MAX_LOOPED:
        raise GatewayError(
            Kind.UNSUPPORTED,
            f"'{request.path('choices')}' is more than {MAX_LOOPED}, the most that is made up by several calls",
            param=request.path("choices"),
        )
    return count


async def emulate(
    request: Request, wanted: frozenset[str], ask: Ask, fidelity: Fidelity, *, object_mode: bool = False
) -> Response:
    """The answer, by as many calls of ``ask`` as it takes; its usage is the sum of all.

    ``wanted`` is what has to be brought about (`missing`). ``object_mode``: the upstream can be bound to give an
    object, though not one that satisfies a schema.

    Raises GatewayError: INVALID_REQUEST for a schema that is none, UPSTREAM_ERROR when the model does not keep to it.
    """
    one = copy.copy(request)
    one.stream = False
    if "choices" in wanted:
        count = calls_needed(request, wanted)
        one.choices = None
        fidelity.mapped(request.path("choices"), f"{count} calls")
        return merged(await _all(_bound(one, wanted, ask, fidelity, object_mode) for _ in range(count)))
    return await _bound(one, wanted, ask, fidelity, object_mode)


async def _all(calls: Iterable[Coroutine[Any, Any, Response]]) -> list[Response]:
    """The answers of all calls. When one fails the others are waited for: they cost, and what they cost is counted."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Response)]


async def _bound(request: Request, wanted: frozenset[str], ask: Ask, fidelity: Fidelity, object_mode: bool) -> Response:
    """One answer, bound to JSON where that is wanted."""
    form = request.output_format
    if form is None or form.kind not in wanted:
        return await ask(request)
    check = _checker(form, request.path("output_format"))
    told = copy.copy(request)
    told.output_format = OutputFormat(kind="json_object") if object_mode and _is_object(form) else None
    told.messages = [_instruction(form), *request.messages]
    fidelity.mapped(request.path("output_format"), "an instruction, and a check of the answer")
    first = await ask(told)
    fault = _take_json(first, check)
    if fault is None:
        return first
    again = copy.copy(told)
    again.messages = [*told.messages, *_objection(first, fault)]
    second = await ask(again)
    second.usage = added(first.usage, second.usage)
    fault = _take_json(second, check)
    if fault is None:
        return second
    raise GatewayError(Kind.UPSTREAM_ERROR, f"the model's answer is not the JSON that was asked for: {fault}")


def _is_object(form: OutputFormat) -> bool:
    """Whether what is asked for can be had in a mode that gives any JSON object."""
    return form.schema is None or (isinstance(form.schema, dict) and form.schema.get("type") == "object")


def _instruction(form: OutputFormat) -> Message:
    text = "Answer with one JSON object and nothing else: no explanation, no code fence."
    if form.schema is not None:
        schema = msgspec.json.encode(form.schema).decode()
        text = (
            "Answer with one JSON value that satisfies this JSON Schema, and nothing else: no explanation, no code "
            f"fence.\n{schema}"
        )
    return Message(role="system", parts=[TextPart(text=text)])


def _objection(answer: Response, fault: str) -> list[Message]:
    said = TextPart(text=_text(answer.choices[0]) or "(nothing)")
    wrong = TextPart(text=f"This is not what was asked for: {fault}. Answer again, with the corrected JSON alone.")
    return [Message(role="assistant", parts=[said]), Message(role="user", parts=[wrong])]


def _take_json(answer: Response, check: Callable[[Any], str | None]) -> str | None:
    """Reduce each finished choice to its JSON; what is wrong with the first bad one, or None.

    A choice that was cut off, refused or calls a tool is left as it is: its finish reason tells.
    """
    for choice in answer.choices:
        if choice.finish_reason not in (FinishReason.STOP, FinishReason.STOP_SEQUENCE):
            continue
        text = _json_in(_text(choice))
        try:
            value = _decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return "it is not valid JSON"
        fault = check(value)
        if fault is not None:
            return fault
        rest = [part for part in choice.parts if not isinstance(part, TextPart)]
        choice.parts = [*rest, TextPart(text=text)]
    return None


def _json_in(text: str) -> str:
    """The text without the code fence that models like to put around JSON."""
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        text = text.partition("\n")[2].removesuffix(_FENCE).strip()
    return text


def _checker(form: OutputFormat, path: str) -> Callable[[Any], str | None]:
    """What is wrong with a value; None when nothing is."""
    if form.schema is None:
        return lambda value: None if isinstance(value, dict) else "it is not a JSON object"
    import jsonschema_rs  # 3 MB, and most gateways never need it

    try:
        validator = jsonschema_rs.validator_for(form.schema, retriever=_refuse_remote)
    except (jsonschema_rs.ValidationError, ValueError):
        raise GatewayError(Kind.INVALID_REQUEST, f"'{path}' holds no valid JSON Schema", param=path) from None

    def check(value: Any) -> str | None:
        for error in validator.iter_errors(value):
            place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
            return f"at ${place}: {error.message}"[:300]
        return None

    return check


def _refuse_remote(uri: str) -> Any:
    raise ValueError("schemas are not fetched from elsewhere")


def _text(choice: Choice) -> str:
    return "".join(part.text for part in choice.parts if isinstance(part, TextPart))


def merged(answers: list[Response]) -> Response:
    """Several answers as the choices of one, their usage added up."""
    whole = answers[0]
    choices = [choice for answer in answers for choice in answer.choices]
    for index, choice in enumerate(choices):
        choice.index = index
    usage = whole.usage
    for answer in answers[1:]:
        usage = added(usage, answer.usage)
    whole.choices, whole.usage = choices, usage
    return whole


def added(first: TokenUsage | None, second: TokenUsage | None) -> TokenUsage | None:
    """The sum of two calls' usage; None when either is unknown."""
    if first is None or second is None:
        return None
    counts = {
        name: getattr(first, name) + getattr(second, name)
        for name in TokenUsage.__struct_fields__
        if name != "estimated"
    }
    return TokenUsage(**counts, estimated=first.estimated or second.estimated)
