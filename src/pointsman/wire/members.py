"""Reads JSON that clients and upstreams send, member by member, and knows what nobody read.

A `Members` is one JSON object and its place in the whole. Each ``take`` checks one member's type and marks it read;
`rest` is what is left: what we have no word for, so that it can be carried or named. Wrong types raise the error that
the reader was made with, naming the member by its path (``messages[2].content[0].text``).
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.wire.bodies import refuse_other_models
from pointsman.wire.json_faults import describe

MAX_DEPTH_SHOWN: Final = 200  # characters of a path in an error
MAX_WHOLE: Final = 2**63 - 1  # what every API and column takes

T = TypeVar("T")
Complain = Callable[[str, str], GatewayError]
_decode: Final = msgspec.json.Decoder().decode
_KINDS: Final = {str: "a string", bool: "true or false", int: "a whole number", float: "a number", list: "a list",
                 dict: "an object"}  # fmt: skip


def wrong_request(path: str, message: str) -> GatewayError:
    """A client's mistake in the member ``path``."""
    return GatewayError(
        Kind.INVALID_REQUEST, f"'{path}' {message}" if path else f"the body {message}", param=path or None
    )


def wrong_answer(path: str, message: str) -> GatewayError:
    """An upstream's answer that isn't what its API promises."""
    place = f"'{path}' in the upstream's answer" if path else "the upstream's answer"
    return GatewayError(Kind.UPSTREAM_ERROR, f"{place} {message}")


class Members:
    """One JSON object. Null counts as absent, except for `raw`, `has` and `rest`."""

    __slots__ = ("_complain", "_taken", "path", "value")

    def __init__(self, value: dict[str, Any], path: str = "", complain: Complain = wrong_request) -> None:
        self.value = value
        self.path = path
        self._complain = complain
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self.value.get(name) is not None

    def at(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, message: str) -> GatewayError:
        """An error about a member: ``'path' message``."""
        return self._complain(self.at(name)[:MAX_DEPTH_SHOWN] if name else self.path, message)

    def string(self, name: str) -> str | None:
        """A string."""
        self._taken.add(name)  # here and in `text` without `_typed`: most members are strings
        value = self.value.get(name)
        if value is None or type(value) is str:
            return value
        raise self.wrong(name, "must be a string")

    def text(self, name: str) -> str:
        """A string that must be there."""
        self._taken.add(name)
        value = self.value.get(name)
        if type(value) is str:
            return value
        raise self.wrong(name, "is missing" if value is None else "must be a string")

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        return self._typed(name, bool)

    def integer(self, name: str, least: int = -MAX_WHOLE, most: int = MAX_WHOLE) -> int | None:
        """A whole number (5 or 5.0) between the bounds."""
        value = self._take(name)
        if value is None:
            return None
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise self.wrong(name, "must be a whole number")
        if not least <= value <= most:
            raise self.wrong(name, f"must be {_between(least, most)}")
        return value

    def number(self, name: str) -> float | None:
        """A number, kept as whole or decimal as it came."""
        value = self._take(name)
        if value is None or type(value) is int or type(value) is float:
            return value
        raise self.wrong(name, "must be a number")

    def one_of(self, name: str, *allowed: str) -> str | None:
        """One of a few words."""
        self._taken.add(name)
        value = self.value.get(name)
        if value is None or value in allowed:
            return value
        raise self.wrong(name, f"must be one of {', '.join(allowed)}" if type(value) is str else "must be a string")

    def object(self, name: str) -> "Members | None":
        """An object, to be read in turn; what it leaves unread is its own `rest`."""
        value = self._typed(name, dict)
        return None if value is None else Members(value, self.at(name), self._complain)

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object, taken as it is (a JSON schema, metadata)."""
        return self._typed(name, dict)

    def items(self, name: str) -> list[Any] | None:
        """A list, taken as it is."""
        return self._typed(name, list)

    def strings(self, name: str) -> list[str] | None:
        """A list of strings."""
        found = self._typed(name, list)
        if found is not None and not all(type(item) is str for item in found):
            raise self.wrong(name, "must be a list of strings")
        return found

    def objects(self, name: str) -> "list[Members]":
        """A list's objects; none when it is absent."""
        found = self._typed(name, list)
        if not found:
            return []
        path, complain = self.at(name), self._complain
        for number, item in enumerate(found):
            if type(item) is not dict:
                raise complain(f"{path}[{number}]", "must be an object")
        return [Members(item, f"{path}[{number}]", complain) for number, item in enumerate(found)]

    def inner(self, value: Any, path: str) -> "Members":
        """An object somewhere in this one, at the whole ``path``."""
        if type(value) is not dict:
            raise self._complain(path, "must be an object")
        return Members(value, path, self._complain)

    def raw(self, name: str) -> Any:
        """Whatever stands there; None when it is absent or null."""
        self._taken.add(name)
        return self.value.get(name)

    def ignore(self, *names: str) -> None:
        """Members that are read elsewhere or mean nothing."""
        self._taken.update(names)

    @property
    def read(self) -> frozenset[str]:
        """The names that somebody has asked for, whether they are there or not."""
        return frozenset(self._taken)

    def rest(self) -> dict[str, Any] | None:
        """What nobody has read, nulls left out; None when that is nothing."""
        if len(self._taken) >= len(self.value) and self._taken.issuperset(self.value):
            return None
        if self._complain is wrong_request:
            self._refuse_names_that_are_no_paths()
        return {k: v for k, v in self.value.items() if k not in self._taken and v is not None} or None

    def _refuse_names_that_are_no_paths(self) -> None:
        """What is left is carried by its path, in which dots divide names: ``a.b`` would become ``b`` within ``a``."""
        for name in self.value:
            if (not name or "." in name) and name not in self._taken:
                raise self.wrong(name, "can't be carried: a member's name must not be empty or hold a dot")

    def _take(self, name: str) -> Any:
        self._taken.add(name)
        return self.value.get(name)

    def _typed(self, name: str, kind: type[T]) -> T | None:
        self._taken.add(name)
        value = self.value.get(name)
        if value is None or type(value) is kind:
            return value
        raise self.wrong(name, f"must be {_KINDS[kind]}")


