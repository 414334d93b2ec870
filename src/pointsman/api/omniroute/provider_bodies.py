"""Bodies that make or change connections and nodes: the documented shape and the program's own are both taken."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pointsman.api.omniroute.management import ManagementError, invalid
from pointsman.keyring import Secret
from pointsman.upstream.declared import NewConnection
from pointsman.upstream.provider_nodes import ApiType

MASK: Final = "****"  # what stands for a secret that is there
_MASKED: Final = re.compile(r"\*{3,}|[•●…]|^\[redacted\]$|^\(hidden\)$", re.IGNORECASE)
_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<place>[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(?P<name>[^`]+)`")
MAX_WARNINGS: Final = 20

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Url = Annotated[str, Meta(min_length=1, max_length=2000)]
Key = Annotated[str, Meta(max_length=16_384)]
Names = Annotated[list[Name], Meta(max_length=10_000)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=50)]
Path = Annotated[str, Meta(max_length=500)]
Headers = dict[str, str | None]
T = TypeVar("T")


class ProviderData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``providerSpecificData``: where the program's shape has what the documented one has at the top, and more."""

    base_url: Url | UnsetType | None = UNSET
    chat_path: Path | UnsetType | None = UNSET
    models_path: Path | UnsetType | None = UNSET
    extra_api_keys: list[Key] | UnsetType | None = UNSET
    excluded_models: Names | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    headers: Headers | UnsetType | None = UNSET
    options: dict[str, Name] | UnsetType | None = UNSET


class ConnectionBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A connection to be made or changed; of a change only what is there counts."""

    provider: Name | UnsetType = UNSET
    name: Name | UnsetType | None = UNSET
    display_name: Name | UnsetType | None = UNSET
    url: Url | UnsetType = UNSET
    base_url: Url | UnsetType = UNSET
    api_key: Key | UnsetType | None = UNSET
    auth_type: Literal["apikey", "none"] | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    max_concurrent: Annotated[int, Meta(ge=0, le=1000000)] | UnsetType | None = UNSET
    requests_per_minute: Annotated[int, Meta(ge=0, le=1_000_000_000)] | UnsetType | None = UNSET
    requests_per_day: Annotated[int, Meta(ge=0, le=1_000_000_000)] | UnsetType | None = UNSET
    tokens_per_minute: Annotated[int, Meta(ge=0, le=1_000_000_000)] | UnsetType | None = UNSET
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] | UnsetType = UNSET
    default_model: Name | UnsetType | None = UNSET
    models: Names | UnsetType | None = UNSET
    excluded_models: Names | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    tag: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType | None = UNSET
    headers: Headers | UnsetType | None = UNSET
    extra_api_keys: list[Key] | UnsetType | None = UNSET
    proxy: Key | UnsetType | None = UNSET
    ca_certificates: str | UnsetType | None = UNSET
    allow_private: bool | UnsetType = UNSET
    options: dict[str, Name] | UnsetType | None = UNSET
    provider_specific_data: ProviderData = ProviderData()

    def address(self) -> str | None:
        """Where the upstream is, in whichever member it is told; None when in none."""
        found = first(self.url, self.base_url, self.provider_specific_data.base_url)
        return found if isinstance(found, str) else None


class NodeBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A provider node to be made or changed."""

    type: Literal["openai-compatible", "anthropic-compatible"] | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    prefix: Name | UnsetType = UNSET
    api_type: ApiType | UnsetType | None = UNSET
    base_url: Url | UnsetType = UNSET
    chat_path: Path | UnsetType | None = UNSET
    models_path: Path | UnsetType | None = UNSET
    allow_private: bool | UnsetType = UNSET


class ValidateBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Credentials to be tried out, of a provider or, with ``type``, of a provider node; nothing of it is stored."""

    provider: Name | None = None
    type: Literal["openai-compatible", "anthropic-compatible"] | None = None
    api_type: ApiType | None = None
    api_key: Key | None = None
    base_url: Url | None = None
    url: Url | None = None
    chat_path: Path | None = None
    models_path: Path | None = None
    proxy: Key | None = None
    allow_private: bool = False
    options: dict[str, Name] = {}


class BatchBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which connections are to be tested."""

    mode: Literal[
        "provider", "oauth", "free", "apikey", "compatible", "all", "web-cookie", "search", "audio", "local",
        "upstream-proxy",
    ] = "all"  # fmt: skip
    provider_id: Name | None = None


