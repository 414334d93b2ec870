"""OpenAI's ``POST /v1/embeddings`` and ``POST /v1/moderations`` as a simulator answers them."""

from typing import Any, Final

from .behaviour import MODEL_MARK, Behaviour
from .openai_request import InvalidRequest, Json
from .vectors import packed, tokens_in, vector_of

DIMENSIONS: Final = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}
DEFAULT_DIMENSIONS: Final = 64  # of a model that OpenAI doesn't have
FIXED: Final = frozenset({"text-embedding-ada-002"})
MAX_INPUTS: Final = 2048
MODERATION_MODEL: Final = "omni-moderation-latest"

_ARGUMENTS: Final = frozenset({"input", "model", "dimensions", "encoding_format", "user"})
_MODERATED_WORDS: Final = {
    "harass": "harassment",
    "hate": "hate",
    "shoplift": "illicit",
    "suicide": "self-harm",
    "sex": "sexual",
    "kill": "violence",
}
_CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
_OF_IMAGES: Final = ("self-harm", "sexual", "violence")


def embed(request: Json, behaviour: Behaviour) -> Json:
    """The answer to an embeddings request; InvalidRequest as OpenAI refuses."""
    check_arguments(request, _ARGUMENTS, ("input", "model"))
    texts = input_texts(request["input"])
    model = str(request["model"])
    dimensions = _dimensions(request, model.partition(MODEL_MARK)[0])
    encoding = request.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        message = f"Invalid value: '{encoding}'. Supported values are: 'float' and 'base64'."
        raise InvalidRequest(message, "encoding_format", "invalid_value")
    vectors = [vector_of(text, dimensions) for text in texts]
    answer: Json = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": packed(one) if encoding == "base64" else one}
            for index, one in enumerate(vectors)
        ],
        "model": model.partition(MODEL_MARK)[0],
    }
    tokens = behaviour.prompt_tokens if behaviour.prompt_tokens is not None else tokens_in(texts)
    if behaviour.usage == "exact":
        answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    elif behaviour.usage == "wrong":
        answer["usage"] = {"prompt_tokens": -1, "total_tokens": tokens + 1_000_000}
    return answer


def input_texts(value: Any) -> list[str]:
    """The texts to embed; token arrays stand for themselves. InvalidRequest when it has none of the four forms."""
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list) and value:
        if len(value) > MAX_INPUTS:
            wanted = f"Expected an array with maximum length {MAX_INPUTS}, but got an array with length {len(value)}"
            raise InvalidRequest(
                f"Invalid 'input': array too long. {wanted} instead.", "input", "array_above_max_length"
            )
        if all(type(item) is int for item in value):
            return [_text_of_tokens(value)]
        if all(isinstance(item, str) and item for item in value):
            return value
        if all(isinstance(item, list) and item and all(type(token) is int for token in item) for item in value):
            return [_text_of_tokens(item) for item in value]
    raise InvalidRequest(
        "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
    )


def moderate(request: Json, identity: str) -> Json:
    """The answer to a moderation request; InvalidRequest as OpenAI refuses."""
    check_arguments(request, frozenset({"input", "model"}), ("input",))
    value = request["input"]
    inputs = value if isinstance(value, list) else [value]
    if inputs and all(isinstance(item, dict) for item in inputs):
        results = [_moderation(*_multimodal(inputs))]
    elif inputs and all(isinstance(item, str) for item in inputs):
        results = [_moderation(item, with_image=False) for item in inputs]
    else:
        raise InvalidRequest("'$.input' is invalid. Please check the API reference.", "input", "invalid_type")
    model = str(request.get("model") or MODERATION_MODEL).partition(MODEL_MARK)[0]
    return {"id": f"modr-{identity}", "model": model, "results": results}


def check_arguments(request: Json, known: frozenset[str], required: tuple[str, ...]) -> None:
    """InvalidRequest for a member that OpenAI doesn't know, or one that is missing."""
    for name in request:
        if name not in known:
            raise InvalidRequest(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    for name in required:
        if request.get(name) is None:
            raise InvalidRequest(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def _dimensions(request: Json, model: str) -> int:
    most = DIMENSIONS.get(model, DEFAULT_DIMENSIONS)
    wanted = request.get("dimensions")
    if wanted is None:
        return most
    if model in FIXED:
        raise InvalidRequest("This model does not support specifying dimensions.")
    if type(wanted) is not int or not 1 <= wanted <= most:
        limit = f"Must be {'greater than or equal to 1' if type(wanted) is int and wanted < 1 else f'at most {most}'}."
        raise InvalidRequest(f"Invalid value for 'dimensions' = {wanted}. {limit}", "dimensions")
    return wanted


def _text_of_tokens(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def _multimodal(inputs: list[Json]) -> tuple[str, bool]:
    text, with_image = "", False
    for position, item in enumerate(inputs):
        if item.get("type") == "text" and isinstance(item.get("text"), str):
            text += item["text"]
        elif item.get("type") == "image_url" and isinstance(item.get("image_url"), dict):
            with_image = True
        else:
            raise InvalidRequest(f"Invalid value for 'input[{position}]'.", f"input[{position}]", "invalid_value")
    return text, with_image


def _moderation(text: str, with_image: bool) -> Json:
    lower = text.lower()
    found = {category for word, category in _MODERATED_WORDS.items() if word in lower}
    applied = {
        name: ["text", "image"] if with_image and name.partition("/")[0] in _OF_IMAGES and name != "sexual/minors"
        else ["text"]
        for name in _CATEGORIES
    }  # fmt: skip
    return {
        "flagged": bool(found),
        "categories": {name: name in found for name in _CATEGORIES},
        "category_scores": {name: 0.93 if name in found else 0.0004 for name in _CATEGORIES},
        "category_applied_input_types": applied,
    }
