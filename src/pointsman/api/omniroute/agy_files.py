"""``/api/providers/agy-auth``: token files of a vendor's own program.

Files are read and checked as the contract has it, but no connection is made of them: such a token works only for
whoever says that it is that program, which this gateway does not (see docs/connections.md). Every answer says so.
"""

import io
import zipfile
import zlib
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.configured import Configured, refused
from pointsman.api.omniroute.management import ManagementError, invalid, read_object
from pointsman.api.omniroute.provider_bodies import read
from pointsman.errors import GatewayError
from pointsman.wire.multipart import parse_form

NOT_TAKEN: Final = (
    "tokens of the Antigravity program are not taken: they may be used by that program alone; "
    "make a connection with an API key instead (provider gemini or vertex)"
)
MAX_ENTRIES: Final = 50
MAX_ARCHIVE: Final = 4 * 1024 * 1024  # bytes
MAX_FILES: Final = 200  # of any kind in an archive
MAX_FILE: Final = 64 * 1024  # bytes of one token file, unpacked

Text = Annotated[str, Meta(max_length=MAX_FILE)]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A token file, as it is or as a text."""

    kind: Literal["json", "text"] = "json"
    json: Any = None
    text: Text | None = None


class ImportBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of ``import``."""

    source: Source
    name: str | None = None
    email: str | None = None
    overwrite_existing: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bulk import."""

    json: Any
    name: str | None = None
    email: str | None = None


class BulkBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of ``import-bulk``."""

    entries: Annotated[list[Entry], Meta(min_length=1, max_length=MAX_ENTRIES)]
    overwrite_existing: bool = False


class AgyFiles:
    """The views."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/providers/agy-auth/import", status_code=200)
        async def import_file(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            body = read(await read_object(request), ImportBody)
            fault = fault_of(body.source.text if body.source.kind == "text" else body.source.json)
            raise invalid([("source", fault or NOT_TAKEN)])

        @post("/api/providers/agy-auth/import-bulk", status_code=200)
        async def import_files(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            body = read(await read_object(request), BulkBody)
            results = [
                {"index": place, "name": entry.name, "ok": False, "error": fault_of(entry.json) or NOT_TAKEN}
                for place, entry in enumerate(body.entries)
            ]
            return answer({"success": 0, "failed": len(results), "results": results})

        @post("/api/providers/agy-auth/zip-extract", status_code=200)
        async def extract_files(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            return answer(
                {"entries": unpack(archive_in(await request.body(), request.headers.get("content-type", "")))}
            )

        @post("/api/providers/agy-auth/apply-local", status_code=200)
        async def import_local(request: HttpRequest) -> Response[bytes]:
            self._configured.admit(request)
            raise refused(404, f"no local login is looked for: {NOT_TAKEN}")

        return [import_file, import_files, extract_files, import_local]


def fault_of(document: Any) -> str | None:
    """What is wrong with a token file; None when it has what the contract asks for."""
    if isinstance(document, str):
        try:
            document = msgspec.json.decode(document)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return "is not JSON"
    if not isinstance(document, dict):
        return "is not a token file"
    inner = document.get("token")
    tokens = inner if isinstance(inner, dict) else document
    missing = [
        name for name in ("access_token", "refresh_token") if not isinstance(tokens.get(name), str) or not tokens[name]
    ]
    return f"has no {' and no '.join(missing)}" if missing else None


def archive_in(body: bytes, content_type: str) -> bytes:
    """The archive in a body, which is one or has it as a file of a form. Raises ManagementError."""
    if len(body) > MAX_ARCHIVE:
        raise ManagementError(413, {"message": f"an archive has {MAX_ARCHIVE} bytes at most"}, with_id=True)
    if not content_type.lower().startswith("multipart/form-data"):
        return body
    try:
        form = parse_form(content_type.encode("latin-1", "replace"), body)
    except GatewayError as error:
        raise invalid([("body", error.message)]) from None
    found = next((part.content for part in form.parts if part.filename is not None), None)
    if found is None:
        raise invalid([("file", "is missing")])
    return found


def unpack(archive: bytes) -> list[dict[str, Any]]:
    """The token files in an archive by their plain names; nothing is written to disk. Raises ManagementError."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            infos = opened.infolist()
            if len(infos) > MAX_FILES:
                raise invalid([("body", f"the archive has more than {MAX_FILES} files")])
            chosen = [info for info in infos if info.filename.lower().endswith(".json") and not info.is_dir()]
            if len(chosen) > MAX_ENTRIES:
                raise invalid([("body", f"the archive has more than {MAX_ENTRIES} token files")])
            return [entry for info in chosen if (entry := _entry(opened, info)) is not None]
    # What zipfile raises: NotImplementedError is an unknown compression, RuntimeError an encrypted file.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        raise invalid([("body", "is not a ZIP archive that can be read")]) from None


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any] | None:
    """One file; None when it is no JSON object. Names that lead out of the archive are refused, not repaired."""
    name = info.filename
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
        raise invalid([("body", "a file's name in the archive leads out of it")])
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise invalid([("body", "the archive has a file that is compressed in an unusual way")])
    with archive.open(info) as file:
        content = file.read(MAX_FILE + 1)  # what the archive says of the size is not believed
    if len(content) > MAX_FILE:
        raise invalid([("body", f"a token file has more than {MAX_FILE} bytes")])
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return {"name": name.rpartition("/")[2], "json": document} if isinstance(document, dict) else None
