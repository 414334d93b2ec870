"""The parts of a simulated Gemini answer in Google's JSON: whole, and in the pieces in which it is streamed."""

import base64
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from .gemini_completion import Answer, Call, thinks, uses_server_tools
from .gemini_request import Json, config_of, last_user_text, objects_in
from .gemini_signature import signature_of_call, signature_of_text

_CATEGORIES: Final = (
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
)
_WITHOUT_CONTENT: Final = frozenset({"STOP", "MAX_TOKENS"})
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of one answer share: the API, the model, ids and the time in microseconds since 1970."""

    vertex: bool
    model: str
    response_id: str
    created_us: int
    seed: bytes


class AnswerParts:
    """One answer: ``whole`` is the buffered response; ``openings`` ... ``closing`` are the pieces of a stream."""

    def __init__(self, form: Form, request: Json, made: list[Answer], used: Json | None, block: str | None) -> None:
        self._form = form
        self._request = request
        self._used = used
        self._block = block
        self.made = made
        self._shows_thoughts = bool(
            config_of(config_of(request), "thinkingConfig").get("includeThoughts") and thinks(request)
        )

    def whole(self) -> Json:
        """The buffered response."""
        if self._block is not None:
            return self.blocked()
        candidates = [self._candidate(index, one) for index, one in enumerate(self.made)]
        return self._framed(candidates, self._used)

    @property
    def is_blocked(self) -> bool:
        """True when the prompt was refused."""
        return self._block is not None

    def blocked(self) -> Json:
        """The response to a prompt that was refused."""
        ratings = [{**one, "blocked": True} if number == 1 else one for number, one in enumerate(self._ratings())]
        feedback = {"blockReason": self._block, "safetyRatings": ratings}
        used = None
        if self._used is not None:
            prompt = self._used["promptTokenCount"]
            used = {"promptTokenCount": prompt, "totalTokenCount": prompt}
        return {"promptFeedback": feedback, **self._framed([], used)}

    def pieces(self, index: int) -> Iterator[Json]:
        """The chunks of one candidate, without its last one."""
        made = self.made[index]
        if self._shows_thoughts:
            for token in made.thoughts:
                yield self._chunk(index, [{"text": token, "thought": True}])
        for part in made.media:
            yield self._chunk(index, [part])
        for token in made.words:
            chunk = self._chunk(index, [{"text": token}])
            chunk["candidates"][0].update(self._logprobs((token,)))
            yield chunk
        for position, call in enumerate(made.calls):
            yield self._chunk(index, [self._call_part(index, position, call)])

    def closing(self, index: int) -> Json:
        """The last chunk of one candidate: the reason why it ends, and everything known only then."""
        made = self.made[index]
        # A stream brings the signature of its text in a part of its own.
        signed = [{"text": "", **self._text_signature()}] if made.words.count else []
        chunk = self._chunk(index, signed or ([{"text": ""}] if made.finish_reason in _WITHOUT_CONTENT else []))
        chunk["candidates"][0].update(self._ending(made))
        if self._used is not None:
            chunk["usageMetadata"] = self._used
        return chunk

    def _candidate(self, index: int, made: Answer) -> Json:
        parts: list[Json] = []
        if self._shows_thoughts and made.thoughts.count:
            parts.append({"text": "".join(made.thoughts), "thought": True})
        parts += made.media
        if made.words.count:
            parts.append({"text": "".join(made.words), **self._text_signature()})
        parts += [self._call_part(index, position, call) for position, call in enumerate(made.calls)]
        candidate: Json = {}
        if parts or made.finish_reason in _WITHOUT_CONTENT:
            candidate["content"] = {**({"parts": parts} if parts else {}), "role": "model"}
        candidate["index"] = index
        candidate.update(self._ending(made))
        candidate.update(self._logprobs(tuple(made.words)))
        return candidate

    def _ending(self, made: Answer) -> Json:
        ending: Json = {"finishReason": made.finish_reason}
        if made.finish_reason not in _WITHOUT_CONTENT:
            ending["finishMessage"] = f"The simulated model ended with {made.finish_reason}."
        if made.finish_reason == "SAFETY" or self._form.vertex:
            ending["safetyRatings"] = self._ratings(blocked=made.finish_reason == "SAFETY")
        if uses_server_tools(self._request, made):
            ending.update(self._server_tool_metadata(made))
        if made.words.count and config_of(self._request).get("responseLogprobs"):
            ending["avgLogprobs"] = -0.1
        return ending

    def _server_tool_metadata(self, made: Answer) -> Json:
        tools = {name for tool in objects_in(self._request, "tools") for name in tool}
        metadata: Json = {}
        if tools & {"googleSearch", "googleSearchRetrieval"}:
            text = "".join(made.words)
            metadata["groundingMetadata"] = {
                "webSearchQueries": [last_user_text(self._request)[:80]],
                "searchEntryPoint": {"renderedContent": "<div>simulated</div>"},
                "groundingChunks": [{"web": {"uri": "https://example.com/a", "title": "example.com"}}],
                "groundingSupports": [
                    {
                        "segment": {"startIndex": 0, "endIndex": len(text.encode()), "text": text},
                        "groundingChunkIndices": [0],
                    }
                ],
            }
        if "urlContext" in tools:
            retrieved = {"retrievedUrl": "https://example.com/", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_SUCCESS"}
            metadata["urlContextMetadata"] = {"urlMetadata": [retrieved]}
        return metadata

    def _ratings(self, *, blocked: bool = False) -> list[Json]:
        ratings: list[Json] = []
        for number, category in enumerate(_CATEGORIES):
            high = blocked and number == 1
            rating: Json = {"category": category, "probability": "HIGH" if high else "NEGLIGIBLE"}
            if self._form.vertex:
                severity = "HARM_SEVERITY_HIGH" if high else "HARM_SEVERITY_NEGLIGIBLE"
                rating |= {"probabilityScore": 0.05, "severity": severity, "severityScore": 0.05}
            ratings.append({**rating, "blocked": True} if high else rating)
        return ratings

    def _call_part(self, index: int, position: int, call: Call) -> Json:
        digest = hmac.digest(self._form.seed, b"%d %d" % (index, position), "sha256")
        name = "".join(_ID_LETTERS[byte % len(_ID_LETTERS)] for byte in digest[:8])
        part: Json = {"functionCall": {"id": name, "name": call.name, "args": call.arguments}}
        if position == 0:
            part["thoughtSignature"] = _base64(signature_of_call(call.name, call.arguments))
        return part

    def _text_signature(self) -> Json:
        return {"thoughtSignature": _base64(signature_of_text())} if thinks(self._request) else {}

    def _logprobs(self, tokens: tuple[str, ...]) -> Json:
        config = config_of(self._request)
        if not config.get("responseLogprobs") or not tokens:
            return {}
        wanted = config.get("logprobs") or 0
        chosen = [_logprob(token, 0) for token in tokens]
        result: Json = {"chosenCandidates": chosen}
        if wanted:
            result["topCandidates"] = [
                {"candidates": [_logprob(token if not rank else f"{token}{rank}", rank) for rank in range(wanted)]}
                for token in tokens
            ]
        return {"logprobsResult": result}

    def _chunk(self, index: int, parts: list[Json]) -> Json:
        candidate: Json = {"content": {"parts": parts, "role": "model"}} if parts else {}
        candidate["index"] = index
        running = None
        if self._used is not None:
            prompt = self._used["promptTokenCount"]
            running = {"promptTokenCount": prompt, "totalTokenCount": prompt}
        return self._framed([candidate], running)

    def _framed(self, candidates: list[Json], used: Json | None) -> Json:
        framed: Json = {"candidates": candidates} if candidates else {}
        if used is not None:
            framed["usageMetadata"] = used
        framed["modelVersion"] = self._form.model
        if self._form.vertex:
            made_at = datetime.fromtimestamp(self._form.created_us / 1_000_000, UTC)
            framed["createTime"] = made_at.isoformat().replace("+00:00", "Z")
        framed["responseId"] = self._form.response_id
        return framed


def _logprob(token: str, rank: int) -> Json:
    return {"token": token, "tokenId": sum(token.encode()) % 65_536, "logProbability": -0.01 * len(token) - rank}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
