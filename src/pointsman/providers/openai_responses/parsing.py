"""A whole response in our own words."""

from types import MappingProxyType
from typing import Final

from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, Extra, ToolCallPart
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai_responses.failures import failure_of
from pointsman.wire.members import Members, read_answer
from pointsman.wire.openai_responses import RESPONSE_MEMBERS, WIRE
from pointsman.wire.openai_responses.content import read_logprobs
from pointsman.wire.openai_responses.items import read_output
from pointsman.wire.openai_responses.usage import read_usage, usage_beyond

_REASONS: Final = MappingProxyType(
    {
        "max_output_tokens": FinishReason.LENGTH,
        "content_filter": FinishReason.CONTENT_FILTER,
        "max_messages": FinishReason.PAUSE,
        "steered": FinishReason.PAUSE,
    }
)


def parse_response(body: bytes, identity: Identity) -> Response:
    """A buffered answer. Raises the error that a failed one holds, or UPSTREAM_ERROR when it isn't whole."""
    members = read_answer(body, "response")
    if "status" not in members and isinstance(members.value.get("error"), dict):
        raise failure_of(members.value["error"])
    reason, native = read_ending(members)
    parts = read_output(members.objects("output"))
    if "output" not in members:
        raise members.wrong("output", "is missing")
    choice = Choice(
        parts=parts,
        finish_reason=finish_of(parts, reason),
        native_finish_reason=native,
        logprobs=all_logprobs(members) or None,
    )
    return Response(
        wire=WIRE,
        id=members.string("id"),
        model=members.string("model"),
        created=created_of(members),
        choices=[choice],
        usage=read_usage(members),
        service_tier=members.string("service_tier"),
        extra=beyond(members),
    )


def read_ending(members: Members) -> tuple[FinishReason | None, str]:
    """Why an answer is incomplete (None: it is complete), and the upstream's own word for how it ended.

    Raises the error of a response that failed, was cancelled or has not ended yet.
    """
    status = members.string("status") or "completed"
    if status == "completed":
        return None, status
    if status == "incomplete":
        details = members.object("incomplete_details")
        word = details.string("reason") if details is not None else None
        return _REASONS.get(word or "", FinishReason.LENGTH), word or status
    if status == "failed":
        raise failure_of(members.value.get("error"))
    if status == "cancelled":
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream cancelled its answer")
    raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer has not ended yet")


def finish_of(parts: list[AnyPart], reason: FinishReason | None) -> FinishReason:
    """Why an answer ended: ``reason`` for an incomplete one, else calls that wait for their results, or its end."""
    if reason is not None:
        return reason
    return FinishReason.TOOL_CALLS if any(isinstance(part, ToolCallPart) for part in parts) else FinishReason.STOP


def created_of(members: Members) -> int | None:
    """When the upstream began, in whole seconds."""
    created = members.number("created_at")
    return None if created is None else int(created)


def beyond(members: Members) -> Extra:
    """What an upstream of this API says and we have no word for."""
    told = {name: members.value[name] for name in RESPONSE_MEMBERS if members.value.get(name) is not None}
    return told | usage_beyond(members)


def all_logprobs(members: Members) -> list[TokenLogprob]:
    """The log probabilities of all texts."""
    found: list[TokenLogprob] = []
    for item in members.objects("output"):
        if item.value.get("type") == "message":
            for part in item.objects("content"):
                found += read_logprobs(part)
    return found
