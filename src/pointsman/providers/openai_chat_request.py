"""Writes a request of our own words for a host that speaks Chat Completions, with the host's departures."""

from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from pointsman.canonical.effort import budget_of, effort_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import ReasoningOptions, Request, Tool, ToolChoice
from pointsman.providers.azure_openai import API_VERSION, chat_path
from pointsman.providers.caller_name import short_name_of_caller
from pointsman.providers.hosts import Quirks, read_quirks
from pointsman.providers.leftovers import note_left_out
from pointsman.providers.openai import CHAT_PATH
from pointsman.providers.openai_chat_messages import NO_MARKS, MessageWriter
from pointsman.wire.bodies import with_model
from pointsman.wire.openai_chat_parts import WIRE, overlay, write_cache

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode

# Options that are one member each: ours and theirs.
_PLAIN: Final[Mapping[str, str]] = {
    "choices": "n", "stop": "stop", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "top_a": "top_a", "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty",
    "repetition_penalty": "repetition_penalty", "seed": "seed", "logit_bias": "logit_bias", "logprobs": "logprobs",
    "top_logprobs": "top_logprobs", "service_tier": "service_tier", "verbosity": "verbosity", "user": "user",
    "safety_identifier": "safety_identifier", "metadata": "metadata", "store": "store",
    "prompt_cache_key": "prompt_cache_key", "prompt_cache_retention": "prompt_cache_retention",
    "modalities": "modalities", "audio": "audio", "prediction": "prediction", "web_search": "web_search_options",
    "parallel_tool_calls": "parallel_tool_calls",
}  # fmt: skip
_values: Final = attrgetter(*_PLAIN)
_FOREIGN: Final = frozenset(("top_k", "min_p", "top_a", "repetition_penalty"))  # never OpenAI's: the host may say no
KNOWN_QUIRKS: Final = 512  # as many rows as are kept ready in hosts.py
_NOWHERE: Final = {"max_tool_calls": "Chat Completions has no such limit", "betas": "Anthropic's alone"}


def lacks(upstream: Upstream) -> frozenset[str]:
    """What the host has no way to say."""
    return _lacking(read_quirks(upstream.quirks))


@lru_cache(maxsize=KNOWN_QUIRKS)
def _lacking(quirks: Quirks) -> frozenset[str]:
    found = set()
    if quirks.one_choice:
        found.add("choices")
    if quirks.structured_output != "json_schema":
        found.add("json_schema")
    if not quirks.tools:
        found.add("tools")
    if quirks.reasoning_member != "reasoning_details":
        found.add("file_url")
    return frozenset(found)


def departures(upstream: Upstream) -> frozenset[str]:
    """The members of OpenAI's own API that the host refuses or takes otherwise: a request that has one of them has to
    be written anew even for a client of the same API. Empty for OpenAI and for hosts that nothing is known of.
    """
    quirks = read_quirks(upstream.quirks)
    found = {name for name in quirks.refused if name not in _FOREIGN}
    if quirks.seed_field != "seed":
        found.add("seed")
    if quirks.refused and quirks.max_tokens_field == "max_tokens":
        found.add("max_completion_tokens")
    if quirks.required_choice != "required":
        found.add("tool_choice")
    if quirks.reasoning_history == "required" or quirks.call_ids != "any" or not quirks.tools:
        found.add("tools")
    if quirks.reasoning_control in ("enable_thinking", "prompt_mode"):
        found.add("reasoning_effort")
    if quirks.structured_output != "json_schema":
        found.add("response_format")
    if quirks.one_choice:
        found.add("n")
    if not quirks.stream_usage:
        found.add("stream_options")
    return frozenset(found)


