"""What provider formats are for operations beside chat, and what several of them share."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from pointsman.canonical.embeddings import EmbeddingRequest
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.rerank import Ranked, RerankRequest
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.providers.refusals import cleared, refusal
from pointsman.wire.members import Members, wrong_answer

JSON_HEADERS: Final = (("content-type", "application/json"),)
MAX_TOKENS: Final = 2**40

R = TypeVar("R", contravariant=True)
A = TypeVar("A", covariant=True)
encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class OperationFormat(Protocol, Generic[R, A]):
    """One operation as upstreams of one kind speak it.

    ``WIRE``: a client of the same wire is answered with the upstream's own bytes (None: never). ``most_inputs``: how
    many inputs one call takes; more are sent in several.
    """

    WIRE: str | None
    most_inputs: int | None

    def build_request(self, request: R, upstream: Upstream, fidelity: Fidelity) -> Built:
        """Every member of ``request`` is sent or in ``fidelity``. Raises UNSUPPORTED for what can't be meant."""
        ...

    def parse_response(self, body: bytes, request: R) -> A:
        """Raises GatewayError(UPSTREAM_ERROR) when the answer isn't whole."""
        ...

    def parse_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
        """What an answer that isn't 200 means to the client. Nothing in it holds ``secret``."""
        ...


def texts_of(request: EmbeddingRequest, api: str) -> list[str]:
    """The inputs as texts. Raises GatewayError(UNSUPPORTED) for tokens and objects: ``api`` has no word for them."""
    first = request.inputs[0]
    if not isinstance(first, str):
        kind = "tokens" if isinstance(first, list) else "parts"
        raise GatewayError(
            Kind.UNSUPPORTED, f"'{request.path('inputs')}' holds {kind}, and {api} takes texts only", param="input"
        )
    return request.inputs  # type: ignore[return-value]


def note_unsent(request: EmbeddingRequest | RerankRequest, fidelity: Fidelity, api: str, sent: Sequence[str]) -> None:
    """Note every member that was given, is not in ``sent`` and has no place in ``api``."""
    options = ("purpose", "truncate", "user", "dimensions", "max_tokens_per_document")
    for name in options:
        if getattr(request, name, None) is not None and name not in sent:
            fidelity.dropped(request.path(name), f"{api} has no such member")
    for name in request.extra:
        fidelity.dropped(name, f"{api} has no such member")


def rank_rows(rows: "Sequence[Members] | Any", documents: int) -> list[Ranked]:
    """The rows of a ranking, checked and in order. Raises GatewayError(UPSTREAM_ERROR)."""
    found: list[Ranked] = []
    for row in rows:
        index, score = row.integer("index", 0), row.number("relevance_score")
        if index is None or score is None or index >= documents:
            raise wrong_answer("results", "has a row without a document's index and score")
        found.append(Ranked(index, float(score)))
    return sorted(found, key=lambda ranked: -ranked.score)


def vector_rows(members: Members, name: str, count: int) -> list[Any]:
    """The ``embedding`` of each row of the list ``name``, by index. Raises GatewayError(UPSTREAM_ERROR)."""
    found: list[Any] = [None] * count
    for number, row in enumerate(members.objects(name)):
        index = row.integer("index", 0)
        place = number if index is None else index
        if place < count:
            found[place] = row.raw("embedding")
    return check_vectors(found, count)


def check_vectors(vectors: Sequence[Any], count: int) -> list[Any]:
    """Vectors or base64 texts, as many as were asked for. Raises GatewayError(UPSTREAM_ERROR)."""
    if len(vectors) != count:
        raise wrong_answer("", f"has {len(vectors)} vectors for {count} inputs")
    kinds = {type(vector) for vector in vectors}
    if kinds == {str}:
        return list(vectors)
    if kinds == {list} and all(vector and set(map(type, vector)) <= {float, int} for vector in vectors):
        return list(vectors)
    raise wrong_answer("", "lacks a vector, or has one that is no list of numbers")


def usage_of(tokens: object) -> TokenUsage | None:
    """Input tokens as usage; None for what is no count."""
    if isinstance(tokens, float) and tokens.is_integer():
        tokens = int(tokens)
    if type(tokens) is not int or not 0 <= tokens <= MAX_TOKENS:
        return None
    return TokenUsage(input_tokens=tokens)


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means, with the upstream's own message where that is the caller's to know.

    Bodies are never passed on: the client speaks another API.
    """
    if b'"API_KEY_INVALID"' in body:
        status = 401  # Google answers 400 to a wrong key
    message = _message(body)
    return refusal(status, headers, cleared(message, secret) if message is not None else None)


def _message(body: bytes) -> str | None:
    """The words of an error object in any of the usual shapes: message, detail, error, error.message."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    for _ in range(4):
        if isinstance(found, dict):
            found = next((found[name] for name in ("message", "detail", "error", "msg") if found.get(name)), None)
        elif isinstance(found, list):
            found = found[0] if found else None
        else:
            break
    if not isinstance(found, str):
        return None
    return found or None
