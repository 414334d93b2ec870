"""The output items of a simulated response and the events that build them up, in OpenAI's order."""

import hmac
from collections.abc import Iterator
from typing import Final

import msgspec

from .openai_request import Json
from .reply import Event, EventKind
from .responses_answer import Answer, Call, ReasoningSeal, citation, logprobs_of, search_action

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# OpenAI pads deltas to hide the length of tokens from who watches the network.
_PADDING: Final = "aQ7mZx2LkT9bVw4R"
_FINISHED: Final = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
}

_encode = msgspec.json.encode


class ResponseItems:
    """The output items of one answer, whole. Their ids derive from the response's id."""

    def __init__(self, response_id: str, request: Json, made: Answer, seal: ReasoningSeal) -> None:
        self._seed = response_id
        self._request = request
        self._made = made
        self._seal = seal

    def whole(self) -> list[Json]:
        """All items, in order."""
        made, items = self._made, []
        if made.summary is not None:
            items.append(self._reasoning(made.summary))
        if made.searched is not None:
            action = search_action(self._request, made.searched)
            items.append({"id": self._id("ws"), "type": "web_search_call", "status": "completed", "action": action})
        if made.calls:
            items += [self._call(position, call) for position, call in enumerate(made.calls)]
        else:
            items.append(self._message())
        return items

    def _reasoning(self, summary: tuple[str, ...]) -> Json:
        identity = self._id("rs")
        item: Json = {
            "id": identity,
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text} for text in summary],
        }
        if "reasoning.encrypted_content" in (self._request.get("include") or ()):
            item["encrypted_content"] = self._seal.seal(identity, "".join(summary))
        return item

    def _message(self) -> Json:
        made, text = self._made, "".join(self._made.words)
        part: Json = {"type": "refusal", "refusal": text}
        if not made.refused:
            part = {
                "type": "output_text",
                "annotations": [citation(text)] if made.searched is not None else [],
                "logprobs": logprobs_of(self._request, tuple(made.words) if self._request.get("include") else ()),
                "text": text,
            }
        status = "incomplete" if made.cut else "completed"
        return {"id": self._id("msg"), "type": "message", "status": status, "content": [part], "role": "assistant"}

    def _call(self, position: int, call: Call) -> Json:
        call_id = "call_" + self._letters(f"call {position}", 24)
        item: Json = {"id": self._id("ctc" if call.custom else "fc", position)}
        item |= {"type": "custom_tool_call" if call.custom else "function_call", "status": "completed"}
        item |= {"input" if call.custom else "arguments": call.text, "call_id": call_id, "name": call.name}
        if call.namespace is not None:
            item["namespace"] = call.namespace
        return item

    def _id(self, prefix: str, position: int = 0) -> str:
        return f"{prefix}_{hmac.digest(self._seed.encode(), f'{prefix}{position}'.encode(), 'sha256').hex()[:48]}"

    def _letters(self, name: str, length: int) -> str:
        digest = hmac.digest(self._seed.encode(), name.encode(), "sha256")
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:length])


