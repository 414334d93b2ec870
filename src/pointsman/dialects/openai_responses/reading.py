"""A client's request in our own words."""

from typing import Any, Final

from pointsman.canonical.effort import EFFORTS
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.parts import Extra, TextPart
from pointsman.canonical.request import Message, ReasoningOptions, Request
from pointsman.wire.members import Members
from pointsman.wire.members import read_request as read_body
from pointsman.wire.openai_responses import ENCRYPTED, LOGPROBS, WIRE
from pointsman.wire.openai_responses.items import read_items
from pointsman.wire.openai_responses.tools import read_choice, read_format, read_tools

MAX_MODEL_LENGTH: Final = 256
MAX_TOP_LOGPROBS: Final = 20
INSTRUCTIONS: Final = "instructions"
# How its clients call what the ledger calls by our words.
NAMES: Final = {
    "citations": "annotations",
    "cache_control": "prompt_cache_breakpoint",
    "signature": "encrypted_content",
    "redacted": "encrypted_content",
    "encrypted": "encrypted_content",
    "reasoning.encrypted": "/include",
    "thought_signature": "encrypted_content",
}
_PATHS: Final = {"output_format": "text.format", "verbosity": "text.verbosity", "logprobs": "include"}


def read_request(body: bytes, call: ClientCall) -> Request:
    """A request for a response. Raises GatewayError(INVALID_REQUEST) that names the client's field."""
    members = read_body(body, "'model' and 'input'")
    model = members.string("model") or call.model
    if not model:
        raise members.wrong("model", "is missing")
    if len(model) > MAX_MODEL_LENGTH:
        raise members.wrong("model", f"must have at most {MAX_MODEL_LENGTH} characters")
    tools, about_tools = read_tools(members)
    request = Request(
        wire=WIRE,
        model=model,
        messages=_messages(members),
        stream=bool(members.boolean("stream")),
        tools=tools,
        tool_choice=read_choice(members.raw("tool_choice"), members),
        paths=dict(_PATHS),
        names=NAMES,
    )
    _read_options(request, members)
    extra: Extra = dict(about_tools)
    extra |= _read_text(request, members)
    extra |= _read_reasoning(request, members)
    extra |= _read_include(request, members)
    if (options := members.object("stream_options")) is not None:
        extra |= {options.at(name): value for name, value in (options.rest() or {}).items()}
    request.extra = {**extra, **(members.rest() or {})}
    return request


def _messages(members: Members) -> list[Message]:
    messages: list[Message] = []
    instructions = members.raw(INSTRUCTIONS)
    if isinstance(instructions, list):  # a stored response's own way to have them
        messages += read_items(members.objects(INSTRUCTIONS))
    elif (text := members.string(INSTRUCTIONS)) is not None:
        part = TextPart(text=text, path=INSTRUCTIONS)
        messages.append(Message(role="system", parts=[part], path=INSTRUCTIONS))
    given: Any = members.raw("input")
    if isinstance(given, str):
        messages.append(Message(role="user", parts=[TextPart(text=given, path="input")], path="input"))
    elif isinstance(given, list):
        messages += read_items(members.objects("input"))
    elif given is not None:
        raise members.wrong("input", "must be a string or a list of items")
    elif not any(name in members for name in ("previous_response_id", "prompt", "conversation")):
        raise members.wrong("input", "is missing")
    return messages


def _read_options(request: Request, members: Members) -> None:
    request.max_output_tokens = members.integer("max_output_tokens", 1)
    request.max_tool_calls = members.integer("max_tool_calls", 0)
    request.parallel_tool_calls = members.boolean("parallel_tool_calls")
    request.temperature = members.number("temperature")
    request.top_p = members.number("top_p")
    request.top_logprobs = members.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)
    request.service_tier = members.string("service_tier")
    request.user = members.string("user")
    request.safety_identifier = members.string("safety_identifier")
    request.metadata = members.mapping("metadata")
    request.store = members.boolean("store")
    request.prompt_cache_key = members.string("prompt_cache_key")
    request.prompt_cache_retention = members.string("prompt_cache_retention")


def _read_text(request: Request, members: Members) -> Extra:
    text = members.object("text")
    if text is None:
        return {}
    request.output_format, extra = read_format(text)
    request.verbosity = text.string("verbosity")
    return {**extra, **{text.at(name): value for name, value in (text.rest() or {}).items()}}


def _read_reasoning(request: Request, members: Members) -> Extra:
    """How much to think; OpenAI's ``effort: null`` is the model's own default."""
    reasoning = members.object("reasoning")
    if reasoning is None:
        return {}
    effort = reasoning.one_of("effort", *EFFORTS)
    summary = reasoning.string("summary") or reasoning.string("generate_summary")
    reasoning.ignore("generate_summary")
    if effort is not None or summary is not None:
        request.reasoning = ReasoningOptions(effort=effort, summary=summary)
    return {reasoning.at(name): value for name, value in (reasoning.rest() or {}).items()}


def _read_include(request: Request, members: Members) -> Extra:
    wanted = members.strings("include") or []
    if ENCRYPTED in wanted:
        known = request.reasoning or ReasoningOptions()
        request.reasoning = ReasoningOptions(effort=known.effort, summary=known.summary, encrypted=True)
    if LOGPROBS in wanted:
        request.logprobs = True
    rest = [one for one in wanted if one not in (ENCRYPTED, LOGPROBS)]
    return {"include": rest} if rest else {}
