"""OpenAI Chat Completions JSON: the members that the gateway itself reads. Everything else passes untouched.

Source: the API reference at platform.openai.com/docs/api-reference/chat, as of 2026-11.
"""

from typing import Annotated, Any, Final

import msgspec

from pointsman.canonical.usage import TokenUsage

Number = int | float
MAX_TOKENS: Final = 2**40  # no bill is larger, and no column overflows
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class MessageHead(msgspec.Struct, frozen=True):
    """A message's role; its content is carried, not read."""

    role: str


class StreamOptions(msgspec.Struct, frozen=True):
    """``stream_options``."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request's members whose types are checked here, so that a mistake is named before any upstream is called."""

    model: str
    messages: list[MessageHead]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, msgspec.Raw]] | None = None
    tool_choice: str | dict[str, msgspec.Raw] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, msgspec.Raw] | None = None
    user: str | None = None


class PromptTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """``usage.prompt_tokens_details``."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class CompletionTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """``usage.completion_tokens_details``."""

    reasoning_tokens: Count | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """``usage`` as it should be; what isn't is read as `OddUsage`."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    def to_token_usage(self) -> TokenUsage:
        """The same figures in the gateway's own names; the parts no larger than the whole."""
        input_tokens, output_tokens = self.prompt_tokens or 0, self.completion_tokens or 0
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        cache_read = cache_write = reasoning = 0
        if prompt is not None and (prompt.cached_tokens or prompt.cache_write_tokens):
            cache_read = min(prompt.cached_tokens or 0, input_tokens)
            cache_write = min(prompt.cache_write_tokens or 0, input_tokens - cache_read)
        if completion is not None and completion.reasoning_tokens:
            reasoning = min(completion.reasoning_tokens, output_tokens)
        return TokenUsage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            reasoning_tokens=reasoning,
        )


class OddDetails(msgspec.Struct, frozen=True):
    """Details of a usage object with figures that are no counts."""

    cached_tokens: Number | None = None
    cache_write_tokens: Number | None = None
    reasoning_tokens: Number | None = None


class OddUsage(msgspec.Struct, frozen=True):
    """``usage`` of a host that sends 10.0, -1 or 2^70."""

    prompt_tokens: Number | None = None
    completion_tokens: Number | None = None
    prompt_tokens_details: OddDetails | None = None
    completion_tokens_details: OddDetails | None = None

    def to_usage(self) -> Usage:
        """The nearest usage that makes sense. Raises ValueError or OverflowError for nan and infinities."""
        prompt = self.prompt_tokens_details or OddDetails()
        completion = self.completion_tokens_details or OddDetails()
        return Usage(
            prompt_tokens=_nearest_count(self.prompt_tokens),
            completion_tokens=_nearest_count(self.completion_tokens),
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=_nearest_count(prompt.cached_tokens),
                cache_write_tokens=_nearest_count(prompt.cache_write_tokens),
            ),
            completion_tokens_details=CompletionTokensDetails(
                reasoning_tokens=_nearest_count(completion.reasoning_tokens)
            ),
        )


def _nearest_count(value: Number | None) -> int:
    return 0 if value is None else max(0, min(int(value), MAX_TOKENS))


ABSENT: Final = msgspec.Raw()  # a member that was not sent; msgspec takes no union of Raw with None


def is_given(raw: msgspec.Raw) -> bool:
    """True when a member was sent and is not null."""
    return raw is not ABSENT and bytes(raw) not in (b"", b"null")


class Choice(msgspec.Struct, frozen=True):
    """A choice's end, in an answer or in one event of a stream."""

    index: int | None = None
    finish_reason: str | None = None


class SoundResponse(msgspec.Struct, frozen=True):
    """What is read of an answer whose usage is as it should be: nearly every one."""

    model: str | None = None
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = ABSENT


class ChatResponse(msgspec.Struct, frozen=True):
    """What is read of an answer, or of one event of a stream, whatever its usage looks like."""

    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class OpeningChoice(msgspec.Struct, frozen=True):
    """A choice in one of a stream's first events."""

    delta: dict[str, Any] | None = None
    finish_reason: str | None = None

    def has_content(self) -> bool:
        """Whether it says anything beyond who speaks."""
        if self.delta is None or self.finish_reason:  # some hosts say "" as long as there is none
            return True
        return any(name != "role" and value not in (None, "", [], {}) for name, value in self.delta.items())


class Opening(msgspec.Struct, frozen=True):
    """What is read of a stream's first events."""

    choices: list[OpeningChoice] | None = None
    error: msgspec.Raw = ABSENT


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """The inside of OpenAI's error object. ``availability`` is ours, after OpenRouter's: why nothing could serve it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    availability: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's error object."""

    error: ErrorDetail


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``/v1/models``."""

    id: str
    created: int
    owned_by: str
    object: str = "model"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``/v1/models``."""

    data: list[ModelObject]
    object: str = "list"


Fields = dict[str, msgspec.Raw]
