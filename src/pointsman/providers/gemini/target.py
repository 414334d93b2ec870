"""Where a request for a Gemini model goes: the Gemini API or Vertex AI, and what the model's family takes."""

from typing import Final
from urllib.parse import quote

import msgspec

from pointsman.canonical.halves import Upstream
from pointsman.wire.gemini import is_older

_COLLECTIONS: Final = ("models/", "tunedModels/")
DEFAULT_LOCATION: Final = "global"
GEMINI_VERSION: Final = "v1beta"
VERTEX_VERSION: Final = "v1"
VERTEX_LIST_VERSION: Final = "v1beta1"  # the only one that lists a publisher's models


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``path``: of the model, below the base URL; ``name``: as bodies have it. ``older``: a family before Gemini 3."""

    path: str
    name: str
    vertex: bool
    older: bool

    @property
    def pro(self) -> bool:
        """True for the Pro models, which always think."""
        return "-pro" in self.name and not self.name.rpartition("/")[2].startswith(("gemini-1", "gemini-2.0"))

    @property
    def demands_signatures(self) -> bool:
        """True when calls of the current turn must have their thought signatures."""
        return not self.older


def target_of(upstream: Upstream) -> Target:
    """Reads the connection's options ``project``, ``location`` and ``api_version``, and its host's row.

    With a project the path is Vertex AI's ``/v1/projects/P/locations/L/publishers/google/models/M``. A host whose row
    says ``/publishers/`` is Vertex AI in its express mode, which takes a key. Else it is the Gemini API's
    ``/v1beta/models/M``.
    """
    model = upstream.model
    collection = next((prefix for prefix in _COLLECTIONS if model.startswith(prefix)), "models/")
    name = model.removeprefix(collection)
    older = is_older(name)
    if not is_vertex(upstream):
        path = f"{_version(upstream, GEMINI_VERSION)}/{collection}{quote(name, safe='')}"
        return Target(path=path, name=f"{collection}{name}", vertex=False, older=older)
    publisher, _, short = name.rpartition("/")
    path = f"{models_root(upstream, publisher or 'google')}/{quote(short, safe='')}"
    return Target(path=path, name=name, vertex=True, older=older)


def models_root(upstream: Upstream, publisher: str = "google") -> str:
    """Where Vertex AI's models are, below the base URL."""
    project = f"{_version(upstream, VERTEX_VERSION)}{_project(upstream)}"
    return f"{project}/publishers/{quote(publisher, safe='')}/models"


def models_path(upstream: Upstream) -> str:
    """Where the list of models is, below the base URL."""
    if is_vertex(upstream):
        return f"{_version(upstream, VERTEX_LIST_VERSION)}/publishers/google/models?pageSize=200"
    return f"{_version(upstream, GEMINI_VERSION)}/models?pageSize=1000"


def is_vertex(upstream: Upstream) -> bool:
    """True when the connection leads to Vertex AI."""
    return "project" in upstream.options or "/publishers/" in (upstream.quirks.get("chat_path") or "")


def takes_token(upstream: Upstream) -> bool:
    """True when the credential is a bearer token and no key: Vertex AI by project."""
    return "project" in upstream.options or upstream.quirks.get("auth") == "bearer"


def _version(upstream: Upstream, usual: str) -> str:
    version = upstream.options.get("api_version", usual)
    return f"/{quote(version, safe='')}" if version else ""


def _project(upstream: Upstream) -> str:
    project = upstream.options.get("project")
    if project is None:
        return ""
    location = upstream.options.get("location") or upstream.options.get("region") or DEFAULT_LOCATION
    return f"/projects/{quote(project, safe='')}/locations/{quote(location, safe='')}"
