"""Google's generateContent as a simulator answers it: the Gemini API and Vertex AI on one port, as Google has them."""

import hmac
import re
import time
from itertools import count
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

from . import gemini_errors as errors
from .behaviour import MODEL_MARK, Behaviour
from .gemini_completion import answers, block_reason, details, prompt_by_modality, usage
from .gemini_files import GeminiFiles
from .gemini_models import gemini_list, gemini_model, vertex_list, vertex_model
from .gemini_parts import AnswerParts, Form
from .gemini_request import InvalidRequest, Json, parse, parts_of
from .gemini_rules import check_model, check_values
from .gemini_signature import check_signatures
from .gemini_stream import ARRAY_TYPE, EVENT_STREAM, response_stream
from .reply import Headers, Reply, Request

_MODELS: Final = re.compile(r"/(?:v1|v1alpha|v1beta)/models(?:/(?P<model>[^:/]+)(?::(?P<method>\w+))?)?")
_VERTEX: Final = re.compile(
    r"/(?:v1|v1beta1)/(?:projects/[^/]+/locations/[^/]+/)?publishers/(?P<publisher>[^/]+)/models"
    r"(?:/(?P<model>[^:/]+)(?::(?P<method>\w+))?)?"
)
# Families whose answers carry no signatures that must come back.
_OLD: Final = re.compile(r"gemini-[12](\b|\.)")
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a path names: the API, the model without or with directives, and the method behind the colon."""

    vertex: bool
    model: str = ""
    method: str = ""

    @property
    def bare(self) -> str:
        """The model's name without directives."""
        return self.model.partition(MODEL_MARK)[0]


class Gemini:
    """``generateContent``, ``streamGenerateContent`` (SSE and array), ``countTokens``, list and get of models, files.

    The Gemini API is at ``/v1beta/models`` (key in ``x-goog-api-key`` or ``?key=``), Vertex AI at
    ``/v1/projects/P/locations/L/publishers/google/models`` (bearer token) and, for keys, at ``/v1/publishers/...``.
    ``api_key``: when set, any other key or token is refused. ``models``: what the lists show; with ``only_listed``
    any other model gets 404. ``strict``: refuse wrong requests as Google does.

    Models make thought signatures and demand them back in the current turn, as Gemini 3 does; those called
    ``gemini-1*`` or ``gemini-2*`` don't demand them. In the last user text, "finish with SAFETY" (or any other finish
    reason) ends the answer so, and "block with OTHER" refuses the prompt.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("sim-model",),
        only_listed: bool = False,
        strict: bool = True,
    ) -> None:
        self._api_key = api_key
        self._models = models
        self._only_listed = only_listed
        self._strict = strict
        self._numbers = count(1)
        self.files = GeminiFiles()

    def model_of(self, request: Request) -> str:
        """The model in a request's path, directives included, or an empty string."""
        target = _target(request)
        return "" if target is None or request.method != "POST" else target.model

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """Google's answer to ``request``, errors included."""
        headers = _headers(behaviour)
        if self.files.takes(request.path):
            place = errors.Place(vertex=False, in_array=False, headers=headers)
            refused = None if self.files.is_part(request) else self._check_credential(request, place)
            return refused or self.files.answer(request, place)
        target = _target(request)
        if target is None or request.method != ("POST" if target.method else "GET"):
            return errors.unknown_path(request.path, headers)
        place = _place(request, target, behaviour)
        if refused := self._check_credential(request, place):
            return refused
        if not target.method:
            return self._models_view(request, target, place)
        if target.method not in _METHODS:
            return errors.unknown_path(request.path, headers)
        if self._only_listed and target.bare not in self._models:
            return errors.unknown_model(place, target.bare, target.method)
        try:
            if target.method == "countTokens":
                return _json(self._count(request, target), headers)
            return self._generate(request, target, behaviour)
        except InvalidRequest as invalid:
            return errors.error_reply(place, invalid.code, invalid.message, invalid.status, invalid.details)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """Google's error for a fault that refuses; of a filtered prompt an answer tells, with status 200."""
        if fault == "content_filter":
            return self.answer(request, msgspec.structs.replace(behaviour, filtered="prompt"))
        target = _target(request) or _Target(vertex=False)
        place = _place(request, target, behaviour)
        if fault == "model_not_found":
            return errors.unknown_model(place, target.bare, target.method)
        return errors.refusal(fault, target.bare, place, behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 with the status ``SIMULATOR_DIRECTIVE``: not Google's, but visible in any client."""
        place = errors.Place(vertex=False, in_array=False, headers=_headers(Behaviour()))
        return errors.error_reply(place, 400, message, "SIMULATOR_DIRECTIVE")

    def _check_credential(self, request: Request, place: errors.Place) -> Reply | None:
        if self._api_key is None:
            return None
        key = request.header("x-goog-api-key") or (_query(request).get("key") or [""])[0]
        token = _token(request)
        if not key and not token:
            return errors.missing_credential(place)
        if not hmac.compare_digest((key or token).encode(), self._api_key.encode()):
            return errors.wrong_credential(place, token=not key)
        return None

    def _models_view(self, request: Request, target: _Target, place: errors.Place) -> Reply:
        if target.model:
            if target.bare not in self._models:
                return errors.unknown_model(place, target.bare, "generateContent")
            made = vertex_model(target.bare) if target.vertex else gemini_model(target.bare)
            return _json(made, place.headers)
        query = {name: values[0] for name, values in _query(request).items()}
        try:
            page = vertex_list(self._models, query) if target.vertex else gemini_list(self._models, query)
        except InvalidRequest as invalid:
            return errors.error_reply(place, invalid.code, invalid.message, invalid.status, invalid.details)
        return _json(page, place.headers)

    def _count(self, request: Request, target: _Target) -> Json:
        body = parse(request.body, "CountTokensRequest", vertex=target.vertex)
        counted = body.get("generateContentRequest") or body
        if body.get("contents") and "generateContentRequest" in body:
            raise InvalidRequest("Only one of contents and generate_content_request can be set.")
        if self._strict:
            check_values({**counted, "generationConfig": {}})
        counts = prompt_by_modality(counted)
        answer: Json = {"totalTokens": sum(counts.values())}
        if target.vertex:
            answer["totalBillableCharacters"] = sum(len(part.get("text", "")) for part in parts_of(counted))
        answer["promptTokensDetails"] = details(counts)
        return answer

    def _generate(self, request: Request, target: _Target, behaviour: Behaviour) -> Reply:
        body = parse(request.body, "GenerateContentRequest", vertex=target.vertex)
        old = _OLD.match(target.bare) is not None
        if self._strict:
            check_values(body)
            check_model(body, old=old)
        check_signatures(body.get("contents") or [], required=not old)
        form = Form(
            vertex=target.vertex,
            model=target.bare,
            response_id=self._response_id(),
            created_us=time.time_ns() // 1000,
            seed=request.body,
        )
        reason = "PROHIBITED_CONTENT" if behaviour.filtered == "prompt" else block_reason(body)
        made = [] if reason else answers(body, behaviour)
        used = usage(body, made, behaviour, vertex=target.vertex)
        parts = AnswerParts(form, body, made, used, reason)
        headers = _headers(behaviour)
        if target.method == "generateContent":
            return _json(parts.whole(), headers)
        sse = _is_sse(request)
        return Reply(
            status=200,
            content_type=EVENT_STREAM if sse else ARRAY_TYPE,
            headers=headers,
            events=response_stream(parts, sse=sse),
            failure=errors.server_failure(),
            failure_event=b"" if sse else b"\n,\r\n%b\n]\n" % errors.server_failure(),
        )

    def _response_id(self) -> str:
        digest = hmac.digest(b"response", b"%d" % next(self._numbers), "sha256")
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:22])