def marks(upstream: Upstream) -> tuple[bytes, ...]:
    """What inside a request's members makes the difference that `departures` tells of whole members: JSON texts that
    stand in its body, as values or as names. Other texts with the same letters have a backslash before their quotes.
    """
    quirks = read_quirks(upstream.quirks)
    found = []
    if not quirks.developer_role:
        found.append(b'"developer"')
    if quirks.cache_marks is False:
        found.append(b'"cache_control"')
    return tuple(found)


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """The host's request. Every leaf of ``request`` is in it or in ``fidelity``."""
    quirks = read_quirks(upstream.quirks)
    body: Json = {"model": upstream.model, "messages": MessageWriter(request, quirks, fidelity).write()}
    writer = _Options(request, quirks, fidelity, body)
    writer.write()
    return Built(path=path_of(upstream), body=_encode(body))


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The client's own body with nothing changed but the model. Raises GatewayError when it is no JSON object."""
    return Built(path=path_of(upstream), body=with_model(body, upstream.model))


def path_of(upstream: Upstream) -> str:
    """Where chat completions are, behind the base URL."""
    version = upstream.options.get("api_version")
    template = upstream.quirks.get("chat_path")
    if template is not None:
        return chat_path(template, upstream.model, version or API_VERSION)
    return f"{CHAT_PATH}?api-version={version}" if version else CHAT_PATH


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """The header that the host takes a key in."""
    auth = upstream.quirks.get("auth", "bearer")
    if auth in ("bearer", "none"):
        return (("authorization", f"Bearer {secret}"),)
    return ((auth, secret),)


