"""Ollama's own API as a simulator answers it."""

import hmac
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from . import ollama_errors as errors
from . import ollama_models as about
from .behaviour import MODEL_MARK, Behaviour
from .ollama_answer import OllamaAnswer, only_loaded, turn_of
from .ollama_errors import OllamaRefusal
from .ollama_request import Json, check_generation, image_bytes, parse
from .reply import Reply, Request
from .simulated_model import speak

NDJSON_TYPE: Final = "application/x-ndjson"
CAPABILITIES: Final = frozenset({"completion", "embedding", "insert", "thinking", "tools", "vision"})

_LATEST: Final = ":latest"
# path: (the methods that it has, the struct that its body is decoded into)
_PATHS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "/": ("GET, HEAD", ""),
        "/api/version": ("GET, HEAD", ""),
        "/api/tags": ("GET, HEAD", ""),
        "/api/ps": ("GET", ""),
        "/api/show": ("POST", "ShowRequest"),
        "/api/chat": ("POST", "ChatRequest"),
        "/api/generate": ("POST", "GenerateRequest"),
        "/api/embed": ("POST", "EmbedRequest"),
        "/api/embeddings": ("POST", "EmbeddingRequest"),
    }
)


class Ollama:
    """``/api/chat``, ``/api/generate``, ``/api/embed``, ``/api/embeddings``, ``/api/tags``, ``/api/ps``, ``/api/show``.

    ``api_key``: when set, any other key gets 401, as from Ollama's hosted service; Ollama itself asks for none.
    ``models``: what the lists show; with ``only_listed`` any other model gets 404. ``capabilities``: what every model
    can do; a request for anything else is refused. Models think when ``think`` asks them to.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("sim-model",),
        only_listed: bool = False,
        capabilities: frozenset[str] = CAPABILITIES,
    ) -> None:
        self._api_key = api_key
        self._models = tuple(_tagged(model) for model in models)
        self._only_listed = only_listed
        self._capabilities = capabilities
        self._handlers: dict[str, Callable[[Json, Behaviour], Reply]] = {
            "/api/show": self._show,
            "/api/chat": self._generate,
            "/api/generate": self._generate,
            "/api/embed": self._embed,
            "/api/embeddings": self._embeddings,
        }

    def model_of(self, request: Request) -> str:
        """The ``model`` of a request's body, or an empty string."""
        try:
            decoded = msgspec.json.decode(request.body) if request.body else None
        except msgspec.DecodeError:
            return ""
        model = decoded.get("model") if isinstance(decoded, dict) else None
        return model if isinstance(model, str) else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """Ollama's answer to ``request``, errors included."""
        path = request.path.partition("?")[0]
        if path not in _PATHS:
            return errors.unknown_path()
        allowed, kind = _PATHS[path]
        if request.method not in allowed.split(", "):
            return errors.wrong_method(allowed)
        if self._api_key is not None and not self._has_key(request):
            return errors.error_reply(401, "unauthorized")
        if not kind:
            return self._about(path)
        try:
            return self._handlers[path](parse(request.body, kind), behaviour)
        except OllamaRefusal as refused:
            return errors.error_reply(refused.status, refused.message)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """Ollama's error for a fault that refuses."""
        return errors.refusal(fault, self.model_of(request), behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 whose text names the simulator's directive."""
        return errors.error_reply(400, message)

    def _has_key(self, request: Request) -> bool:
        scheme, _, key = request.header("authorization").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), (self._api_key or "").encode())

    def _about(self, path: str) -> Reply:
        if path == "/":
            return Reply(status=200, content_type="text/plain; charset=utf-8", headers=(), body=b"Ollama is running")
        if path == "/api/version":
            return _json({"version": about.VERSION})
        return _json(about.tags(self._models) if path == "/api/tags" else about.running(self._models, time.time()))

    def _generate(self, body: Json, behaviour: Behaviour) -> Reply:
        check_generation(body)
        self._check_model(body.get("model"))
        if loaded := only_loaded(body, time.time()):
            return _json(loaded)
        self._check_capabilities(body)
        turn = turn_of(body)
        answer = OllamaAnswer(body, speak(turn, behaviour), turn, behaviour, time.time())
        if body.get("stream") is False:
            return _json(answer.whole())
        return Reply(
            status=200,
            content_type=NDJSON_TYPE,
            headers=(),
            events=answer.lines(),
            failure=errors.error_object(errors.FAILURE),
            failure_event=errors.error_line(errors.FAILURE),
        )

    def _embed(self, body: Json, behaviour: Behaviour) -> Reply:
        self._check_model(body.get("model"))
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise OllamaRefusal(400, "invalid input type")
        return _json(about.embed(body["model"], [text for text in texts if text], body.get("dimensions")))

    def _embeddings(self, body: Json, behaviour: Behaviour) -> Reply:
        self._check_model(body.get("model"))
        prompt = body.get("prompt")
        return _json({"embedding": about.vector(prompt) if prompt else []})

    def _show(self, body: Json, behaviour: Behaviour) -> Reply:
        name = body.get("model") or body.get("name")
        if not name:
            raise OllamaRefusal(400, "model is required")
        if _tagged(name) not in self._models:
            raise OllamaRefusal(404, f"model '{name}' not found")
        return _json(about.show(name, self._capabilities))

    def _check_model(self, model: str | None) -> None:
        if not model:
            raise OllamaRefusal(400, "model is required")
        if self._only_listed and _tagged(model) not in self._models:
            raise OllamaRefusal(404, f"model '{model}' not found")

    def _check_capabilities(self, body: Json) -> None:
        """Ollama's checks, and its words, for what a model can't do."""
        model = body["model"]
        if body.get("raw") and any(body.get(name) for name in ("template", "system", "context")):
            raise OllamaRefusal(400, "raw mode does not support template, system, or context")
        if body.get("think") and "thinking" not in self._capabilities:
            raise OllamaRefusal(400, f'"{model}" does not support thinking')
        for member, capability in (("tools", "tools"), ("suffix", "insert")):
            if body.get(member) and capability not in self._capabilities:
                raise OllamaRefusal(400, f"registry.ollama.ai/library/{_tagged(model)} does not support {capability}")
        if image_bytes(body) and "vision" not in self._capabilities:
            raise OllamaRefusal(500, "this model is missing data required for image input")


def _tagged(model: str) -> str:
    """A model's full name: without a tag it is the latest, and directives are no part of it."""
    name = model.partition(MODEL_MARK)[0]
    return name if ":" in name.rpartition("/")[2] else name + _LATEST


def _json(body: Json) -> Reply:
    return Reply(
        status=200,
        content_type=errors.JSON_TYPE,
        headers=(),
        body=msgspec.json.encode(body),
        failure=errors.error_object(errors.FAILURE),
        failure_event=errors.error_line(errors.FAILURE),
    )
