"""OpenAI's Responses API as a simulator answers it: items, events, errors and stored responses as OpenAI has them."""

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from . import openai_errors as errors
from .behaviour import MODEL_MARK, Behaviour
from .openai_chat import OpenAIChat
from .openai_chat_stream import EVENT_STREAM
from .openai_request import InvalidRequest, Json, object_in, parse
from .reply import Event, Headers, Reply, Request
from .responses_answer import Answer, ReasoningSeal, answer_of, input_tokens, usage_of
from .responses_request import check_conversation, check_shape, check_values, items_of, kind_of
from .responses_stream import ResponseItems, ResponseStream

RESPONSES_PATH: Final = "/v1/responses"
TOKENS_PATH: Final = RESPONSES_PATH + "/input_tokens"
_MOST_STORED: Final = 1000
_REQUIRED_REASONING: Final = "Item '{}' of type '{}' was provided without its required 'reasoning' item: '{}'."
_LONELY_REASONING: Final = "Item '{}' of type 'reasoning' was provided without its required following item."
_NOT_STORED: Final = (
    "Item with id '{}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to "
    "true, or remove this item from your input."
)


class Stored(msgspec.Struct, kw_only=True):
    """One response that can be asked for again; ``ready_at`` is when a background one is done (monotonic seconds)."""

    begun: Json
    whole: Json
    input: list[Json]
    request: Json
    made: Answer
    ready_at: float = 0.0
    cancelled: bool = False

    def now(self) -> Json:
        """The response as it stands at this moment."""
        if self.cancelled:
            return {**self.begun, "status": "cancelled"}
        if time.monotonic() < self.ready_at:
            return {**self.begun, "status": "in_progress"}
        return self.whole


