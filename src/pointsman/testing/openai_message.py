"""A whole chat completion as OpenAI writes it, and the pieces that streams are made of too."""

import base64
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec

from .openai_completion import Completion, ToolCall
from .openai_flavours import Flavour, details_of, short_id
from .openai_request import Json, object_in

FINGERPRINT: Final = "fp_simulated0"
AUDIO_LIFETIME_S: Final = 3600
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def chat_completion(
    identity: Mapping[str, object], body: Json, made: list[Completion], used: Json | None, flavour: Flavour
) -> Json:
    """The whole answer."""
    answer: Json = {
        "id": identity["id"],
        "object": "chat.completion",
        "created": identity["created"],
        "model": identity["model"],
        "choices": [_choice(identity, body, index, one, flavour) for index, one in enumerate(made)],
    }
    if used is not None:
        answer["usage"] = used
    if flavour.usage_in == "x_groq":
        answer["x_groq"] = {"id": f"req_{identity['id']}"}
    answer["service_tier"] = tier(body)
    answer["system_fingerprint"] = FINGERPRINT
    return answer


def _choice(identity: Mapping[str, object], body: Json, index: int, made: Completion, flavour: Flavour) -> Json:
    message: Json = {"role": "assistant", "content": None}
    if made.refusal is None and not made.calls and not made.spoken:
        message["content"] = "".join(made.words)
    if made.calls:
        message["tool_calls"] = [
            {
                "id": call_id(str(identity["id"]), index, position, flavour),
                **call_object(call, call.arguments),
            }
            for position, call in enumerate(made.calls)
        ]
    if made.spoken and made.refusal is None and not made.calls:
        message["audio"] = audio_of(identity, body, "".join(made.words))
    if made.reasoning:
        _add_reasoning(message, "".join(made.reasoning), flavour)
    message["refusal"] = made.refusal
    message["annotations"] = [annotation("".join(made.words))] if made.cited and not made.calls else []
    logged = None if made.calls or made.refusal is not None else logprobs(body, tuple(made.words))
    return {"index": index, "message": message, "logprobs": logged, "finish_reason": made.finish_reason}


def _add_reasoning(message: Json, text: str, flavour: Flavour) -> None:
    if flavour.reasoning == "reasoning_content":
        message["reasoning_content"] = text
    elif flavour.reasoning == "reasoning":
        message["reasoning"] = text
    elif flavour.reasoning == "reasoning_details":
        message["reasoning"] = text
        message["reasoning_details"] = details_of(text)
    elif flavour.reasoning == "think_tags":
        message["content"] = f"<think>\n{text}\n</think>\n\n{message['content'] or ''}"
    elif flavour.reasoning == "parts":
        said = [{"type": "text", "text": message["content"]}] if message["content"] else []
        message["content"] = [thinking_part(text), *said]


def thinking_part(text: str) -> Json:
    """Mistral's part for what was thought."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def call_object(call: ToolCall, arguments: str) -> Json:
    """A call's members beside its id."""
    if call.kind == "custom":
        return {"type": "custom", "custom": {"name": call.name, "input": arguments}}
    return {"type": "function", "function": {"name": call.name, "arguments": arguments}}


def call_id(seed: str, choice: int, position: int, flavour: Flavour) -> str:
    """The host's form of a call id; the same call has the same id in every event of an answer."""
    if flavour.short_ids:
        return short_id(f"{seed}/{choice}/{position}")
    digest = hmac.digest(seed.encode(), b"%d %d" % (choice, position), "sha256")
    return "call_" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:24])


def audio_of(identity: Mapping[str, object], body: Json, said: str) -> Json:
    """A spoken answer; its "sound" is the transcript's own bytes, so that a test can tell whether all of them came."""
    return {
        "id": audio_id(identity),
        "data": base64.b64encode(said.encode()).decode(),
        "expires_at": int(str(identity["created"])) + AUDIO_LIFETIME_S,
        "transcript": said,
    }


def audio_id(identity: Mapping[str, object]) -> str:
    """The name of an answer's sound."""
    return f"audio_{str(identity['id']).removeprefix('chatcmpl-')}"


def annotation(text: str) -> Json:
    """A source for the whole of a text."""
    cited = {"url": "https://example.com/source", "title": "A source", "start_index": 0, "end_index": len(text)}
    return {"type": "url_citation", "url_citation": cited}


def logprobs(body: Json, tokens: tuple[str, ...]) -> Json | None:
    """Log probabilities of ``tokens`` when the request asks for them: the longer the token, the less likely."""
    if not body.get("logprobs"):
        return None
    wanted = body.get("top_logprobs") or 0
    return {
        "content": [{**logprob(token, 0), "top_logprobs": _alternatives(token, wanted)} for token in tokens],
        "refusal": None,
    }


def _alternatives(token: str, wanted: int) -> list[Json]:
    return [logprob(token if rank == 0 else f"{token}{rank}", rank) for rank in range(wanted)]


def logprob(token: str, rank: int) -> Json:
    """One token's; rivals have higher ranks."""
    return {"token": token, "logprob": -0.01 * len(token) - rank, "bytes": list(token.encode())}


def tier(body: Json) -> str:
    """The service tier that served the request."""
    wanted = body.get("service_tier")
    return {"fast": "priority", "auto": "default", None: "default"}.get(wanted, wanted) or "default"


def wants_usage(body: Json) -> bool:
    """Whether a stream's usage was asked for."""
    return bool(object_in(body, "stream_options").get("include_usage"))


encode: Final = msgspec.json.encode
