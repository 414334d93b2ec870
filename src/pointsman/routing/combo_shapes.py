"""The two shapes in which combos are described (`models` with a `config`, or `model` with `nodes`), checked.

A document is the description with every entry written out: what is stored and shown.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pointsman.routing.combo_settings import Check, Fault, check_settings, flag, items, number, only, pattern, text

STRATEGIES: Final = (
    "priority", "weighted", "round-robin", "context-relay", "fill-first", "p2c", "random", "least-used",
    "cost-optimized", "reset-aware", "reset-window", "headroom", "strict-random", "auto", "lkgp", "context-optimized",
    "fusion",
)  # fmt: skip
MAX_ENTRIES: Final = 200
MAX_MODEL: Final = 300
NAME: Final = re.compile(r"[A-Za-z0-9 \-_/.\[\]]{1,100}")
OWN: Final = ("id", "sortOrder", "createdAt", "updatedAt", "source")  # ours to say


class InvalidFieldsError(Exception):
    """A description is wrong; ``faults`` are pairs of a field and what is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in faults))
        self.faults = faults


def _name(field: str, value: Any) -> Iterator[Fault]:
    if not isinstance(value, str) or NAME.fullmatch(value) is None or value != value.strip():
        yield field, "must be 1 to 100 letters, digits, blanks, or any of - _ / . [ ], with no blank at an end"


def _strategy(field: str, value: Any) -> Iterator[Fault]:
    if value not in STRATEGIES:
        yield field, f"must be one of: {', '.join(STRATEGIES)}"


_FIELDS: Final[dict[str, Check]] = {
    "name": _name,
    "description": text(2000),
    "strategy": _strategy,
    "config": check_settings,
    "allowedProviders": items(100, text(100, shortest=1)),
    "system_message": text(50_000),
    "tool_filter_regex": pattern,
    "context_cache_protection": flag,
    "context_length": number(1000, 2_000_000),
}
_ENTRY: Final[dict[str, Check]] = {
    "provider": text(100),
    "providerId": text(100),
    "connectionId": text(100),
    "tags": items(20, text(100)),
    "weight": number(0, 100, whole=False),
    "id": text(100),
    "label": text(200),
    "prompt": only("", "there is one system message for the whole combo"),
}


