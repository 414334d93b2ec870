"""The table of hosts: whose API is where, how it takes a key, and in what it departs from the format it speaks.

The rows are in hosts.json. A host is in it when its API is open to whoever has a key for it: none that asks for another
vendor's client identity, its OAuth tokens or cookies. An address with ``{braces}`` has to be completed by the operator.
"""

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError

GENERIC: Final = "openai-compatible"
_FILE: Final = Path(__file__).with_name("hosts.json")
_ID: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Format = Literal["openai.chat", "openai.responses", "anthropic", "gemini", "ollama", "cohere", "bedrock", "none"]
Auth = Literal["bearer", "api-key", "x-api-key", "x-goog-api-key", "none"]


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, cache_hash=True):
    """In what a host departs from OpenAI Chat Completions. The defaults are those of an unknown compatible host.

    ``refused``: members that it answers with an error. ``reasoning_control``: the member that says how much to think.
    ``reasoning_member``: where an assistant message of the history holds its reasoning, and ``reasoning_history``
    whether it may stand there; ``required``: it must, beside tool calls (else 400). ``prefill``: how an answer
    is begun for the model (a trailing assistant message, or one marked ``prefix`` or ``partial``), None: not at all.
    ``continues``: it is known that it goes on with that word for word, for all its models (vendors' documentation).
    ``call_ids``: Mistral takes exactly nine letters and digits. ``thought_signatures``: Google's own, on calls.
    ``cache_marks``: ``cache_control`` may stand on parts; None: nobody knows (`carries_marks`).
    ``text_as_string``: content of parts must be one string.
    ``stream_usage``: it takes ``stream_options``.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed_field: Literal["seed", "random_seed"] = "seed"
    developer_role: bool = False
    tools: bool = True
    custom_tools: bool = False
    required_choice: Literal["required", "any"] | None = "required"
    call_ids: Literal["any", "nine_alphanumerics"] = "any"
    structured_output: Literal["json_schema", "json_object"] = "json_schema"
    one_choice: bool = False
    reasoning_control: Literal["reasoning_effort", "reasoning", "thinking", "enable_thinking", "prompt_mode"] = (
        "reasoning_effort"
    )
    reasoning_member: Literal["reasoning_content", "reasoning", "reasoning_details", "thinking_parts"] = (
        "reasoning_content"
    )
    reasoning_history: Literal["never", "allowed", "required"] = "allowed"
    prefill: Literal["trailing", "prefix", "partial"] | None = "trailing"
    continues: bool = False
    thought_signatures: bool = False
    cache_marks: bool | None = None
    text_as_string: bool = False
    stream_usage: bool = True
    refused: tuple[str, ...] = ()

    def carries_marks(self, same: bool) -> bool:
        """Whether cache marks are sent. To a host that nothing is known of they go from clients of the ``same`` API
        alone: they wrote them for it, others never heard of it.
        """
        return same if self.cache_marks is None else self.cache_marks


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host. ``pricing`` is its id in the price data; ``chat_path`` follows the base URL when it isn't the
    format's own and holds ``{model}`` and ``{api_version}``.
    """

    id: str
    name: str
    base_url: str | None = None
    format: Format = "openai.chat"
    auth: Auth = "bearer"
    pricing: str | None = None
    chat_path: str | None = None
    quirks: Quirks = Quirks()

    @property
    def complete(self) -> bool:
        """True when nothing of the address is left to the operator."""
        return self.base_url is not None and "{" not in self.base_url

    def quirk_map(self) -> dict[str, Any]:
        """The row as provider formats are given it: the quirks, and how the host is addressed."""
        return {
            **msgspec.structs.asdict(self.quirks),
            "auth": self.auth,
            "chat_path": self.chat_path,
        }


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    name: str
    base_url: str | None = None
    format: Format = "openai.chat"
    auth: Auth = "bearer"
    pricing: str | None = None
    chat_path: str | None = None
    quirks: str | None = None


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    quirks: dict[str, Quirks]
    hosts: list[_Row]


def parse_hosts(data: bytes) -> dict[str, Host]:
    """The hosts in ``data`` by id; raises ValueError that names the row at fault."""
    table = msgspec.json.decode(data, type=_Table)  # msgspec's errors are ValueErrors that name the place
    found: dict[str, Host] = {}
    for row in table.hosts:
        if not _ID.fullmatch(row.id) or row.id in found or row.id == "local":
            raise ValueError(f"host {row.id!r}: the id is not plain, is there twice, or means the embedded model")
        if row.quirks is not None and row.quirks not in table.quirks:
            raise ValueError(f"host {row.id!r}: there are no quirks named {row.quirks!r}")
        values = msgspec.structs.asdict(row)
        values["quirks"] = table.quirks[row.quirks] if row.quirks is not None else Quirks()
        found[row.id] = Host(**values)
    return found


@cache
def hosts() -> dict[str, Host]:
    """The table as it is shipped."""
    return parse_hosts(_FILE.read_bytes())


def find_host(kind: str, place: str) -> Host:
    """The host that a connection's ``kind`` names; raises ConfigError with the nearest names."""
    found = hosts().get(kind)
    if found is not None:
        return found
    near = difflib.get_close_matches(kind[:100], [*hosts(), "local"], 1, 0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"'local', '{GENERIC}', or a host: {', '.join(hosts())}"
    raise ConfigError(f"{place}.kind: '{kind[:100]}' is not known ({hint})")


def address_of(host: Host, base_url: str | None, place: str) -> str:
    """The base URL of a connection: the operator's own, else the host's; raises ConfigError when neither is whole."""
    if base_url is not None:
        return base_url
    if host.base_url is None:
        raise ConfigError(f"{place}.base_url: is missing, e.g. https://api.openai.com/v1")
    if not host.complete:
        raise ConfigError(f"{place}.base_url: is missing; for {host.id} it is {host.base_url}, completed by you")
    return host.base_url


def effective_host(kind: str, base_url: str) -> Host:
    """The row that holds for a connection, known to be valid: ``kind`` with OpenAI's name and another host's address
    is that host, or an unknown compatible one, and never OpenAI with its demands.
    """
    host = hosts()[kind]
    if kind != "openai" or host.base_url is None or _netloc(base_url) == _netloc(host.base_url):
        return host
    same = (one for one in hosts().values() if one.base_url is not None and _netloc(one.base_url) == _netloc(base_url))
    return next((one for one in same if one.format == host.format and one.complete), hosts()[GENERIC])


_MAX_READ: Final = 512
_read: Final[dict[int, tuple[Any, Quirks]]] = {}  # rows that were read, and kept so that their id stays theirs


def read_quirks(row: "dict[str, Any] | Any") -> Quirks:
    """The quirks in what `Host.quirk_map` gave; other members of it are left alone."""
    known = _read.get(id(row))
    if known is not None and known[0] is row:
        return known[1]  # a connection's row is the same object in every call
    quirks = Quirks(**{name: row[name] for name in Quirks.__struct_fields__ if name in row})
    if len(_read) >= _MAX_READ:
        _read.clear()
    _read[id(row)] = (row, quirks)
    return quirks


def _netloc(url: str) -> str:
    return urlsplit(url).netloc.lower()
