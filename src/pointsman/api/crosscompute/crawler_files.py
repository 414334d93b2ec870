"""The files that programs look for at a site before they use it: what there is, how it is called, what it charges for.

Public, and the same for everybody. Sources: robots.txt (RFC 9309), security.txt (RFC 9116), llms.txt (llmstxt.org), and
the names under which CrossCompute announces its files, as of 2026-11.
"""

import datetime
from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.crosscompute.agent_skill import SKILL
from pointsman.api.exchange import HttpRequest
from pointsman.contracts.crosscompute import MORE_PATHS
from pointsman.contracts.documents import served_document
from pointsman.contracts.operations import Contract
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway

SECURITY_DAYS: Final = 180  # a security.txt must end within a year (RFC 9116 2.5.5)
DAY_US: Final = 86_400_000_000
TEXT, MARKDOWN, JSON = "text/plain; charset=utf-8", "text/markdown; charset=utf-8", "application/json"
FILES: Final = tuple(path for path in MORE_PATHS if not path.startswith("/api/"))
NAME: Final = "Pointsman"
SUMMARY: Final = "A gateway to language models: one address and one key for many providers, billed in credits."
ROBOTS: Final = "".join(
    ["User-agent: *\n", *(f"Allow: {path}\n" for path in FILES if path != "/robots.txt"), "Disallow: /\n"]
).encode()
LLMS: Final = f"""# {NAME}

> {SUMMARY}

Send your key as `Authorization: Bearer <key>`. Chat completions are as in OpenAI's API.

## For agents

- [Agent skill](/agent-skill.md): how to call models, read your credits, and what each status means
- [Trust policy](/.well-known/agent-trust-policy.json): what is charged for, and what is not
- [Security contact](/.well-known/security.txt)

## Reference

- [OpenAPI document](/openapi.json): every operation with its schemas
- [Parameters](/api-parameters.md): the operations and what they take, as a table
""".encode()
# What costs money here, for agents that must know before they act.
TRUST: Final[dict[str, Any]] = {
    "version": "1.0.0",
    "name": NAME,
    "payment_points": [{"method": "POST", "path": "/api/agents/topup", "protocol": "x402"}],
    "not_payment_points": [
        {"method": "POST", "path": "/api/agents/register", "note": "free"},
        {"method": "GET", "path": "/api/agents/usage", "note": "free"},
        {"method": "GET", "path": "/v1/models", "note": "free"},
        {"method": "POST", "path": "/v1/chat/completions", "note": "uses credits that were paid in before"},
    ],
    "challenge": {
        "status": 402,
        "terms": "network, asset, amount and recipient are those of the challenge; a client alters none of them",
        "receipt": "topup.txHash names the transaction of a payment that was settled",
    },
    "diagnostic_headers": ["x-crosscompute-payment-header-present", "x-crosscompute-payment-header-kind"],
    "unpriced_models": "refused with 402: nothing is charged whose price is not known",
    "profiles": {"cheap": "cost first", "medium": "balanced", "premium": "quality first"},
}


