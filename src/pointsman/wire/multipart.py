"""Multipart forms (RFC 7578): read within bounds, and written with the client's own boundary.

The parser is the `multipart` library's incremental one, in its strict mode. It is fed in slices and its limits hold
while it reads, so that a form of a million parts is refused at the first part too many.
"""

import re
from typing import TYPE_CHECKING, Final

from pointsman.canonical.passed import Form, FormPart
from pointsman.errors import GatewayError, Kind

if TYPE_CHECKING:
    from multipart import MultipartSegment, PushMultipartParser

MAX_PARTS: Final = 128
MAX_HEADER_BYTES: Final = 4096
MAX_PART_HEADERS: Final = 8
MAX_FIELD_BYTES: Final = 1024 * 1024  # of a part that is no file
_SLICE: Final = 256 * 1024
_NAME: Final = re.compile(r";\s*name[*0-9]*\s*=", re.IGNORECASE)  # the extended and the continued ones of RFC 2231, too
# What parsers undo in a name, or end it at: a backslash, an encoded word (RFC 2047), a control character.
_ESCAPED: Final = re.compile(r';\s*name\s*=\s*+(?:"[^"]*|[^";]*)(?:[\\\x00-\x1f\x7f]|=\?)', re.IGNORECASE)


def parse_form(content_type: bytes, body: bytes) -> Form:
    """The form in ``body``. Raises GatewayError(INVALID_REQUEST) when it is none, or larger than the limits."""
    import multipart  # when the first form comes

    try:
        kind, options = multipart.parse_options_header(content_type.decode("latin-1"))
    except ValueError:
        kind, options = "", {}
    boundary = options.get("boundary", "")
    if kind.lower() != "multipart/form-data" or not _is_sound(boundary):
        raise GatewayError(
            Kind.INVALID_REQUEST, "the content-type must be multipart/form-data with a boundary", param="content-type"
        )
    parser = multipart.PushMultipartParser(
        boundary,
        content_length=len(body),
        max_header_size=MAX_HEADER_BYTES,
        max_header_count=MAX_PART_HEADERS,
        max_segment_count=MAX_PARTS,
        strict=True,
    )
    try:
        with parser:
            return Form(boundary=boundary, parts=tuple(_read_parts(parser, body)))
    except multipart.ParserLimitReached:
        raise GatewayError(
            Kind.INVALID_REQUEST, f"the form has more than {MAX_PARTS} parts, or a part's headers are too large"
        ) from None
    except (multipart.MultipartError, UnicodeDecodeError, ValueError):
        raise GatewayError(Kind.INVALID_REQUEST, "the body is not a whole multipart form") from None


def write_form(form: Form) -> bytes:
    """The form's bytes. The client's boundary can't be inside a part, or the parts would be others."""
    pieces: list[bytes] = []
    delimiter = b"--%b\r\n" % form.boundary.encode("latin-1")
    for part in form.parts:
        pieces.append(delimiter)
        pieces += [f"{name}: {value}\r\n".encode() for name, value in part.headers]
        pieces += [b"\r\n", part.content, b"\r\n"]
    pieces.append(b"--%b--\r\n" % form.boundary.encode("latin-1"))
    return b"".join(pieces)


def content_type_of(form: Form) -> str:
    """The value of Content-Type that goes with `write_form`."""
    return f'multipart/form-data; boundary="{form.boundary}"'


def with_field(form: Form, name: str, text: str) -> Form:
    """The form with the plain field ``name`` set to ``text``. Raises GatewayError when that would break the form."""
    content = text.encode()
    if form.boundary.encode("latin-1") in content:
        raise GatewayError(Kind.INVALID_REQUEST, "the form's boundary can't be used: choose a longer one")
    made = FormPart(
        name=name,
        filename=None,
        headers=(("Content-Disposition", f'form-data; name="{name}"'),),
        content=content,
    )
    others = tuple(part for part in form.parts if part.name != name or part.filename is not None)
    return Form(boundary=form.boundary, parts=(made, *others))


def _is_sound(boundary: str) -> bool:
    """RFC 2046 5.1.1: one to seventy characters of a small alphabet, the last no space."""
    return (
        1 <= len(boundary) <= 70
        and not boundary.endswith(" ")
        and all(char.isascii() and (char.isalnum() or char in "'()+_,-./:=? ") for char in boundary)
    )


def _read_parts(parser: "PushMultipartParser", body: bytes) -> list[FormPart]:
    parts: list[FormPart] = []
    segment: MultipartSegment | None = None
    pieces: list[bytes] = []
    view = memoryview(body)
    end = len(body) - 2 if body.endswith(b"--\r\n") else len(body)  # a line's end behind the last boundary is usual
    for start in range(0, end, _SLICE):
        for event in parser.parse(bytes(view[start : min(start + _SLICE, end)])):
            if event is None:
                assert segment is not None
                parts.append(_part(segment, b"".join(pieces)))
            elif isinstance(event, bytes | bytearray):
                pieces.append(bytes(event))
            else:
                segment, pieces = event, []
    return parts


def _part(segment: "MultipartSegment", content: bytes) -> FormPart:
    if segment.filename is None and len(content) > MAX_FIELD_BYTES:
        raise GatewayError(
            Kind.INVALID_REQUEST, f"a field of the form has more than {MAX_FIELD_BYTES} bytes", param=segment.name[:100]
        )
    if any("\r" in value or "\n" in value for _, value in segment.headerlist):
        raise ValueError("a header with a line break")
    disposition = [value for name, value in segment.headerlist if name == "Content-Disposition"]
    if len(disposition) > 1 or len(_NAME.findall(disposition[0])) > 1:  # the upstream could take the other one
        raise GatewayError(Kind.INVALID_REQUEST, "a part of the form has two names", param=segment.name[:100])
    if _ESCAPED.search(disposition[0]):
        raise GatewayError(Kind.INVALID_REQUEST, "a name in the form holds an escape", param=segment.name[:100])
    return FormPart(name=segment.name, filename=segment.filename, headers=tuple(segment.headerlist), content=content)
