"""Where a request for a Gemini model goes: the Gemini API or Vertex AI, and what the model's family takes."""

from typing import Final
from urllib.parse import quote

import msgspec

from pointsman.canonical.halves import Upstream
from pointsman.wire.gemini import is_older

_COLLECTIONS: Final = ("models/", "tunedModels/")
DEFAULT_LOCATION: Final = "global"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``path``: of the model, below the base URL. ``older``: a family before Gemini 3."""

    path: str
    name: str
    vertex: bool
    older: bool

    @property
    def demands_signatures(self) -> bool:
        """True when calls of the current turn must have their thought signatures."""
        return not self.older


def target_of(upstream: Upstream) -> Target:
    """Reads the connection's options ``project`` and ``location`` (Vertex AI) and the quirk ``vertex``.

    With a project the path is ``/projects/P/locations/L/publishers/google/models/M``; Vertex AI without one is its
    express mode, which takes a key. Else it is the Gemini API's ``/models/M``.
    """
    model = upstream.model
    collection = next((prefix for prefix in _COLLECTIONS if model.startswith(prefix)), "models/")
    name = model.removeprefix(collection)
    older = is_older(name)
    if not is_vertex(upstream):
        return Target(path=f"/{collection}{quote(name, safe='')}", name=name, vertex=False, older=older)
    publisher, _, short = name.rpartition("/")
    path = f"/publishers/{quote(publisher or 'google', safe='')}/models/{quote(short, safe='')}"
    return Target(path=f"{_project(upstream)}{path}", name=name, vertex=True, older=older)


def is_vertex(upstream: Upstream) -> bool:
    """True when the connection leads to Vertex AI."""
    return bool(upstream.quirks.get("vertex")) or "project" in upstream.options


def has_project(upstream: Upstream) -> bool:
    """True when Vertex AI is called by project, which takes a bearer token and no key."""
    return "project" in upstream.options


def _project(upstream: Upstream) -> str:
    project = upstream.options.get("project")
    if project is None:
        return ""
    location = upstream.options.get("location") or upstream.options.get("region") or DEFAULT_LOCATION
    return f"/projects/{quote(project, safe='')}/locations/{quote(location, safe='')}"
