"""OpenAI's files API as a simulator answers it."""

import time
from string import ascii_letters, digits
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from . import openai_errors as errors
from .file_shelf import FileShelf, KeptFile
from .forms import Form, parse_form
from .openai_request import InvalidRequest, Json
from .reply import Headers, Reply, Request

FILES_PATH: Final = "/v1/files"
PURPOSES: Final = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
_LEAST_SECONDS, _MOST_SECONDS = 3600, 2_592_000
_MOST_LISTED: Final = 10_000


class OpenAIFiles:
    """``/v1/files`` and below it."""

    def __init__(self) -> None:
        self.shelf = FileShelf("file-", ascii_letters + digits, 22)

    def answer(self, request: Request, headers: Headers) -> Reply:
        """OpenAI's answer, errors included."""
        path, _, query = request.path.partition("?")
        name, _, rest = unquote(path[len(FILES_PATH) :].lstrip("/")).partition("/")
        try:
            if not name:
                return self._listed(request, dict(parse_qsl(query)), headers)
            if rest not in ("", "content"):
                return errors.unknown_url(request.method, path, headers)
            file = self.shelf.files.get(name)
            if file is None:
                return errors.error_reply(404, f"No such File object: {name}", headers, param="id")
            if request.method == "DELETE" and not rest:
                del self.shelf.files[name]
                return _json({"object": "file", "id": name, "deleted": True}, headers)
            if request.method != "GET":
                return errors.wrong_method(request.method, path, headers)
            return self._content(file, headers) if rest else _json(file.told, headers)
        except InvalidRequest as refused:
            return errors.invalid(refused, headers)

    def _listed(self, request: Request, query: dict[str, str], headers: Headers) -> Reply:
        if request.method == "POST":
            return self._upload(request, headers)
        if request.method != "GET":
            return errors.wrong_method(request.method, FILES_PATH, headers)
        files = [file for file in self.shelf.newest_first() if query.get("purpose") in (None, file.purpose)]
        if query.get("order") == "asc":
            files.reverse()
        ids = [file.id for file in files]
        if (after := query.get("after")) is not None:
            files = files[ids.index(after) + 1 :] if after in ids else []
        limit = int(query.get("limit", _MOST_LISTED))
        page = files[:limit]
        made: Json = {"object": "list", "data": [file.told for file in page], "has_more": len(files) > limit}
        made |= {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        return _json(made, headers)

    def _upload(self, request: Request, headers: Headers) -> Reply:
        form = parse_form(request.header("content-type"), request.body)
        if form is None:
            raise InvalidRequest("Could not parse multipart form")
        files, purpose = form.files("file"), form.text("purpose")
        if not files:
            raise InvalidRequest("'file' is a required property")
        if purpose is None:
            raise InvalidRequest("'purpose' is a required property")
        if purpose not in PURPOSES:
            raise InvalidRequest(f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'", "purpose")
        if not files[0].content:
            raise InvalidRequest("File is empty.", "file")
        created = time.time()
        identity = self.shelf.new_id()
        told: Json = {
            "object": "file",
            "id": identity,
            "purpose": purpose,
            "filename": files[0].filename,
            "bytes": len(files[0].content),
            "created_at": int(created),
            "expires_at": _end(form, int(created)),
            "status": "processed",
            "status_details": None,
        }
        kept = KeptFile(
            id=identity,
            content=files[0].content,
            media_type="application/octet-stream",
            told=told,
            created=created,
            downloadable=purpose != "assistants",
            purpose=purpose,
        )
        self.shelf.put(kept)
        return _json(told, headers)

    def _content(self, file: KeptFile, headers: Headers) -> Reply:
        if not file.downloadable:
            message = f"Not allowed to download files of purpose: {file.purpose}"
            return errors.error_reply(400, message, headers)
        named = ("content-disposition", f'attachment; filename="{file.told["filename"]}"')
        return Reply(
            status=200,
            content_type=file.media_type,
            headers=(*headers, named),
            body=file.content,
            failure=errors.server_failure(),
        )


def _end(form: Form, created: int) -> int | None:
    anchor, seconds = form.text("expires_after[anchor]"), form.text("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest("expires_after.anchor must be 'created_at'", "expires_after.anchor")
    if seconds is None or not seconds.isdecimal() or not _LEAST_SECONDS <= int(seconds) <= _MOST_SECONDS:
        message = f"expires_after.seconds must be between {_LEAST_SECONDS} and {_MOST_SECONDS}"
        raise InvalidRequest(message, "expires_after.seconds")
    return created + int(seconds)


def _json(body: Json, headers: Headers) -> Reply:
    formatted = msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"
    return Reply(
        status=200, content_type=errors.JSON_TYPE, headers=headers, body=formatted, failure=errors.server_failure()
    )
