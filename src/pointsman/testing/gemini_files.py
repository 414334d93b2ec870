"""The Gemini API's files as a simulator answers them: uploads in one request, or in parts to an own address."""

import base64
import hashlib
import re
import time
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from itertools import count
from string import ascii_lowercase, digits
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from . import gemini_errors as errors
from .file_shelf import FileShelf, KeptFile
from .gemini_errors import Place
from .gemini_request import InvalidRequest, Json
from .reply import Headers, Reply, Request

UPLOAD_PATH: Final = "/upload/v1beta/files"
FILES_PATH: Final = "/v1beta/files"
GRANULARITY: Final = 8 * 1024 * 1024 // 32  # bytes of which a part that isn't the last has a multiple
LIFETIME_SECONDS: Final = 48 * 3600
_ADDRESS: Final = "https://generativelanguage.googleapis.com/v1beta/files/"
_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_USUAL, _MOST = 10, 100


class _Session(msgspec.Struct, kw_only=True):
    """An upload in parts: what it is of, and what has come."""

    file: Json
    media_type: str
    size: int | None
    content: bytearray


class GeminiFiles:
    """``/upload/v1beta/files``, ``/v1beta/files`` and below it."""

    def __init__(self) -> None:
        self.shelf = FileShelf("", ascii_lowercase + digits, 12)
        self._sessions: dict[str, _Session] = {}
        self._numbers = count(1)

    def takes(self, path: str) -> bool:
        """Whether a path is one of these."""
        return path.partition("?")[0].startswith((UPLOAD_PATH, FILES_PATH))

    def is_part(self, request: Request) -> bool:
        """Whether a request goes on with an upload: then its address is all that it needs."""
        return request.path.startswith(UPLOAD_PATH) and "upload_id=" in request.path

    def answer(self, request: Request, place: Place) -> Reply:
        """Google's answer, errors included."""
        path, _, query = request.path.partition("?")
        told = dict(parse_qsl(query))
        try:
            if path == UPLOAD_PATH:
                if request.method not in ("POST", "PUT"):
                    return errors.unknown_path(path, place.headers)
                return self._go_on(request, told, place) if "upload_id" in told else self._upload(request, place)
            name = unquote(path[len(FILES_PATH) :].lstrip("/"))
            return self._one(request, name, place) if name else self._list(told, place)
        except InvalidRequest as invalid:
            return errors.error_reply(place, invalid.code, invalid.message, invalid.status, invalid.details)

    # uploads

    def _upload(self, request: Request, place: Place) -> Reply:
        protocol = request.header("x-goog-upload-protocol")
        if protocol == "resumable":
            return self._start(request, place)
        if protocol == "raw":
            return self._keep({}, request.header("content-type"), request.body, place)
        described, media_type, content = _related(request)
        return self._keep(described, media_type, content, place)

    def _start(self, request: Request, place: Place) -> Reply:
        if request.header("x-goog-upload-command") != "start":
            raise InvalidRequest("Invalid X-Goog-Upload-Command")
        described = _description(request.body or b"{}")
        self._check_name(described)
        size = request.header("x-goog-upload-header-content-length")
        identity = f"ABgVH8{next(self._numbers):06d}"
        self._sessions[identity] = _Session(
            file=described,
            media_type=request.header("x-goog-upload-header-content-type") or "application/octet-stream",
            size=int(size) if size.isdecimal() else None,
            content=bytearray(),
        )
        address = f"http://{request.header('host')}{UPLOAD_PATH}?upload_id={identity}&upload_protocol=resumable"
        told = (
            ("x-guploader-uploadid", identity),
            ("x-goog-upload-status", "active"),
            ("x-goog-upload-url", address),
            ("x-goog-upload-control-url", address),
            ("x-goog-upload-chunk-granularity", f"{GRANULARITY}"),
        )
        return _empty((*place.headers, *told))

    def _go_on(self, request: Request, query: dict[str, str], place: Place) -> Reply:
        session = self._sessions.get(query["upload_id"])
        if session is None:
            return _empty((*place.headers, ("x-goog-upload-status", "final")), status=404)
        commands = {word.strip() for word in request.header("x-goog-upload-command").split(",")}
        if commands == {"query"}:
            size = ("x-goog-upload-size-received", f"{len(session.content)}")
            return _empty((*place.headers, ("x-goog-upload-status", "active"), size))
        if commands == {"cancel"}:
            del self._sessions[query["upload_id"]]
            return _empty((*place.headers, ("x-goog-upload-status", "cancelled")))
        if not commands or not commands <= {"upload", "finalize"}:
            raise InvalidRequest("Invalid X-Goog-Upload-Command")
        if request.header("x-goog-upload-offset") != str(len(session.content)):
            raise InvalidRequest("The upload offset does not match the number of bytes received")
        if "finalize" not in commands and len(request.body) % GRANULARITY:
            raise InvalidRequest(f"The part's size is no multiple of {GRANULARITY}")
        session.content += request.body
        if "finalize" not in commands:
            return _empty((*place.headers, ("x-goog-upload-status", "active")))
        del self._sessions[query["upload_id"]]
        if session.size is not None and session.size != len(session.content):
            raise InvalidRequest("The upload's size is not the one that was announced")
        final = msgspec.structs.replace(place, headers=(*place.headers, ("x-goog-upload-status", "final")))
        return self._keep(session.file, session.media_type, bytes(session.content), final)

    def _check_name(self, described: Json) -> str | None:
        name = described.get("name")
        if name is None:
            return None
        bare = name.removeprefix("files/") if isinstance(name, str) else ""
        if not _ID.fullmatch(bare):
            raise InvalidRequest("Invalid file name: it must be like files/abc-123")
        if bare in self.shelf.files:
            raise InvalidRequest(f"File {bare} already exists.", code=409, status="ALREADY_EXISTS")
        return str(bare)

    def _keep(self, described: Json, media_type: str, content: bytes, place: Place) -> Reply:
        identity = self._check_name(described) or self.shelf.new_id()
        created = time.time()
        told: Json = {
            "name": f"files/{identity}",
            **({"displayName": described["displayName"]} if described.get("displayName") else {}),
            "mimeType": media_type,
            "sizeBytes": str(len(content)),
            "createTime": _moment(created),
            "updateTime": _moment(created),
            "expirationTime": _moment(created + LIFETIME_SECONDS),
            "sha256Hash": base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode(),
            "uri": _ADDRESS + identity,
            "state": "ACTIVE",
            "source": "UPLOADED",
        }
        kept = KeptFile(id=identity, content=content, media_type=media_type, told=told, created=created)
        self.shelf.put(kept)
        return _json({"file": told}, place.headers)

    # files

    def _one(self, request: Request, name: str, place: Place) -> Reply:
        bare, _, method = name.partition(":")
        file = self.shelf.files.get(bare)
        if file is None:
            message = f"You do not have permission to access the File {bare} or it may not exist."
            return errors.error_reply(place, 403, message, "PERMISSION_DENIED")
        if method:
            if method != "download":
                return errors.unknown_path(request.path, place.headers)
            raise InvalidRequest("Only generated files can be downloaded.")
        if request.method == "DELETE":
            del self.shelf.files[bare]
            return _json({}, place.headers)
        if request.method != "GET":
            return errors.unknown_path(request.path, place.headers)
        return _json(file.told, place.headers)

    def _list(self, query: dict[str, str], place: Place) -> Reply:
        size = int(query.get("pageSize", _USUAL))
        if not 1 <= size <= _MOST:
            raise InvalidRequest(f"page_size must be between 1 and {_MOST}")
        files = self.shelf.newest_first()
        start = int(query.get("pageToken", 0))
        made: Json = {"files": [file.told for file in files[start : start + size]]} if files[start:] else {}
        if len(files) > start + size:
            made["nextPageToken"] = str(start + size)
        return _json(made, place.headers)


