"""OpenAI's other operations beside chat: embeddings, images, audio, moderations."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import msgspec

from . import openai_audio as audio
from . import openai_embeddings as embeddings
from . import openai_errors as errors
from . import openai_images as images
from .behaviour import MODEL_MARK, Behaviour
from .forms import Form, parse_form
from .openai_chat import OpenAIChat
from .openai_chat_stream import EVENT_STREAM
from .openai_request import InvalidRequest, Json, parse
from .reply import Headers, Reply, Request

PATHS: Final = (
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
)


class OpenAIOperations(OpenAIChat):
    """Everything that `OpenAIChat` answers, and the other operations of OpenAI's API that need no state."""

    def model_of(self, request: Request) -> str:
        """The ``model`` of a JSON body or of a form, or an empty string."""
        form = parse_form(request.header("content-type"), request.body)
        return form.text("model") or "" if form is not None else super().model_of(request)

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """OpenAI's answer, errors included."""
        path = request.path.partition("?")[0]
        handler = _HANDLERS.get(path)
        if handler is None:
            return super().answer(request, behaviour)
        headers = self.headers(behaviour)
        if self._api_key is not None and (refused := self._check_key(request, headers)):
            return refused
        if request.method != "POST":
            return errors.wrong_method(request.method, path, headers)
        try:
            self._check_listed(request)
            return handler(Call(request, behaviour, headers, self._serial()))
        except InvalidRequest as refusal:
            status = 404 if refusal.code == "model_not_found" else 400
            return errors.error_reply(status, refusal.message, headers, param=refusal.param, code=refusal.code)

    def _check_listed(self, request: Request) -> None:
        model = self.model_of(request).partition(MODEL_MARK)[0]
        if self._only_listed and model and model not in self._models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise InvalidRequest(message, None, "model_not_found")


class Call:
    """One request on its way to an answer."""

    def __init__(self, request: Request, behaviour: Behaviour, headers: Headers, serial: str) -> None:
        self.request = request
        self.behaviour = behaviour
        self.headers = headers
        self.serial = serial

    def json(self) -> Json:
        """The JSON body; InvalidRequest when there is none."""
        return parse(self.request.body)

    def form(self) -> Form:
        """The form; InvalidRequest when there is none."""
        form = parse_form(self.request.header("content-type"), self.request.body)
        if form is None:
            raise InvalidRequest("Could not parse multipart form")
        return form

    def reply(self, body: Json) -> Reply:
        """A JSON answer."""
        return self.whole(errors.JSON_TYPE, msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n")

    def whole(self, content_type: str, body: bytes) -> Reply:
        """A buffered answer."""
        failure = errors.server_failure()
        return Reply(status=200, content_type=content_type, headers=self.headers, body=body, failure=failure)


def _embeddings(call: Call) -> Reply:
    return call.reply(embeddings.embed(call.json(), call.behaviour))


def _moderations(call: Call) -> Reply:
    return call.reply(embeddings.moderate(call.json(), call.serial))


def _generations(call: Call) -> Reply:
    return _images(call, images.order_generation(call.json()))


def _edits(call: Call) -> Reply:
    return _images(call, images.order_edit(call.form()))


def _images(call: Call, order: images.ImageOrder) -> Reply:
    if not order.stream:
        return call.reply(images.whole(order, call.behaviour))
    return Reply(
        status=200,
        content_type=EVENT_STREAM,
        headers=call.headers,
        events=images.events(order, call.behaviour),
        failure=errors.server_failure(),
    )


def _speech(call: Call) -> Reply:
    order = audio.order_speech(call.json())
    return Reply(
        status=200,
        content_type=EVENT_STREAM if order.as_events else audio.CONTENT_TYPES[order.format],
        headers=call.headers,
        events=audio.speech_pieces(order, call.behaviour),
        failure=errors.server_failure(),
    )


def _transcriptions(call: Call) -> Reply:
    order = audio.order_transcript(call.form(), "transcribe")
    if not order.stream:
        return call.whole(*audio.transcript(order, call.behaviour))
    return Reply(
        status=200,
        content_type=EVENT_STREAM,
        headers=call.headers,
        events=audio.transcript_events(order, call.behaviour),
        failure=errors.server_failure(),
    )


def _translations(call: Call) -> Reply:
    return call.whole(*audio.transcript(audio.order_transcript(call.form(), "translate"), call.behaviour))


_HANDLERS: Final = MappingProxyType[str, Callable[[Call], Reply]](
    dict(
        zip(
            PATHS,
            (_embeddings, _moderations, _generations, _edits, _speech, _transcriptions, _translations),
            strict=True,
        )
    )
)