_METHODS: Final = frozenset({"generateContent", "streamGenerateContent", "countTokens"})


def _target(request: Request) -> _Target | None:
    path = unquote(request.path.partition("?")[0])
    if found := _VERTEX.fullmatch(path):
        if found["publisher"] != "google":
            return None
        return _Target(vertex=True, model=found["model"] or "", method=found["method"] or "")
    if found := _MODELS.fullmatch(path):
        return _Target(vertex=False, model=found["model"] or "", method=found["method"] or "")
    return None


def _place(request: Request, target: _Target, behaviour: Behaviour) -> errors.Place:
    in_array = target.method == "streamGenerateContent" and not _is_sse(request)
    return errors.Place(vertex=target.vertex, in_array=in_array, headers=_headers(behaviour))


def _query(request: Request) -> dict[str, list[str]]:
    return parse_qs(request.path.partition("?")[2])


def _is_sse(request: Request) -> bool:
    return "sse" in (_query(request).get("alt") or _query(request).get("$alt") or [])


def _token(request: Request) -> str:
    scheme, _, token = request.header("authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _headers(behaviour: Behaviour) -> Headers:
    return (
        ("vary", "Origin"),
        ("vary", "X-Origin"),
        ("vary", "Referer"),
        ("server", "scaffolding on HTTPServer2"),
        ("x-xss-protection", "0"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-content-type-options", "nosniff"),
        ("server-timing", f"gfet4t7; dur={max(1, round(behaviour.first_token_ms))}"),
        ("alt-svc", 'h3=":443"; ma=2592000,h3-29=":443"; ma=2592000'),
    )


def _json(body: Json, headers: Headers) -> Reply:
    """A whole answer: indented by two, as Google writes them."""
    formatted = msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"
    return Reply(
        status=200, content_type=errors.JSON_TYPE, headers=headers, body=formatted, failure=errors.server_failure()
    )