class _Options:
    """Writes everything but the messages."""

    def __init__(self, request: Request, quirks: Quirks, fidelity: Fidelity, body: Json) -> None:
        self._request = request
        self._quirks = quirks
        self._fidelity = fidelity
        self._body = body

    def write(self) -> None:
        request, body = self._request, self._body
        if request.stream:
            body["stream"] = True
            if self._quirks.stream_usage:
                body["stream_options"] = {"include_usage": True}
        for name, value in zip(_PLAIN, _values(request), strict=True):
            if value is not None:
                self._plain(name, _PLAIN[name], value)
        for name, why in _NOWHERE.items():
            if getattr(request, name):
                self._fidelity.dropped("anthropic-beta" if name == "betas" else request.path(name), why)
        if request.max_output_tokens is not None:
            body[self._quirks.max_tokens_field] = request.max_output_tokens
        if request.cache is not None:
            if self._quirks.carries_marks(self._request.wire == WIRE):
                body["cache_control"] = write_cache(request.cache)
            else:
                self._fidelity.dropped(request.path("cache"), NO_MARKS)
        self._tools()
        self._format()
        if request.reasoning is not None:
            self._reasoning(request.reasoning)
        self._extra()

    def _plain(self, name: str, member: str, value: Any) -> None:
        quirks, path = self._quirks, self._request.path(name)
        if member in quirks.refused:
            self._fidelity.dropped(path, "this host refuses it")
        elif name == "choices" and quirks.one_choice and value > 1:
            self._fidelity.dropped(path, "this host gives one answer")
        elif name == "seed":
            self._body[quirks.seed_field] = value
        elif name == "user" and self._request.wire != WIRE:
            self._body[member] = short_name_of_caller(value, path, self._fidelity)
        else:
            self._body[member] = value

    def _tools(self) -> None:
        request = self._request
        if request.tools and not self._quirks.tools:
            for path in dict.fromkeys(path for tool in request.tools for path in tool.places):
                self._fidelity.dropped(path, "this host has no tools")
            for name in ("tool_choice", "parallel_tool_calls"):
                if getattr(request, name) is not None:
                    self._body.pop(name, None)
                    self._fidelity.dropped(request.path(name), "this host has no tools")
            return
        choice = request.tool_choice
        tools = request.tools
        if choice is not None and choice.allowed is not None and not self._quirks.custom_tools:
            tools = [tool for tool in tools if tool.name in choice.allowed]
            self._fidelity.mapped(request.path("tool_choice"), "the tools that are not allowed are left out")
            note_left_out(request.tools, choice.allowed, self._fidelity)
        written = [one for tool in tools if (one := self._tool(tool)) is not None]
        if written:
            self._body["tools"] = written
        elif self._body.pop("parallel_tool_calls", None) is not None:
            self._fidelity.dropped(request.path("parallel_tool_calls"), "there are no tools")
        if choice is not None:
            self._choice(choice, bool(written))

    def _tool(self, tool: Tool) -> Json | None:
        if tool.kind == "native":
            if tool.wire == WIRE and tool.value is not None:
                return dict(tool.value)
            self._fidelity.dropped(tool.path, f"a tool that {tool.wire} alone runs")
            return None
        inner: Json = {"name": tool.name}
        if tool.description is not None:
            inner["description"] = tool.description
        if tool.kind == "custom" and self._quirks.custom_tools:
            if tool.format is not None:
                inner["format"] = tool.format
            out: Json = {"type": "custom", "custom": inner}
        else:
            self._function(tool, inner)
            out = {"type": "function", "function": inner}
        self._tool_extra(tool, out)
        return out

    def _function(self, tool: Tool, inner: Json) -> None:
        if tool.kind == "custom":
            self._fidelity.approximated(tool.path, "a custom tool is a function with one text here")
            if tool.format is not None:
                self._fidelity.dropped(f"{tool.path}.format", "a function's text has no grammar")
            inner["parameters"] = {
                "type": "object",
                "properties": {"input": {"type": "string"}},
                "required": ["input"],
                "additionalProperties": False,
            }
            return
        if tool.parameters is not None:
            inner["parameters"] = tool.parameters
        if tool.strict is not None:
            inner["strict"] = tool.strict

    def _tool_extra(self, tool: Tool, out: Json) -> None:
        if tool.namespace is not None:
            self._fidelity.mapped(f"{tool.path}.namespace", "it stands before the name")
        if tool.cache is not None:
            if self._quirks.carries_marks(self._request.wire == WIRE):
                out["cache_control"] = write_cache(tool.cache)
            else:
                self._fidelity.dropped(f"{tool.path}.cache_control", NO_MARKS)
        if tool.extra and self._request.wire == WIRE:
            out.update(overlay(out, tool.extra))
        else:
            for name in tool.extra or ():
                self._fidelity.dropped(f"{tool.path}.{name}", "not a word of Chat Completions")

    def _choice(self, choice: ToolChoice, any_tools: bool) -> None:
        path = self._request.path("tool_choice")
        if not any_tools:
            if choice.mode not in ("auto", "none"):
                self._fidelity.dropped(path, "there are no tools to choose")
            return
        match choice.mode:
            case "tool":
                kind = choice.kind if self._quirks.custom_tools else "function"
                self._body["tool_choice"] = {"type": kind, kind: {"name": choice.name}}
            case "native" if choice.wire == WIRE:
                self._body["tool_choice"] = choice.value
            case "native":
                self._fidelity.dropped(path, f"a tool that {choice.wire} alone runs")
            case mode:
                word = self._word(mode, path)
                if choice.allowed is not None and self._quirks.custom_tools:
                    listed = {"mode": word, "tools": [self._allowed(name) for name in choice.allowed]}
                    self._body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": listed}
                    if choice.value is not None:
                        self._fidelity.dropped(path, f"but for functions and custom tools: others are {choice.wire}'s")
                else:
                    self._body["tool_choice"] = word

    def _word(self, mode: str, path: str) -> str:
        if mode != "required" or self._quirks.required_choice == "required":
            return mode
        if self._quirks.required_choice is None:
            self._fidelity.approximated(path, "this host can't be made to call a tool")
            return "auto"
        return self._quirks.required_choice

    def _allowed(self, name: str) -> Json:
        kind = next((tool.kind for tool in self._request.tools if tool.name == name), "function")
        return {"type": kind, kind: {"name": name}}

    def _format(self) -> None:
        wanted = self._request.output_format
        if wanted is None:
            return
        path = self._request.path("output_format")
        if wanted.kind == "grammar":
            if self._request.wire == WIRE and wanted.value is not None:
                self._body["response_format"] = wanted.value
            else:
                self._fidelity.dropped(path, "a grammar of another API")
            return
        if wanted.kind != "json_schema":
            self._body["response_format"] = {"type": wanted.kind}
            return
        if self._quirks.structured_output != "json_schema":
            self._body["response_format"] = {"type": "json_object"}
            self._fidelity.dropped(path, "this host promises JSON, not its shape")
            return
        if wanted.name is None:
            self._fidelity.synthesised(f"{path}.name", "a schema needs a name here")
        inner: Json = {"name": wanted.name or "answer"}
        for name in ("description", "schema", "strict"):
            value = getattr(wanted, name)
            if value is not None:
                inner[name] = value
        self._body["response_format"] = {"type": "json_schema", "json_schema": inner}

    def _reasoning(self, options: ReasoningOptions) -> None:
        path = self._request.path("reasoning")
        if self._quirks.reasoning_control == "reasoning":
            self._reasoning_object(options, path)
            return
        for name in ("summary", "exclude", "encrypted"):
            if getattr(options, name):
                self._fidelity.dropped(f"{path}.{name}", "this host shows what it shows")
        off = options.enabled is False or options.effort == "none"
        if not (off or options.enabled or options.adaptive or options.effort or options.max_tokens):
            return
        match self._quirks.reasoning_control:
            case "thinking":
                self._body["thinking"] = {"type": "disabled" if off else "enabled"}
                if not off:
                    self._effort(options, path)
            case "enable_thinking":
                self._body["enable_thinking"] = not off
                if not off:
                    self._budget(options, path)
            case "prompt_mode":
                if off:
                    self._fidelity.dropped(path, "whether it thinks is the model's own here")
                else:
                    self._body["prompt_mode"] = "reasoning"
                    self._fidelity.approximated(path, "thinking is on or off here")
                    if options.effort is not None:
                        self._fidelity.approximated(f"{path}.effort", "thinking is on or off here")
            case _:
                self._effort(options, path)

    def _effort(self, options: ReasoningOptions, path: str) -> None:
        word = options.effort
        if options.enabled is False and word not in (None, "none"):
            self._fidelity.dropped(f"{path}.effort", "thinking is off")
            word = "none"
        elif word is None and options.max_tokens is not None:
            word = effort_of(options.max_tokens)
            self._fidelity.mapped(f"{path}.max_tokens", f"effort {word}")
        elif word is None and options.enabled is False:
            word = "none"
        elif options.max_tokens is not None:
            self._fidelity.dropped(f"{path}.max_tokens", "the effort says how much here")
        if word is None and self._quirks.reasoning_control == "reasoning_effort":
            word = "medium"
            self._fidelity.mapped(path, "thinking that is merely on is effort medium")
        if word is not None:
            self._body["reasoning_effort"] = word

    def _budget(self, options: ReasoningOptions, path: str) -> None:
        if options.max_tokens is not None:
            self._body["thinking_budget"] = options.max_tokens
            if options.effort is not None:
                self._fidelity.dropped(f"{path}.effort", "the budget says how much here")
        elif options.effort is not None:
            self._body["thinking_budget"] = budget_of(options.effort, self._request.max_output_tokens)
            self._fidelity.mapped(path, f"a budget of {self._body['thinking_budget']} tokens")

    def _reasoning_object(self, options: ReasoningOptions, path: str) -> None:
        """OpenRouter's object: effort and tokens exclude one another."""
        out: Json = {}
        for name in ("enabled", "effort", "max_tokens", "summary", "exclude"):
            value = getattr(options, name)
            if value is not None:
                out[name] = value
        if "effort" in out and "max_tokens" in out:
            del out["effort"]
            self._fidelity.dropped(f"{path}.effort", "the budget says how much here")
        if options.adaptive and not out:
            out["enabled"] = True
            self._fidelity.approximated(f"{path}.adaptive", "thinking is on")
        if options.encrypted:
            self._fidelity.dropped(f"{path}.encrypted", "this host gives its state in any case")
        self._body["reasoning"] = out

    def _extra(self) -> None:
        """What the client said beyond our words, put back where it stood."""
        for path, value in self._request.extra.items():
            if self._request.wire != WIRE:
                self._fidelity.dropped(path, "not a word of Chat Completions")
                continue
            holder, _, name = path.rpartition(".")
            if not holder:
                self._body.setdefault(name, value)
            elif holder == "stream_options" and not self._quirks.stream_usage:
                self._fidelity.dropped(path, "this host refuses it")
            else:
                self._body.setdefault(holder, {})[name] = value