class CrawlerFiles:
    """The views."""

    def __init__(self, gateway: Gateway, security_contact: str | None) -> None:
        """``security_contact``: a URL or ``mailto:`` address; without one there is no security.txt."""
        self._gateway = gateway
        self._contact = security_contact
        self._document: bytes | None = None
        self._parameters: bytes | None = None

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""
        fixed = {
            "/robots.txt": (ROBOTS, TEXT),
            "/llms.txt": (LLMS, TEXT),
            "/agent-skill.md": (SKILL, MARKDOWN),
            "/.well-known/agent-trust-policy.json": (msgspec.json.encode(TRUST), JSON),
        }

        @get("/openapi.json")
        async def document(request: HttpRequest) -> Response[bytes]:
            if self._document is None:
                self._document = msgspec.json.encode(served_document(Contract.CROSSCOMPUTE))
            return Response(self._document, media_type=JSON)

        @get("/api-parameters.md")
        async def parameters(request: HttpRequest) -> Response[bytes]:
            if self._parameters is None:
                self._parameters = parameter_table(served_document(Contract.CROSSCOMPUTE)).encode()
            return Response(self._parameters, media_type=MARKDOWN)

        @get("/.well-known/ai-plugin.json")
        async def plugin(request: HttpRequest) -> Response[bytes]:
            return Response(msgspec.json.encode(self._plugin(request)), media_type=JSON)

        @get("/.well-known/security.txt")
        async def security(request: HttpRequest) -> Response[bytes]:
            return Response(self._security().encode(), media_type=TEXT)

        return [*(_fixed(path, *file) for path, file in fixed.items()), document, parameters, plugin, security]

    def _plugin(self, request: HttpRequest) -> dict[str, Any]:
        """The manifest; addresses in it must be whole ones."""
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        host = headers.get(b"host", b"localhost").decode("latin-1")
        origin = self._gateway.snapshot.keys.public_origin or f"{request.scope['scheme']}://{host}"
        contact = (self._contact or "").removeprefix("mailto:")
        return {
            "schema_version": "v1",
            "name_for_human": NAME,
            "name_for_model": NAME.lower(),
            "description_for_human": SUMMARY,
            "description_for_model": SUMMARY + f" Read {origin}/agent-skill.md before the first call.",
            "auth": {"type": "user_http", "authorization_type": "bearer"},
            "api": {"type": "openapi", "url": f"{origin}/openapi.json"},
            "contact_email": contact if "@" in contact else "",
            "legal_info_url": f"{origin}/.well-known/agent-trust-policy.json",
        }

    def _security(self) -> str:
        if self._contact is None:
            raise GatewayError(Kind.NOT_FOUND, "nobody is named here for reports of security problems")
        days = self._gateway.clock.now_us() // DAY_US + SECURITY_DAYS
        ends = datetime.datetime.fromtimestamp(days * 86_400, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"Contact: {self._contact}\nExpires: {ends}\nPreferred-Languages: en\n"


def parameter_table(document: dict[str, Any]) -> str:
    """The operations of an OpenAPI document and the members of their bodies, as tables in Markdown."""
    lines = ["# Operations and their parameters", ""]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            lines += [f"## {method.upper()} {path}", "", *_about(operation), *_members(operation, document), ""]
    return "\n".join(lines)


def _about(operation: dict[str, Any]) -> list[str]:
    words = operation.get("summary") or operation.get("description")
    return [str(words).splitlines()[0], ""] if words else []


def _members(operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    rows = [
        (str(one["name"]), str(one.get("in", "")), one.get("schema", {}), bool(one.get("required")))
        for one in (_followed(each, document) for each in operation.get("parameters", ()))
    ]
    content = _followed(operation.get("requestBody", {}), document).get("content", {})
    schema = _followed(content.get("application/json", {}).get("schema", {}), document)
    required = schema.get("required", ())
    rows += [(name, "body", one, name in required) for name, one in schema.get("properties", {}).items()]
    if not rows:
        return []
    head = ["| name | in | type | required |", "|---|---|---|---|"]
    return [*head, *(f"| `{name}` | {place} | {_kind(one, document)} | {'yes' if needed else 'no'} |"
                     for name, place, one, needed in rows)]  # fmt: skip


def _followed(value: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """What a reference within the document stands for."""
    if "$ref" not in value:
        return value
    found: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _kind(schema: dict[str, Any], document: dict[str, Any]) -> str:
    found = _followed(schema, document)
    several = [*found.get("oneOf", ()), *found.get("anyOf", ())]
    if several:
        return " or ".join(dict.fromkeys(_kind(one, document) for one in several))
    kind = found.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _fixed(path: str, body: bytes, kind: str) -> HTTPRouteHandler:
    @get(path)
    async def show(request: HttpRequest) -> Response[bytes]:
        return Response(body, media_type=kind)

    return show
