"""A request in our own words as this API wants it. Every option is sent, or called by name in the ledger."""

from typing import Any, Final

import msgspec

from pointsman.canonical.effort import effort_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.parts import Extra
from pointsman.canonical.request import ReasoningOptions, Request
from pointsman.providers.caller_name import short_name_of_caller
from pointsman.providers.openai_responses.input_items import InputWriter
from pointsman.wire.openai_responses import ENCRYPTED, LOGPROBS, WIRE
from pointsman.wire.openai_responses.tools import write_choice, write_format, write_tools

RESPONSES_PATH: Final = "/responses"
MIN_OUTPUT_TOKENS: Final = 16
MAX_METADATA: Final = 512  # characters of a value
_TIERS: Final = ("auto", "default", "flex", "priority", "fast", "scale", "ultrafast")
# Sent as they are.
_PLAIN: Final = (
    "parallel_tool_calls", "max_tool_calls", "temperature", "top_p", "top_logprobs", "user", "safety_identifier",
    "store", "prompt_cache_key", "prompt_cache_retention",
)  # fmt: skip
# What this API has no word for.
_UNKNOWN: Final = (
    "stop", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed",
    "logit_bias", "audio", "prediction", "betas",
)  # fmt: skip
# Members of objects, for putting a client's own members back to where they stood.
_OBJECTS: Final = ("text.format.", "text.", "reasoning.", "stream_options.")
_encode: Final = msgspec.json.Encoder().encode


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """The request for ``POST /responses``."""
    own = request.wire == WIRE
    writer = InputWriter(
        request,
        fidelity,
        reasoning_text=bool(upstream.quirks.get("reasoning_text")),
        cache_marks=bool(upstream.quirks.get("cache_breakpoints")),
    )
    writer.write(request.messages)
    body: Extra = {"model": upstream.model}
    if writer.instructions is not None:
        body["instructions"] = writer.instructions
    if writer.items or not own:
        body["input"] = writer.items
    _write_tools(body, request, fidelity, own)
    _write_plain(body, request, fidelity, own)
    _write_text(body, request, fidelity)
    _write_reasoning(body, request, fidelity, own)
    _report_unknown(request, fidelity)
    if request.logprobs:
        body.setdefault("include", []).append(LOGPROBS)
    if request.stream:
        body["stream"] = True
    _write_extra(body, request, fidelity, own)
    return Built(path=RESPONSES_PATH, body=_encode(body))


def _write_tools(body: Extra, request: Request, fidelity: Fidelity, own: bool) -> None:
    kept = []
    for tool in request.tools:
        if tool.kind == "native" and tool.wire != WIRE:
            fidelity.dropped(tool.path, f"only {tool.wire} has the tool '{tool.name}'")
            continue
        kept.append(tool)
        if tool.cache is not None:
            fidelity.dropped(f"{tool.path}.cache_control", "this API caches by itself")
        if not own:
            for name in tool.extra or ():
                fidelity.dropped(f"{tool.path}.{name}", "this API has no such member")
    tools = write_tools(kept, own=own)
    if request.web_search is not None:
        tools.append(_web_search(request.web_search))
        fidelity.mapped(request.path("web_search"), "searching the web is a tool here")
    if tools:
        body["tools"] = tools
    choice = request.tool_choice
    if choice is None:
        return
    if choice.mode == "native" and choice.wire != WIRE:
        fidelity.dropped(request.path("tool_choice"), f"only {choice.wire} has this choice")
        return
    if choice.allowed is not None and choice.mode in ("none", "tool"):
        fidelity.mapped(request.path("tool_choice"), "the list of allowed tools means nothing beside it")
    body["tool_choice"] = write_choice(choice, kept)


def _web_search(options: Extra) -> Extra:
    """Chat Completions' ``web_search_options`` as a tool: its place is one level less deep here."""
    tool: Extra = {"type": "web_search", **options}
    place = options.get("user_location")
    if isinstance(place, dict) and isinstance(place.get("approximate"), dict):
        tool["user_location"] = {"type": "approximate", **place["approximate"]}
    return tool


