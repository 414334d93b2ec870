"""Anthropic's files API as a simulator answers it: a beta, which has to be asked for."""

import time
from datetime import UTC, datetime
from string import ascii_letters, digits
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from . import anthropic_errors as errors
from .anthropic_checks import InvalidRequest, Json
from .file_shelf import FileShelf, KeptFile
from .forms import parse_form
from .reply import Headers, Reply, Request

FILES_PATH: Final = "/v1/files"
BETA: Final = "files-api-"
_FORBIDDEN: Final = frozenset('<>:"|?*\\/')
_USUAL, _MOST = 20, 1000
_LEAST_SECONDS, _MOST_SECONDS = 3600, 7_776_000


class AnthropicFiles:
    """``/v1/files`` and below it. Only what a model has made can be downloaded, so nothing that was uploaded."""

    def __init__(self) -> None:
        self.shelf = FileShelf("file_", ascii_letters + digits, 24)

    def answer(self, request: Request, headers: Headers) -> Reply:
        """Anthropic's answer, errors included."""
        betas = ",".join(value for name, value in request.headers if name == "anthropic-beta").split(",")
        if not any(beta.strip().startswith(BETA) for beta in betas):
            return errors.error_reply(404, "Not Found", headers)
        path, _, query = request.path.partition("?")
        name, _, rest = unquote(path[len(FILES_PATH) :].lstrip("/")).partition("/")
        try:
            if not name:
                return self._listed(request, query, headers)
            file = self.shelf.files.get(name)
            if rest not in ("", "content"):
                return errors.error_reply(404, "Not Found", headers)
            if file is None:
                return errors.error_reply(404, f"File not found: {name}", headers)
            if request.method == "DELETE" and not rest:
                del self.shelf.files[name]
                return _json({"id": name, "type": "file_deleted"}, headers)
            if request.method != "GET":
                return errors.error_reply(405, "Method Not Allowed", headers)
            if not rest:
                return _json(file.told, headers)
            raise InvalidRequest(f"File {name} is not downloadable")
        except InvalidRequest as refused:
            return errors.error_reply(400, str(refused), headers)

    def _listed(self, request: Request, query: str, headers: Headers) -> Reply:
        if request.method == "POST":
            return self._upload(request, headers)
        if request.method != "GET":
            return errors.error_reply(405, "Method Not Allowed", headers)
        told = dict(parse_qsl(query))
        limit = int(told.get("limit", _USUAL))
        if not 1 <= limit <= _MOST:
            raise InvalidRequest(f"limit: Input should be between 1 and {_MOST}")
        files = self.shelf.newest_first()
        ids = [file.id for file in files]
        after = told.get("page", "").removeprefix("page_") or told.get("after_id")
        if after:
            files = files[ids.index(after) + 1 :] if after in ids else []
        page, more = files[:limit], len(files) > limit
        made: Json = {"data": [file.told for file in page], "has_more": more}
        made |= {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        return _json(made | {"next_page": f"page_{page[-1].id}" if more else None}, headers)

    def _upload(self, request: Request, headers: Headers) -> Reply:
        form = parse_form(request.header("content-type"), request.body)
        files = form.files("file") if form is not None else []
        if form is None or not files:
            raise InvalidRequest("file: Field required")
        name = files[0].filename or "unnamed"
        if len(name) > 255 or _FORBIDDEN & set(name):
            raise InvalidRequest("file: Invalid filename")
        seconds = form.text("expires_in_seconds")
        if seconds is not None and not (seconds.isdecimal() and _LEAST_SECONDS <= int(seconds) <= _MOST_SECONDS):
            raise InvalidRequest(f"expires_in_seconds: must be between {_LEAST_SECONDS} and {_MOST_SECONDS}")
        created = time.time()
        identity = self.shelf.new_id()
        told: Json = {
            "type": "file",
            "id": identity,
            "filename": name,
            "mime_type": files[0].content_type,
            "size_bytes": len(files[0].content),
            "created_at": _moment(created),
            "downloadable": False,
            "expires_at": _moment(created + int(seconds)) if seconds is not None else None,
        }
        kept = KeptFile(
            id=identity,
            content=files[0].content,
            media_type=files[0].content_type,
            told=told,
            created=created,
            downloadable=False,
        )
        self.shelf.put(kept)
        return _json(told, headers)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _json(body: Json, headers: Headers) -> Reply:
    return Reply(
        status=200,
        content_type=errors.JSON_TYPE,
        headers=headers,
        body=msgspec.json.encode(body),
        failure=errors.server_failure(headers),
    )
