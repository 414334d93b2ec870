"""A value that satisfies a JSON schema: the arguments of a simulated tool call, the content of a structured answer."""

from typing import Any, Final

_DEPTH: Final = 12
_MOST_ITEMS: Final = 100
_SCALARS: Final[dict[str, object]] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}


def example_of(schema: object, name: str = "value", root: object = None, depth: int = _DEPTH) -> Any:
    """The same value for the same schema every time.

    Understands type, properties, items, minItems, enum, const, default, anyOf, oneOf, allOf and local $ref; a string is
    "example " and the property's name. Recursion ends with null after 12 levels; what is no schema gives
    null.
    """
    if not isinstance(schema, dict) or depth == 0:
        return None
    root = schema if root is None else root
    if "$ref" in schema:
        return example_of(_referred(root, schema["$ref"]), name, root, depth - 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if enum := _list_in(schema, "enum"):
        return enum[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if choices := _list_in(schema, key):
            return example_of(choices[0], name, root, depth - 1)
    return _of_type(schema, name, root, depth)


def _of_type(schema: dict[str, Any], name: str, root: object, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "object":
        properties = schema.get("properties")
        members = properties.items() if isinstance(properties, dict) else ()
        return {key: example_of(value, key, root, depth - 1) for key, value in members}
    if kind == "array":
        fewest = schema.get("minItems")
        count = min(max(1, fewest), _MOST_ITEMS) if isinstance(fewest, int) else 1
        return [example_of(schema.get("items", {}), name, root, depth - 1)] * count
    if kind in ("integer", "number") and isinstance(schema.get("minimum"), int | float):
        return schema["minimum"]
    return _SCALARS[kind] if isinstance(kind, str) and kind in _SCALARS else f"example {name}"


def _list_in(schema: dict[str, Any], key: str) -> list[Any]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _referred(root: object, reference: object) -> object:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for step in filter(None, reference[1:].split("/")):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found