def _write_plain(body: Extra, request: Request, fidelity: Fidelity, own: bool) -> None:
    for name in _PLAIN:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.user is not None and not own:
        body["user"] = short_name_of_caller(request.user, request.path("user"), fidelity)
    if request.store is None and not own:
        body["store"] = False
        fidelity.synthesised("store", "this API would keep the answer unless told otherwise")
    limit = request.max_output_tokens
    if limit is not None:
        body["max_output_tokens"] = max(limit, MIN_OUTPUT_TOKENS)
        if limit < MIN_OUTPUT_TOKENS:
            path = request.path("max_output_tokens")
            fidelity.approximated(path, f"this API takes no less than {MIN_OUTPUT_TOKENS}")
    if request.metadata is not None:
        body["metadata"] = request.metadata if own else _metadata(request, fidelity)
    if request.service_tier is not None:
        if own or request.service_tier in _TIERS:
            body["service_tier"] = request.service_tier
        else:
            fidelity.dropped(request.path("service_tier"), f"this API has no tier '{request.service_tier[:40]}'")


def _metadata(request: Request, fidelity: Fidelity) -> dict[str, str]:
    """Metadata as strings, the only values that this API takes."""
    path = request.path("metadata")
    found: dict[str, str] = {}
    for name, value in (request.metadata or {}).items():
        text = value if isinstance(value, str) else _encode(value).decode()
        if not isinstance(value, str):
            fidelity.mapped(f"{path}.{name}", "values of metadata are strings here")
        if len(text) > MAX_METADATA:
            fidelity.dropped(f"{path}.{name}", f"values of metadata have at most {MAX_METADATA} characters here")
        else:
            found[name] = text
    return found


def _write_text(body: Extra, request: Request, fidelity: Fidelity) -> None:
    text: Extra = {}
    wanted = request.output_format
    if wanted is not None and wanted.kind == "grammar":
        fidelity.dropped(request.path("output_format"), "this API has grammars for tools only")
    elif wanted is not None:
        text["format"] = write_format(wanted)
        if wanted.kind == "json_schema" and wanted.name is None:
            fidelity.synthesised(f"{request.path('output_format')}.name", "this API's schemas have names")
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text


def _write_reasoning(body: Extra, request: Request, fidelity: Fidelity, own: bool) -> None:
    options = request.reasoning
    if options is None:
        return
    path = request.path("reasoning")
    reasoning: Extra = {}
    effort = _effort(options, path, fidelity)
    if effort is not None:
        reasoning["effort"] = effort
    summary = options.summary
    if summary is None and not own and not options.exclude and effort != "none":
        summary = "auto"  # who thinks elsewhere sees the thoughts; here, only when asked for
        fidelity.mapped(path, "reasoning is shown in summaries here")
    if summary is not None and options.exclude:
        summary = None
    if summary is not None:
        reasoning["summary"] = summary
    if reasoning:
        body["reasoning"] = reasoning
    if options.encrypted or (not own and effort != "none"):
        body["include"] = [ENCRYPTED]


def _effort(options: ReasoningOptions, path: str, fidelity: Fidelity) -> str | None:
    if options.enabled is False and options.effort not in (None, "none"):
        fidelity.dropped(f"{path}.effort", "reasoning is off")
        return "none"
    if options.effort is not None:
        if options.max_tokens is not None:
            fidelity.approximated(path, "a budget of tokens beside an effort is left out")
        return options.effort
    if options.max_tokens is not None:
        effort = effort_of(options.max_tokens)
        fidelity.mapped(path, f"a budget of {options.max_tokens} tokens is effort {effort}")
        return effort
    if options.enabled is False:
        fidelity.mapped(path, "no reasoning is effort none")
        return "none"
    if options.adaptive:
        fidelity.mapped(path, "how much to think is the model's own choice without an effort")
    return None


def _report_unknown(request: Request, fidelity: Fidelity) -> None:
    for name in _UNKNOWN:
        if getattr(request, name):
            fidelity.dropped(request.path(name), "this API has no such option")
    if request.choices is not None and request.choices > 1:
        fidelity.dropped(request.path("choices"), "this API gives one answer to a request")
    if request.modalities is not None and request.modalities != ["text"]:
        fidelity.dropped(request.path("modalities"), "this API answers in text")
    if request.cache is not None:
        fidelity.approximated(request.path("cache"), "this API caches by itself")


def _write_extra(body: Extra, request: Request, fidelity: Fidelity, own: bool) -> None:
    """What the client said beyond our words: back to where it stood, or noted."""
    for path, value in request.extra.items():
        if not own:
            fidelity.dropped(path, "this API has no such option")
        elif path == "include":
            body["include"] = [*body.get("include", ()), *value]
        elif path.startswith("tools["):
            continue  # of a namespace, and written with it
        else:
            _put(body, path, value)


def _put(body: Extra, path: str, value: Any) -> None:
    for known in _OBJECTS:
        if path.startswith(known):
            for name in known[:-1].split("."):
                body = body.setdefault(name, {})
            path = path[len(known) :]
            break
    body[path] = value
