"""Amazon Bedrock's Converse API as a simulator answers it."""

import hmac
import re
from datetime import UTC, datetime
from itertools import count
from typing import Final
from urllib.parse import unquote

import msgspec

from pointsman.canonical.halves import Built
from pointsman.providers.bedrock.signing import AwsCredentials, Scope, signature_headers

from . import bedrock_errors as errors
from .bedrock_answer import BedrockAnswer, cached_prefix, turn_of
from .bedrock_errors import BedrockRefusal
from .bedrock_request import Json, check, parse
from .behaviour import MODEL_MARK, Behaviour
from .reply import Headers, Reply, Request
from .simulated_model import speak

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"

_PATH: Final = re.compile(r"/model/(?P<model>[^/]+)/(?P<operation>converse|converse-stream)")
_CREDENTIAL: Final = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_WRONG: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class Bedrock:
    """``POST /model/{id}/converse`` and ``/converse-stream``.

    ``api_key``: when set, this bearer token or, for ``ID:SECRET``, a signature by this access key is demanded.
    ``models`` with ``only_listed``: any other model gets 404. Cache points are kept account of.
    """

    def __init__(
        self, *, api_key: str | None = None, models: tuple[str, ...] = ("sim-model",), only_listed: bool = False
    ) -> None:
        self._api_key = api_key
        self._models = models
        self._only_listed = only_listed
        self._numbers = count(1)
        self._cached: set[str] = set()

    def model_of(self, request: Request) -> str:
        """The model in the request's path, or an empty string."""
        found = _PATH.fullmatch(request.path.partition("?")[0])
        return unquote(found["model"]) if found is not None else ""

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """Bedrock's answer to ``request``, exceptions included."""
        headers = self._headers()
        try:
            found = _PATH.fullmatch(request.path.partition("?")[0])
            if found is None or request.method != "POST":
                raise BedrockRefusal("Unable to determine service/operation", "UnknownOperationException", 404)
            self._check_key(request)
            return self._converse(request, behaviour, headers, streamed=found["operation"] == "converse-stream")
        except BedrockRefusal as refused:
            return errors.error_reply(refused, headers)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """Bedrock's exception for a fault that refuses."""
        return errors.refusal(fault, self._headers(), behaviour)

    def reject_directive(self, message: str) -> Reply:
        """400 whose text names the simulator's directive."""
        return errors.error_reply(BedrockRefusal(message), self._headers())

    def _converse(self, request: Request, behaviour: Behaviour, headers: Headers, *, streamed: bool) -> Reply:
        model = self.model_of(request).partition(MODEL_MARK)[0]
        if self._only_listed and model not in self._models:
            raise BedrockRefusal("The provided model identifier is invalid.")
        body = parse(request.body)
        check(body)
        turn = turn_of(body)
        answer = BedrockAnswer(body, speak(turn, behaviour), turn, behaviour, self._cache(body, behaviour))
        reply = Reply(
            status=200,
            content_type=EVENT_STREAM if streamed else errors.JSON_TYPE,
            headers=headers,
            failure=errors.error_object(errors.FAILURE),
            failure_event=errors.failed_stream(),
        )
        if streamed:
            return msgspec.structs.replace(reply, events=answer.events())
        return msgspec.structs.replace(reply, body=msgspec.json.encode(answer.whole()))

    def _cache(self, body: Json, behaviour: Behaviour) -> tuple[int, int]:
        """Tokens that are read from the cache and written to it."""
        prefix = cached_prefix(body)
        if prefix is None or behaviour.cached_tokens:
            return behaviour.cached_tokens, 0
        name, tokens = prefix
        known = name in self._cached
        self._cached.add(name)
        return (tokens, 0) if known else (0, tokens)

    def _check_key(self, request: Request) -> None:
        if self._api_key is None:
            return
        given = request.header("authorization")
        if not given:
            raise BedrockRefusal("Missing Authentication Token", "MissingAuthenticationTokenException", 403)
        wanted = f"Bearer {self._api_key}" if ":" not in self._api_key else self._signature(request, given)
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise BedrockRefusal(_WRONG, "InvalidSignatureException", 403)

    def _signature(self, request: Request, given: str) -> str:
        """What the Authorization header has to be for this request, signed with the one key that there is."""
        name, _, secret = (self._api_key or "").partition(":")
        found = _CREDENTIAL.search(given)
        if found is None or found["key"] != name:
            raise BedrockRefusal(
                "The security token included in the request is invalid.", "UnrecognizedClientException", 403
            )
        date = datetime.strptime(request.header("x-amz-date"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        token = request.header("x-amz-security-token") or None
        headers = tuple((key, value) for key, value in request.headers if key == "content-type")
        built = Built(path=request.path, body=request.body, method=request.method, headers=headers)
        key = AwsCredentials(access_key_id=name, secret_access_key=secret, session_token=token)
        scope = Scope(found["region"], found["service"], int(date.timestamp()))
        return dict(signature_headers(built, request.header("host"), key, scope))["authorization"]

    def _headers(self) -> Headers:
        return (("x-amzn-requestid", f"00000000-0000-4000-8000-{next(self._numbers):012d}"),)