def _between(least: int, most: int) -> str:
    if least == -MAX_WHOLE and most == MAX_WHOLE:
        return "a number of at most 64 bits"
    if most == MAX_WHOLE:
        return f"at least {least}"
    return f"between {least} and {most}" if least != -MAX_WHOLE else f"at most {most}"


def plain_text(part: Any) -> str | None:
    """The text of a part that is ``{"type": "text", "text": ...}`` and no more, as most parts are; None of others."""
    if type(part) is not dict or len(part) != 2 or part.get("type") != "text":
        return None
    text = part.get("text")
    return text if type(text) is str else None


def read_request(body: bytes, needs: str) -> Members:
    """A client's JSON body. ``needs`` says what to send when there is none. Raises GatewayError(INVALID_REQUEST)."""
    if not body:
        raise GatewayError(Kind.INVALID_REQUEST, f"the request has no body; send a JSON object with {needs}")
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise describe(error, body) from None
    if type(value) is not dict:
        raise GatewayError(Kind.INVALID_REQUEST, "the body must be a JSON object")
    refuse_other_models(value)
    return Members(value)


def read_answer(body: bytes, what: str) -> Members:
    """An upstream's JSON. Raises GatewayError(UPSTREAM_ERROR) when it is no object; ``what`` is its name then."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise GatewayError(Kind.UPSTREAM_ERROR, f"the upstream sent no whole JSON {what}") from None
    if type(value) is not dict:
        raise GatewayError(Kind.UPSTREAM_ERROR, f"the upstream sent JSON that is no {what}")
    return Members(value, "", wrong_answer)
