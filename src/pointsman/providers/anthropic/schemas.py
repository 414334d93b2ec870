"""JSON schemas as Anthropic takes them for answers and strict tools.

platform.claude.com/docs/en/build-with-claude/structured-outputs: objects must be closed, and limits on numbers, lengths
and sizes are not taken; what is taken away is said in the description, as Anthropic's own clients do.
"""

from typing import Any, Final

from pointsman.canonical.fidelity import Fidelity

Json = dict[str, Any]

_REFUSED: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties",
)  # fmt: skip
_MAPS: Final = ("properties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf")
_DEPTH: Final = 100


def closed_schema(schema: Json, path: str, fidelity: Fidelity) -> Json:
    """``schema`` with closed objects and without limits; what that changed is noted once each."""
    changes: set[str] = set()
    written = _close(schema, changes, _DEPTH)
    if "closed" in changes:
        fidelity.synthesised(f"{path}.additionalProperties", "Anthropic takes closed objects only")
    lost = sorted(changes - {"closed"})
    if lost:
        fidelity.approximated(path, f"{', '.join(lost)}: said in the description, not enforced")
    return written


def object_schema(schema: Json | None) -> Json:
    """A tool's schema: Anthropic wants an object's."""
    if schema is None:
        return {"type": "object", "properties": {}}
    return schema if schema.get("type") == "object" else {**schema, "type": "object"}


def _close(schema: Json, changes: set[str], depth: int) -> Json:
    if depth == 0:
        return schema
    written = {name: _inner(name, value, changes, depth) for name, value in schema.items() if name not in _REFUSED}
    limits = {name: schema[name] for name in _REFUSED if name in schema and not isinstance(schema[name], dict)}
    if limits:
        changes.update(limits)
        said = ", ".join(f"{name}: {value}" for name, value in limits.items())
        told = schema.get("description")
        written["description"] = f"{told} ({said})" if isinstance(told, str) and told else said
    kind = schema.get("type")
    if (kind == "object" or (isinstance(kind, list) and "object" in kind)) and "additionalProperties" not in schema:
        written["additionalProperties"] = False
        changes.add("closed")
    return written


def _inner(name: str, value: Any, changes: set[str], depth: int) -> Any:
    """A member's value, with the schemas in it closed too."""
    if name in _MAPS and isinstance(value, dict):
        return {key: _sub(inner, changes, depth) for key, inner in value.items()}
    if name in _LISTS and isinstance(value, list):
        return [_sub(inner, changes, depth) for inner in value]
    return _sub(value, changes, depth) if name == "items" else value


def _sub(value: Any, changes: set[str], depth: int) -> Any:
    return _close(value, changes, depth - 1) if isinstance(value, dict) else value
