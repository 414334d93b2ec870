"""Checks of a JSON value's shape that refuse it in Anthropic's words and name its place with Anthropic's paths.

A check is a function of a value and its path. A path's steps are member names, positions, and the tag of a member of a
tagged union, as in ``messages.0.content.1.image.source.base64.data``.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Json = dict[str, Any]
Check = Callable[[Any, str], None]

_TYPE_WORDS: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "dictionary",
    list: "list",
}


class InvalidRequest(ValueError):
    """A request that Anthropic refuses with 400 ``invalid_request_error``: the message, with the place in front."""


def refuse(path: str, message: str) -> InvalidRequest:
    """The refusal of what stands at ``path``; the request itself has an empty path."""
    return InvalidRequest(f"{path}: {message}" if path else message)


def step(path: str, name: object) -> str:
    """``path`` and one step more."""
    return f"{path}.{name}" if path else str(name)


def anything(value: Any, path: str) -> None:
    """Any JSON value passes."""


def string(*, shortest: int = 0, longest: int | None = None, pattern: str | None = None) -> Check:
    """A string of these lengths that ``pattern`` matches from start to end."""

    def check(value: Any, path: str) -> None:
        _demand(value, path, str)
        if len(value) < shortest:
            raise refuse(path, f"String should have at least {shortest} character{'s' * (shortest > 1)}")
        if longest is not None and len(value) > longest:
            raise refuse(path, f"String should have at most {longest} characters")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise refuse(path, f"String should match pattern '^{pattern}$'")

    return check


def one_of(*allowed: str) -> Check:
    """One of these strings."""
    quoted = [f"'{word}'" for word in allowed]
    listed = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"

    def check(value: Any, path: str) -> None:
        if value not in allowed:
            raise refuse(path, f"Input should be {listed}")

    return check


def whole(lowest: int | None = None) -> Check:
    """An integer not below ``lowest``."""

    def check(value: Any, path: str) -> None:
        _demand(value, path, int)
        if lowest is not None and value < lowest:
            raise refuse(path, f"Input should be greater than or equal to {lowest}")

    return check


def number(lowest: float, highest: float) -> Check:
    """A number in this range."""

    def check(value: Any, path: str) -> None:
        if type(value) is not int:
            _demand(value, path, float)
        if value < lowest:
            raise refuse(path, f"Input should be greater than or equal to {lowest:g}")
        if value > highest:
            raise refuse(path, f"Input should be less than or equal to {highest:g}")

    return check


def boolean(value: Any, path: str) -> None:
    """``true`` or ``false``."""
    _demand(value, path, bool)


def mapping(value: Any, path: str) -> None:
    """An object with any members."""
    _demand(value, path, dict)


def each(item: Check, *, longest: int | None = None) -> Check:
    """An array whose items pass ``item``."""

    def check(value: Any, path: str) -> None:
        _demand(value, path, list)
        if longest is not None and len(value) > longest:
            raise refuse(path, f"List should have at most {longest} items after validation, not {len(value)}")
        for position, one in enumerate(value):
            item(one, step(path, position))

    return check


def values(item: Check) -> Check:
    """An object whose members' values all pass ``item``."""

    def check(value: Any, path: str) -> None:
        _demand(value, path, dict)
        for name, one in value.items():
            item(one, step(path, name))

    return check


def nullable(inner: Check) -> Check:
    """``null``, or what passes ``inner``."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def text_or(inner: Check) -> Check:
    """A string, or what passes ``inner``."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            inner(value, path)

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with the ``required`` members, perhaps ``optional`` ones, and no other."""
    known = {**required, **(optional or {})}

    def check(value: Any, path: str) -> None:
        _demand(value, path, dict)
        for name in required:
            if name not in value:
                raise refuse(step(path, name), "Field required")
        for name, one in value.items():
            if name not in known:
                raise refuse(step(path, name), "Extra inputs are not permitted")
            known[name](one, step(path, name))

    return check


def tagged(choices: Mapping[str, Check], *, default: str | None = None) -> Check:
    """An object whose ``type`` picks its check; ``default`` is the tag of one without ``type``."""
    listed = ", ".join(f"'{tag}'" for tag in sorted(choices))

    def check(value: Any, path: str) -> None:
        _demand(value, path, dict)
        tag = value.get("type") or default
        if tag is None:
            raise refuse(path, "Unable to extract tag using discriminator 'type'")
        if not isinstance(tag, str) or tag not in choices:
            problem = f"Input tag '{tag}' found using 'type' does not match any of the expected tags: {listed}"
            raise refuse(path, problem)
        choices[tag](value, step(path, tag))

    return check


def base64_text(value: Any, path: str) -> None:
    """A string of standard base64 with its padding."""
    _demand(value, path, str)
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise refuse(path, "Invalid base64 data") from None


def _demand(value: Any, path: str, wanted: type) -> None:
    if type(value) is not wanted:
        article = "an object" if wanted is dict else f"a valid {_TYPE_WORDS[wanted]}"
        raise refuse(path, f"Input should be {article}")
