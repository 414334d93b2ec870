"""OpenAI's ``/v1/images/generations`` and ``/v1/images/edits`` as a simulator answers them, whole and streamed."""

import base64
import time
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from .behaviour import MODEL_MARK, Behaviour
from .forms import Form
from .openai_embeddings import check_arguments
from .openai_request import InvalidRequest, Json
from .pictures import png_of
from .reply import Event, EventKind

GPT_PREFIXES: Final = ("gpt-image", "chatgpt-image")
MAX_PROMPT: Final = 32_000
MAX_IMAGES: Final = 16

_ARGUMENTS: Final = frozenset(
    {
        "prompt", "model", "n", "size", "quality", "background", "moderation", "output_format", "output_compression",
        "partial_images", "stream", "response_format", "style", "user", "safety_identifier", "complexity",
    }
)  # fmt: skip
_EDIT_ARGUMENTS: Final = (_ARGUMENTS - {"style", "moderation"}) | {"input_fidelity"}
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "background": ("transparent", "opaque", "auto"),
    "moderation": ("low", "auto"),
    "output_format": ("png", "webp", "jpeg", "gif", "svg"),
    "quality": ("low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"),
    "response_format": ("url", "b64_json"),
    "input_fidelity": ("high", "low"),
}
# name: (lowest, highest)
_RANGES: Final = {"n": (1, 10), "partial_images": (0, 3), "output_compression": (0, 100)}


class ImageOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request for pictures."""

    kind: Literal["image_generation", "image_edit"]
    model: str
    prompt: str
    count: int
    stream: bool
    partial_images: int
    input_images: int
    as_url: bool
    options: Json


def order_generation(request: Json) -> ImageOrder:
    """What a generations request asks for; InvalidRequest as OpenAI refuses."""
    check_arguments(request, _ARGUMENTS, ("prompt",))
    return _order("image_generation", request, 0)


def order_edit(form: Form) -> ImageOrder:
    """What an edits form asks for; InvalidRequest as OpenAI refuses."""
    images = form.files("image")
    if not images:
        raise InvalidRequest("Missing required parameter: 'image'.", "image", "missing_required_parameter")
    if len(images) > MAX_IMAGES:
        raise InvalidRequest(f"Invalid 'image': at most {MAX_IMAGES} images are supported.", "image")
    for image in images + form.files("mask"):
        if image.content_type not in ("image/png", "image/jpeg", "image/webp"):
            message = f"Invalid file '{image.name}': unsupported mimetype ('{image.content_type}'). "
            message += "Supported file formats are 'image/jpeg', 'image/png', and 'image/webp'."
            raise InvalidRequest(message, image.name, "unsupported_file_mimetype")
    fields: Json = {}
    for part in form.parts:
        if part.filename is None:
            fields[part.name] = _value(part.name, part.text)
    check_arguments(fields, _EDIT_ARGUMENTS, ("prompt",))
    return _order("image_edit", fields, len(images))


def whole(order: ImageOrder, behaviour: Behaviour) -> Json:
    """The buffered answer."""
    answer: Json = {"created": int(time.time()), "data": [_picture(order, index) for index in range(order.count)]}
    if order.model.startswith(GPT_PREFIXES):
        answer |= _settings(order)
    if behaviour.usage != "none":
        answer["usage"] = _usage(order, behaviour)
    return answer


def events(order: ImageOrder, behaviour: Behaviour) -> Iterator[Event]:
    """The streamed answer: the partial pictures, then each whole one with the usage."""
    for index in range(order.count):
        head = {"created_at": int(time.time()), **_settings(order)}
        for part in range(order.partial_images):
            partial = base64.b64encode(png_of(f"{order.prompt} {index} part {part}")).decode()
            name = f"{order.kind}.partial_image"
            body = {"type": name, "b64_json": partial, "partial_image_index": part, **head}
            yield _event(EventKind.START if part == 0 else EventKind.DELTA, name, body)
        name = f"{order.kind}.completed"
        body = {"type": name, "b64_json": _encoded(order, index), **head}
        if behaviour.usage != "none":
            body["usage"] = _usage(order, behaviour)
        yield _event(EventKind.FINISH, name, body)


def _order(kind: Literal["image_generation", "image_edit"], fields: Json, images: int) -> ImageOrder:
    prompt = fields["prompt"]
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequest("Invalid 'prompt': expected a string with at least one character.", "prompt")
    if len(prompt) > MAX_PROMPT:
        raise InvalidRequest(f"Invalid 'prompt': string too long. Expected at most {MAX_PROMPT} characters.", "prompt")
    for name, choices in _CHOICES.items():
        if fields.get(name) is not None and fields[name] not in choices:
            listed = ", ".join(f"'{choice}'" for choice in choices[:-1]) + f" and '{choices[-1]}'"
            message = f"Invalid value: '{fields[name]}'. Supported values are: {listed}."
            raise InvalidRequest(message, name, "invalid_value")
    for name, (lowest, highest) in _RANGES.items():
        value = fields.get(name)
        if value is not None and (type(value) is not int or not lowest <= value <= highest):
            message = f"Invalid '{name}': expected an integer from {lowest} to {highest}, but got {value} instead."
            raise InvalidRequest(message, name, "integer_out_of_range")
    model = str(fields.get("model") or "gpt-image-2").partition(MODEL_MARK)[0]
    if fields.get("response_format") is not None and model.startswith(GPT_PREFIXES):
        raise InvalidRequest("Unknown parameter: 'response_format'.", "response_format", "unknown_parameter")
    if fields.get("partial_images") is not None and not fields.get("stream"):
        raise InvalidRequest("'partial_images' is only allowed when 'stream' is true.", "partial_images")
    return ImageOrder(
        kind=kind,
        model=model,
        prompt=prompt,
        count=fields.get("n") or 1,
        stream=bool(fields.get("stream")),
        partial_images=fields.get("partial_images") or 0,
        input_images=images,
        as_url=fields.get("response_format") == "url",
        options=fields,
    )


def _value(name: str, text: str) -> object:
    if name in _RANGES and text.lstrip("-").isdigit():
        return int(text)
    return {"true": True, "false": False}.get(text, text) if name == "stream" else text


def _settings(order: ImageOrder) -> Json:
    options = order.options
    given = {name: options.get(name) for name in ("background", "output_format", "quality", "size")}
    defaults = {"background": "opaque", "output_format": "png", "quality": "medium", "size": "1024x1024"}
    return {name: value if value is not None and value != "auto" else defaults[name] for name, value in given.items()}


def _picture(order: ImageOrder, index: int) -> Json:
    if order.as_url:
        return {"url": f"https://images.example/{order.kind}/{index}.png", "revised_prompt": order.prompt}
    return {"b64_json": _encoded(order, index)}


def _encoded(order: ImageOrder, index: int) -> str:
    return base64.b64encode(png_of(f"{order.prompt} {index}")).decode()


def _usage(order: ImageOrder, behaviour: Behaviour) -> Json:
    text = behaviour.prompt_tokens if behaviour.prompt_tokens is not None else -(-len(order.prompt) // 4)
    images = 300 * order.input_images
    made = 1056 * order.count
    if behaviour.usage == "wrong":
        text, made = -1, 2**70
    return {
        "total_tokens": text + images + made,
        "input_tokens": text + images,
        "output_tokens": made,
        "input_tokens_details": {"text_tokens": text, "image_tokens": images},
    }


def _event(kind: EventKind, name: str, body: Json) -> Event:
    return Event(kind, b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(body)))