def _related(request: Request) -> tuple[Json, str, bytes]:
    """A description and a file in one multipart body."""
    head = b"content-type: %b\r\n\r\n" % request.header("content-type").encode("latin-1")
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    parts = [part for part in message.get_payload() if isinstance(part, Message)] if message.is_multipart() else []
    if len(parts) != 2:
        raise InvalidRequest("The multipart body must have a description and a file")
    described, content = (part.get_payload(decode=True) for part in parts)
    if not isinstance(described, bytes) or not isinstance(content, bytes):
        raise InvalidRequest("The multipart body can't be read")
    return _description(described), parts[1].get_content_type(), content


def _description(body: bytes) -> Json:
    try:
        told = msgspec.json.decode(body, type=dict)
    except msgspec.DecodeError:
        raise InvalidRequest("Invalid JSON payload received.") from None
    file = told.get("file", {})
    if not isinstance(file, dict):
        raise InvalidRequest("Invalid value at 'file'")
    return {"displayName" if name == "display_name" else str(name): value for name, value in file.items()}


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(body: Json, headers: Headers) -> Reply:
    formatted = msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"
    return Reply(
        status=200, content_type=errors.JSON_TYPE, headers=headers, body=formatted, failure=errors.server_failure()
    )


def _empty(headers: Headers, status: int = 200) -> Reply:
    return Reply(status=status, content_type="text/plain; charset=utf-8", headers=headers, body=b"")