def read(document: Mapping[str, Any], kind: type[T]) -> T:
    """A body as ``kind``. Raises ManagementError that names the field and repeats nothing of it."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise fault(error) from None


def fault(error: msgspec.ValidationError) -> ManagementError:
    """400 for a body of the wrong form."""
    text = str(error)
    place = _PLACE.search(text)
    missing = _MISSING.search(text)
    where = place["place"] if place is not None else ""
    if missing is not None:
        return invalid([(f"{where}.{missing['name']}".lstrip("."), "is missing")])
    return invalid([(where or "body", _PLACE.sub("", text))])


def ignored(document: Mapping[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    """A warning for each member that has no effect here, so that nothing is lost in silence."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = [name for name in document if name not in known]
    data = document.get("providerSpecificData")
    if kind is ConnectionBody and isinstance(data, Mapping):
        inner = {field.encode_name for field in msgspec.structs.fields(ProviderData)}
        unknown += [f"providerSpecificData.{name}" for name in data if name not in inner]
    return [f"'{printable(name)}' has no effect here" for name in unknown[:MAX_WARNINGS]]


def changes(body: ConnectionBody, old: NewConnection | None) -> dict[str, Any]:
    """What a body changes, as members of `NewConnection`. A masked secret leaves the one of ``old`` as it is.

    Raises ManagementError for a masked secret where there is none to be kept.
    """
    data = body.provider_specific_data
    found: dict[str, Any] = {
        "name": body.name,
        "display_name": body.display_name,
        "enabled": body.is_active,
        "priority": body.priority,
        "default_model": body.default_model,
        "allow_private": body.allow_private,
        "models": _tuple(body.models),
        "excluded_models": _tuple(first(body.excluded_models, data.excluded_models)),
        "tags": _tuple(first(body.tags, data.tags, [body.tag] if isinstance(body.tag, str) else UNSET)),
        "max_concurrent": _count(body.max_concurrent),
        "requests_per_minute": _count(body.requests_per_minute),
        "requests_per_day": _count(body.requests_per_day),
        "tokens_per_minute": _count(body.tokens_per_minute),
        "secret": _secret(body.api_key, old.secret if old is not None else None, "apiKey"),
        "proxy": _secret(body.proxy, old.proxy if old is not None else None, "proxy"),
        "headers": _headers(first(body.headers, data.headers), old.headers if old is not None else {}),
        "extra_secrets": _extra(
            first(body.extra_api_keys, data.extra_api_keys), old.extra_secrets if old is not None else ()
        ),
        "options": _options(body, old.options if old is not None else {}),
    }
    if isinstance(body.ca_certificates, str | None):
        tls = (old or NewConnection(id="", kind="")).tls
        found["tls"] = msgspec.structs.replace(tls, authorities=body.ca_certificates or None)
    return {name: value for name, value in found.items() if value is not UNSET}


def is_masked(text: str) -> bool:
    """Whether a text stands for a secret instead of being one: blank, or with asterisks or dots for what is hidden."""
    return not text.strip() or _MASKED.search(text) is not None


def first(*values: Any) -> Any:
    """The first that was sent, else UNSET."""
    return next((value for value in values if value is not UNSET), UNSET)


def printable(text: str) -> str:
    """A caller's text, made safe to repeat."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])


def _count(value: Any) -> Any:
    """0 and null stand for no limit."""
    return value if value is UNSET else value or None


def _tuple(value: Any) -> Any:
    return value if value is UNSET else tuple(dict.fromkeys(value or ()))


def _secret(sent: str | UnsetType | None, stored: Secret | None, field: str) -> Any:
    if sent is UNSET or sent is None:
        return sent
    assert isinstance(sent, str)
    if not is_masked(sent):
        return Secret(sent.strip())
    if sent.strip() and stored is None:
        raise invalid([(field, "is masked, and there is no stored value that it could stand for")])
    return UNSET


def _headers(sent: Any, stored: Mapping[str, Secret]) -> Any:
    if sent is UNSET:
        return UNSET
    found: dict[str, Secret] = {}
    for name, value in (sent or {}).items():
        kept = next((secret for other, secret in stored.items() if other.lower() == name.lower()), None)
        new = _secret(value, kept, f"headers.{printable(name)}")
        if new is UNSET and kept is not None:
            found[name] = kept
        elif isinstance(new, Secret):
            found[name] = new
    return found


def _extra(sent: Any, stored: tuple[Secret, ...]) -> Any:
    if sent is UNSET:
        return UNSET
    found = []
    for place, value in enumerate(sent or ()):
        kept = stored[place] if place < len(stored) else None
        new = _secret(value, kept, f"extraApiKeys[{place}]")
        if new is UNSET:
            new = kept
        if new is not None:
            found.append(new)
    return tuple(found)


def _options(body: ConnectionBody, stored: Mapping[str, str]) -> Any:
    data = body.provider_specific_data
    sent = first(body.options, data.options)
    paths = {"chat_path": data.chat_path, "models_path": data.models_path}
    if sent is UNSET and all(value is UNSET for value in paths.values()):
        return UNSET
    kept = {name: stored[name] for name in paths if name in stored}
    options: dict[str, str] = dict(stored) if sent is UNSET else {**kept, **(sent or {})}
    for name, path in paths.items():
        if isinstance(path, str) and path:
            options[name] = path
        elif path is not UNSET:
            options.pop(name, None)
    return options