class OpenAIResponses:
    """``/v1/responses`` with everything below it; all other paths are those of `OpenAIChat`.

    ``api_key``: when set, any other key gets 401; encrypted reasoning is tied to it. ``models`` and ``only_listed``: as
    in `OpenAIChat`. ``strict``: refuse wrong requests as OpenAI does. A text with "call the tool" gets calls ("twice":
    two), "search the web" a search where that tool is given, "please refuse" a refusal; everything else an echo. In the
    background an answer takes ``pace_ms`` for each of its tokens.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("sim-model",),
        only_listed: bool = False,
        strict: bool = True,
    ) -> None:
        self._outer = OpenAIChat(api_key=api_key, models=models, only_listed=only_listed)
        self._models = models
        self._only_listed = only_listed
        self._strict = strict
        self._seal = ReasoningSeal(api_key or "")
        self._numbers = count(1)
        self._run = os.urandom(20).hex()
        self._stored: OrderedDict[str, Stored] = OrderedDict()
        self._items: dict[str, Json] = {}
        self._paired: dict[str, str] = {}  # a call's item id -> the reasoning item that has to go with it

    def model_of(self, request: Request) -> str:
        """The ``model`` of a request's body, or an empty string."""
        return self._outer.model_of(request)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """OpenAI's error for a fault that refuses."""
        return self._outer.refuse(fault, request, behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 with the code ``simulator_directive``."""
        return self._outer.reject_directive(message)

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """OpenAI's answer to ``request``, errors included."""
        path, _, query = request.path.partition("?")
        if not path.startswith(RESPONSES_PATH):
            return self._outer.answer(request, behaviour)
        refused = self._outer.check_request_key(request, behaviour)
        if refused is not None:
            return refused
        headers = self._outer.headers(behaviour)
        try:
            if path in (RESPONSES_PATH, TOKENS_PATH):
                if request.method != "POST":
                    return errors.wrong_method(request.method, path, headers)
                return self._create(parse(request.body), behaviour, headers, only_count=path == TOKENS_PATH)
            return self._of_stored(request, path, query, headers)
        except InvalidRequest as refusal:
            status = 404 if refusal.message.startswith(("Item with id", "Response with id")) else 400
            return errors.error_reply(status, refusal.message, headers, param=refusal.param, code=refusal.code)

    def _create(self, body: Json, behaviour: Behaviour, headers: Headers, *, only_count: bool) -> Reply:
        check_shape(body)
        if self._strict:
            check_values(body)
        model = str(body.get("model") or "prompt-model")
        if self._only_listed and model.partition(MODEL_MARK)[0] not in self._models:
            return errors.unknown_model(model, headers)
        items = self._conversation(body)
        if only_count:
            return _json({"object": "response.input_tokens", "input_tokens": input_tokens(items, body)}, headers)
        made = answer_of(body, items, behaviour)
        begun = _echo(self._id(), model, body)
        whole = {**begun, "status": "completed", "completed_at": int(time.time())}
        whole["service_tier"] = _tier(body)
        whole["output"] = ResponseItems(begun["id"], body, made, self._seal).whole()
        if made.cut:
            whole |= {
                "status": "incomplete",
                "completed_at": None,
                "incomplete_details": {"reason": "content_filter" if made.filtered else "max_output_tokens"},
            }
        whole["usage"] = usage_of(items, body, made, behaviour)
        stored = Stored(begun=begun, whole=whole, input=items_of(body), request=body, made=made)
        if body.get("store") is not False:
            self._keep(stored)
        return self._reply(stored, behaviour, headers)

    def _reply(self, stored: Stored, behaviour: Behaviour, headers: Headers) -> Reply:
        request = stored.request
        if request.get("background"):
            stored.begun["status"] = "queued"
            stored.ready_at = time.monotonic() + behaviour.pace_ms * stored.made.tokens / 1000
        if request.get("stream"):
            return _streamed(ResponseStream(stored.begun, stored.whole, request, stored.made).events(), headers)
        if behaviour.usage == "none":
            stored.whole.pop("usage", None)
        return _json(stored.begun if request.get("background") else stored.whole, headers)

    def _conversation(self, body: Json) -> list[Json]:
        """Everything that the model is to read: earlier responses' items, then the new ones, references resolved."""
        earlier: list[Json] = []
        previous = body.get("previous_response_id")
        if previous:
            found = self._stored.get(previous)
            if found is None:
                message = f"Previous response with id '{previous}' not found."
                raise InvalidRequest(message, "previous_response_id", "previous_response_not_found")
            earlier = [*self._conversation(found.request), *found.whole["output"]]
        new = items_of(body)
        if self._strict:
            self._check_reasoning(earlier, new)
        items = earlier + [self._referred(item) for item in new]
        if self._strict:
            check_conversation(items)
        return items

    def _referred(self, item: Json) -> Json:
        if kind_of(item) != "item_reference":
            return item
        return self._known(str(item.get("id")))

    def _known(self, identity: str) -> Json:
        if identity not in self._items:
            raise InvalidRequest(_NOT_STORED.format(identity), "input")
        return self._items[identity]

    def _check_reasoning(self, earlier: list[Json], new: list[Json]) -> None:
        present = {item.get("id") for item in (*earlier, *new)}
        for position, item in enumerate(new):
            identity = item.get("id")
            if kind_of(item) == "reasoning":
                if item.get("encrypted_content") is not None:
                    self._seal.check(item["encrypted_content"])
                else:
                    self._known(str(identity))
                if position + 1 == len(new) or kind_of(new[position + 1]).endswith("_output"):
                    raise InvalidRequest(_LONELY_REASONING.format(identity), "input")
            needs = self._paired.get(str(identity))
            if needs is not None and needs not in present:
                raise InvalidRequest(_REQUIRED_REASONING.format(identity, kind_of(item), needs), "input")

    def _keep(self, stored: Stored) -> None:
        self._stored[stored.whole["id"]] = stored
        if len(self._stored) > _MOST_STORED:
            self._stored.popitem(last=False)
        reasoning = None
        for item in stored.whole["output"]:
            self._items[item["id"]] = item
            if item["type"] == "reasoning":
                reasoning = item["id"]
            elif item["type"] in ("function_call", "custom_tool_call") and reasoning is not None:
                self._paired[item["id"]] = reasoning

    def _of_stored(self, request: Request, path: str, query: str, headers: Headers) -> Reply:
        identity, _, rest = path[len(RESPONSES_PATH) + 1 :].partition("/")
        stored = self._stored.get(identity)
        if stored is None:
            raise InvalidRequest(f"Response with id '{identity}' not found.", "id")
        asked = (request.method, rest)
        if asked == ("GET", ""):
            options = parse_qs(query)
            if options.get("stream") == ["true"]:
                after = int(options.get("starting_after", ["-1"])[0])
                stream = ResponseStream(stored.begun, stored.whole, stored.request, stored.made)
                return _streamed(_behind(stream.events(), after), headers)
            return _json(stored.now(), headers)
        if asked == ("DELETE", ""):
            del self._stored[identity]
            return _json({"id": identity, "object": "response", "deleted": True}, headers)
        if asked == ("GET", "input_items"):
            return _json(_page(stored, identity, parse_qs(query)), headers)
        if asked == ("POST", "cancel"):
            if not stored.request.get("background"):
                raise InvalidRequest("Cannot cancel a synchronous response.")
            stored.cancelled = stored.cancelled or time.monotonic() < stored.ready_at
            return _json(stored.now(), headers)
        return errors.wrong_method(request.method, path, headers)

    def _id(self) -> str:
        return f"resp_{self._run}{next(self._numbers):010x}"


def _behind(events: Iterator[Event], after: int) -> Iterator[Event]:
    return (event for number, event in enumerate(events) if number > after)


def _page(stored: Stored, identity: str, options: dict[str, list[str]]) -> Json:
    """The input items as a list: newest first unless asked otherwise; every item has an id."""
    items = [_with_id(item, identity, number) for number, item in enumerate(stored.input)]
    if options.get("order", ["desc"]) == ["desc"]:
        items.reverse()
    after = options.get("after", [""])[0]
    names = [item["id"] for item in items]
    start = names.index(after) + 1 if after in names else 0
    limit = int(options.get("limit", ["20"])[0])
    page = items[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": start + limit < len(items),
    }


def _with_id(item: Json, identity: str, number: int) -> Json:
    kind = kind_of(item)
    if kind == "message" and isinstance(item.get("content"), str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        extra: Json = {"annotations": []} if part == "output_text" else {}
        item = {**item, "content": [{"type": part, "text": item["content"], **extra}]}
    return {"id": f"msg_{identity[5:45]}{number:04}", "type": kind, "status": "completed", **item}


def _echo(identity: str, model: str, body: Json) -> Json:
    """A response that has just begun: the request's settings with OpenAI's defaults in them."""
    text, reasoning = object_in(body, "text"), object_in(body, "reasoning")
    return {
        "id": identity,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": bool(body.get("background")),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": model,
        "output": [],
        "parallel_tool_calls": _given(body, "parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": body.get("service_tier") or "auto",
        "store": body.get("store") is not False,
        "temperature": _given(body, "temperature", 1.0),
        "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": _given(body, "tool_choice", "auto"),
        "tools": [_tool(tool) for tool in body.get("tools") or ()],
        "top_logprobs": _given(body, "top_logprobs", 0),
        "top_p": _given(body, "top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _tool(tool: Json) -> Json:
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, **tool, "strict": tool.get("strict") is not False}


def _given(body: Json, name: str, default: Any) -> Any:
    value = body.get(name)
    return default if value is None else value


def _tier(body: Json) -> str:
    wanted = str(body.get("service_tier") or "default")
    return {"fast": "priority", "auto": "default"}.get(wanted, wanted)


def _failure_event() -> bytes:
    error = {"type": "error", "sequence_number": 999, "code": "server_error", "message": errors.SERVER_ERROR}
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode({**error, "param": None})


def _streamed(events: Iterator[Event], headers: Headers) -> Reply:
    return Reply(
        status=200,
        content_type=EVENT_STREAM,
        headers=headers,
        events=events,
        failure=errors.server_failure(),
        failure_event=_failure_event(),
    )


def _json(body: Json, headers: Headers) -> Reply:
    formatted = msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"
    return Reply(
        status=200, content_type=errors.JSON_TYPE, headers=headers, body=formatted, failure=errors.server_failure()
    )
