"""OpenAI's operations on pictures and sound, and moderations, as clients speak them: read as far as routing needs.

Source: the API reference at platform.openai.com/docs/api-reference, as of 2026-11.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.passed import Form, PassedRequest
from pointsman.dialects.openai_chat import MAX_MODEL_LENGTH, render_error, render_limits, render_stream_error
from pointsman.errors import GatewayError, Kind
from pointsman.wire.bodies import refuse_other_models
from pointsman.wire.json_faults import describe
from pointsman.wire.members import wrong_request
from pointsman.wire.multipart import parse_form, with_field

MAX_RESULTS: Final = 128
DEFAULT_MODERATION_MODEL: Final = "omni-moderation-latest"

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class MediaDialect:
    """One operation: its place under ``/v1``, what it demands, and how its bodies come."""

    render_error = staticmethod(render_error)
    render_limits = staticmethod(render_limits)
    render_stream_error = staticmethod(render_stream_error)

    def __init__(
        self,
        name: str,
        path: str,
        required: tuple[str, ...],
        *,
        form: bool = False,
        default_model: str | None = None,
    ) -> None:
        """``required``: the members that must be there, files included; ``form``: bodies are multipart forms."""
        self.NAME = self.WIRE = f"openai.{name}"
        self.OPERATION = name
        self._path = path
        self._required = required
        self._form = form
        self._default_model = default_model

    def read_request(self, body: bytes, call: ClientCall) -> PassedRequest:
        """Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
        if self._form:
            return self._read_form(parse_form(call.headers.get(b"content-type", b""), body), call)
        fields = _read_fields(body, self._required)
        self._check(lambda name: bytes(fields.get(name, b"null")) != b"null")
        model = self._model(call.model or _text(fields, "model"))
        fields["model"] = msgspec.Raw(_encode(model))
        count = _value(fields, "n")
        return PassedRequest(
            wire=self.WIRE,
            model=model,
            path=self._path,
            stream=_value(fields, "stream") is True or _value(fields, "stream_format") == "sse",
            results=count if type(count) is int and 1 <= count <= MAX_RESULTS else 1,
            fields=fields,
        )

    def _read_form(self, form: Form, call: ClientCall) -> PassedRequest:
        names = {part.name.partition("[")[0] for part in form.parts}
        self._check(names.__contains__)
        given = [part for part in form.parts if part.name == "model"]
        if len(given) > 1 or any(part.filename is not None for part in given):
            raise wrong_request("model", "must be one field of the form")
        if any(_is_like_model(part.name) for part in form.parts):
            raise wrong_request("model", "is written in another way, too")
        model = self._model(call.model or (_utf8(given[0].content, "model") if given else None))
        stream = form.field("stream")
        count = form.field("n")
        number = count.content.decode("ascii", "replace") if count is not None else ""
        return PassedRequest(
            wire=self.WIRE,
            model=model,
            path=self._path,
            stream=stream is not None and stream.content.lower() in (b"true", b"1"),
            results=int(number) if number.isdecimal() and 1 <= int(number[:4]) <= MAX_RESULTS else 1,
            form=with_field(form, "model", model),
        )

    def _check(self, there: Callable[[str], bool]) -> None:
        for name in self._required:
            if not there(name):
                raise wrong_request(name, "is missing")

    def _model(self, model: str | None) -> str:
        model = model or self._default_model
        if not model:
            raise wrong_request("model", "is missing")
        if len(model) > MAX_MODEL_LENGTH:
            raise wrong_request("model", f"is longer than {MAX_MODEL_LENGTH} characters")
        return model


IMAGE_GENERATIONS: Final = MediaDialect("images.generations", "/images/generations", ("prompt",))
IMAGE_EDITS: Final = MediaDialect("images.edits", "/images/edits", ("image", "prompt"), form=True)
SPEECH: Final = MediaDialect("audio.speech", "/audio/speech", ("input",))
TRANSCRIPTIONS: Final = MediaDialect("audio.transcriptions", "/audio/transcriptions", ("file",), form=True)
TRANSLATIONS: Final = MediaDialect("audio.translations", "/audio/translations", ("file",), form=True)
MODERATIONS: Final = MediaDialect("moderations", "/moderations", ("input",), default_model=DEFAULT_MODERATION_MODEL)


def _read_fields(body: bytes, required: tuple[str, ...]) -> dict[str, msgspec.Raw]:
    if not body:
        needed = " and ".join(f"'{name}'" for name in ("model", *required))
        raise GatewayError(Kind.INVALID_REQUEST, f"the request has no body; send a JSON object with {needed}")
    try:
        if not body.isascii():
            body.decode()
        fields = _fields.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise describe(error, body) from None
    refuse_other_models(fields)
    return fields


def _is_like_model(name: str) -> bool:
    """Whether servers may take a field for ``model`` that isn't it: ``Model``, ``model[]``, ``model `` with a space."""
    return name != "model" and name.partition("[")[0].strip().casefold() == "model"


def _value(fields: dict[str, msgspec.Raw], name: str) -> object:
    found = fields.get(name)
    if found is None:
        return None
    try:
        return _decode(found)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise wrong_request(name, "is no sound JSON") from None


def _text(fields: dict[str, msgspec.Raw], name: str) -> str | None:
    found = _value(fields, name)
    if found is None or isinstance(found, str):
        return found
    raise wrong_request(name, "must be a string")


def _utf8(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise wrong_request(name, "is not valid UTF-8") from None