def document_of(body: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The document that a description means; with ``before`` it changes only what it names, and null takes away.

    Raises InvalidFieldsError with every field at fault.
    """
    faults: list[Fault] = []
    given = {name: value for name, value in body.items() if name not in OWN}
    if "compressionOverride" in given:
        mode = given.pop("compressionOverride") or None
        given["config"] = {**(before or {}).get("config", {}), **(given.get("config") or {}), "compressionMode": mode}
    for name, check in _FIELDS.items():
        if given.get(name) is not None:
            faults += check(name, given[name])
    document = dict(before or {"models": [], "strategy": "priority", "config": {}})
    entries = _entries(given, faults)
    if entries is not None:
        document["models"] = entries
    for name in _FIELDS:
        if name in given:
            document[name] = given[name]
    document = {name: value for name, value in document.items() if value is not None}
    if "name" not in document:
        faults.append(("name", "is missing"))
    faults += _strangers(document)
    if faults:
        raise InvalidFieldsError(faults)
    document.setdefault("strategy", "priority")
    document["config"] = {name: value for name, value in document.get("config", {}).items() if value is not None}
    return document


def _strangers(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Tiers whose entry is none of the combo's."""
    found = (document.get("config") or {}).get("compositeTiers")
    tiers = found.get("tiers") if isinstance(found, dict) else None
    known = {entry.get("id") for entry in document.get("models") or ()}
    for name, tier in tiers.items() if isinstance(tiers, dict) else ():
        if isinstance(tier, dict) and tier.get("stepId") not in known:
            yield f"config.compositeTiers.tiers.{name}.stepId", "names no entry of this combo"


def _entries(given: Mapping[str, Any], faults: list[Fault]) -> list[dict[str, Any]] | None:
    """The entries of either shape; None when the description says nothing of them."""
    if given.get("models") is not None:
        found = given["models"]
        if not isinstance(found, list) or len(found) > MAX_ENTRIES:
            faults.append(("models", f"must be a list of at most {MAX_ENTRIES}"))
            return None
        return [_entry(item, f"models[{index}]", index, faults) for index, item in enumerate(found)]
    model = given.get("model")
    if model is None:
        if given.get("nodes") is not None:
            faults.append(("model", "is missing"))
        return None
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL:
        faults.append(("model", f"must be a text of 1 to {MAX_MODEL} characters"))
        return None
    return _of_nodes(model, given.get("nodes") or [], faults)


def _of_nodes(model: str, nodes: Any, faults: list[Fault]) -> list[dict[str, Any]]:
    """One model at several connections, in the order of their priority."""
    check = items(MAX_ENTRIES, lambda field, node: _node(field, node))
    wrong = list(check("nodes", nodes))
    faults += wrong
    if wrong:
        return []
    if not nodes:
        return [_entry(model, "model", 0, faults)]
    ordered = sorted(nodes, key=lambda node: node.get("priority") or 0)
    entries = [{"model": model, "connectionId": node["connectionId"], "weight": node.get("weight") or 0}
               for node in ordered]  # fmt: skip
    return [_entry(entry, f"nodes[{index}]", index, faults) for index, entry in enumerate(entries)]


def _node(field: str, node: Any) -> Iterator[Fault]:
    if not isinstance(node, dict) or not isinstance(node.get("connectionId"), str) or not node["connectionId"]:
        yield f"{field}.connectionId", "is missing"
        return
    if node.get("weight") is not None:
        yield from number(0, 100, whole=False)(f"{field}.weight", node["weight"])
    if node.get("priority") is not None:
        yield from number(-1_000_000, 1_000_000)(f"{field}.priority", node["priority"])


def _entry(item: Any, field: str, index: int, faults: list[Fault]) -> dict[str, Any]:
    """One entry, written out."""
    if isinstance(item, str):
        item = {"kind": "model", "model": item}
    if not isinstance(item, dict):
        faults.append((field, "must be a text or an object"))
        return {}
    kind = item.get("kind", "combo-ref" if "comboName" in item else "model")
    if kind not in ("model", "combo-ref"):
        faults.append((f"{field}.kind", "must be model or combo-ref"))
    what = "comboName" if kind == "combo-ref" else "model"
    for name, check in {**_ENTRY, what: text(MAX_MODEL, shortest=1)}.items():
        if item.get(name) is not None:
            faults += check(f"{field}.{name}", item[name])
    if item.get(what) is None:
        faults.append((f"{field}.{what}", "is missing"))
    kept = {name: item[name] for name in (what, *_ENTRY) if item.get(name) is not None}
    return {"kind": kind, "id": f"step-{index + 1}", "weight": 0, **kept}


def check_chain(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chain in a description of a fallback chain, by priority. Raises InvalidFieldsError."""
    faults: list[Fault] = []
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL:
        faults.append(("model", f"must be a text of 1 to {MAX_MODEL} characters"))
    chain = body.get("chain")
    if not isinstance(chain, list) or not 1 <= len(chain) <= MAX_ENTRIES:
        faults.append(("chain", f"must be a list of 1 to {MAX_ENTRIES}"))
        chain = []
    found = []
    for index, link in enumerate(chain):
        field = f"chain[{index}]"
        if not isinstance(link, dict) or not isinstance(link.get("provider"), str) or not link["provider"]:
            faults.append((f"{field}.provider", "is missing"))
            continue
        priority, enabled = link.get("priority"), link.get("enabled")
        if priority is not None:
            faults += number(1, 100)(f"{field}.priority", priority)
        if enabled is not None:
            faults += flag(f"{field}.enabled", enabled)
        found.append(
            {
                "provider": link["provider"],
                "priority": min(index + 1, 100) if priority is None else priority,
                "enabled": True if enabled is None else enabled,
            }
        )
    if faults:
        raise InvalidFieldsError(faults)
    return sorted(found, key=lambda link: int(link["priority"]))