class ResponseStream:
    """The events of one streamed response, made one at a time as they are sent. ``whole`` is the finished response."""

    def __init__(self, begun: Json, whole: Json, request: Json, made: Answer) -> None:
        options = request.get("stream_options") or {}
        self._begun = begun
        self._whole = whole
        self._request = request
        self._made = made
        self._padded = options.get("include_obfuscation") is not False
        self._number = 0

    def events(self) -> Iterator[Event]:
        """All events: created, the items in turn, and the one that ends it."""
        yield self._event("response.created", {"response": self._begun}, EventKind.START)
        if self._begun["status"] == "queued":
            yield self._event("response.queued", {"response": self._begun}, EventKind.START)
            self._begun = {**self._begun, "status": "in_progress"}
        yield self._event("response.in_progress", {"response": self._begun}, EventKind.START)
        calls = iter(self._made.calls)
        for index, item in enumerate(self._whole["output"]):
            if item["type"] == "reasoning":
                yield from self._reasoning(index, item)
            elif item["type"] == "web_search_call":
                yield from self._search(index, item)
            elif item["type"] == "message":
                yield from self._message(index, item)
            else:
                yield from self._call(index, item, next(calls))
        yield self._event(_FINISHED[self._whole["status"]], {"response": self._whole}, EventKind.FINISH)

    def _reasoning(self, index: int, item: Json) -> Iterator[Event]:
        place = {"item_id": item["id"], "output_index": index}
        yield self._item("added", index, {**item, "summary": []})
        for number, part in enumerate(item["summary"]):
            at = {**place, "summary_index": number}
            empty = {"type": "summary_text", "text": ""}
            yield self._event("response.reasoning_summary_part.added", {**at, "part": empty})
            for place_of_word, word in enumerate(part["text"].split(" ")):
                delta = f" {word}" if place_of_word else word
                yield self._delta("response.reasoning_summary_text.delta", {**at, "delta": delta})
            yield self._event("response.reasoning_summary_text.done", {**at, "text": part["text"]})
            yield self._event("response.reasoning_summary_part.done", {**at, "part": part})
        yield self._item("done", index, item)

    def _search(self, index: int, item: Json) -> Iterator[Event]:
        place = {"item_id": item["id"], "output_index": index}
        begun = {key: value for key, value in item.items() if key != "action"}
        yield self._item("added", index, {**begun, "status": "in_progress", "action": {"type": "search", "query": ""}})
        for step in ("in_progress", "searching", "completed"):
            yield self._event(f"response.web_search_call.{step}", place)
        yield self._item("done", index, item)

    def _message(self, index: int, item: Json) -> Iterator[Event]:
        at = {"item_id": item["id"], "output_index": index, "content_index": 0}
        part = item["content"][0]
        yield self._item("added", index, {**item, "status": "in_progress", "content": []})
        if part["type"] == "refusal":
            empty: Json = {"type": "refusal", "refusal": ""}
        else:
            empty = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        yield self._event("response.content_part.added", {**at, "part": empty})
        for word in self._made.words:
            if part["type"] == "refusal":
                yield self._delta("response.refusal.delta", {**at, "delta": word})
            else:
                logprobs = [_without_bytes(one) for one in logprobs_of(self._request, (word,))]
                yield self._delta("response.output_text.delta", {**at, "delta": word, "logprobs": logprobs})
        if part["type"] == "refusal":
            yield self._event("response.refusal.done", {**at, "refusal": part["refusal"]})
        else:
            for number, annotation in enumerate(part["annotations"]):
                found = {**at, "annotation_index": number, "annotation": annotation}
                yield self._event("response.output_text.annotation.added", found)
            done = {**at, "text": part["text"], "logprobs": [_without_bytes(one) for one in part["logprobs"]]}
            yield self._event("response.output_text.done", done)
        yield self._event("response.content_part.done", {**at, "part": part})
        yield self._item("done", index, item)

    def _call(self, index: int, item: Json, call: Call) -> Iterator[Event]:
        place = {"item_id": item["id"], "output_index": index}
        name, member = ("custom_tool_call_input", "input") if call.custom else ("function_call_arguments", "arguments")
        yield self._item("added", index, {**item, "status": "in_progress", member: ""})
        for fragment in call.fragments():
            yield self._delta(f"response.{name}.delta", {**place, "delta": fragment})
        yield self._event(f"response.{name}.done", {**place, member: item[member]})
        yield self._item("done", index, item)

    def _item(self, step: str, index: int, item: Json) -> Event:
        return self._event(f"response.output_item.{step}", {"output_index": index, "item": item})

    def _delta(self, name: str, members: Json) -> Event:
        if self._padded:
            members = {**members, "obfuscation": _PADDING[len(members["delta"]) % len(_PADDING) :]}
        return self._event(name, members)

    def _event(self, name: str, members: Json, kind: EventKind = EventKind.DELTA) -> Event:
        event = {"type": name, "sequence_number": self._number, **members}
        self._number += 1
        return Event(kind, b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(event)))


def _without_bytes(logprob: Json) -> Json:
    """A log probability as events have it: without the token's bytes, unlike in the finished item."""
    rivals = [{"token": one["token"], "logprob": one["logprob"]} for one in logprob["top_logprobs"]]
    return {"token": logprob["token"], "logprob": logprob["logprob"], "top_logprobs": rivals}
