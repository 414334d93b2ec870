"""Multipart forms as a simulated upstream reads them: with the standard library's parser, an independent judge."""

from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

import msgspec


class FormPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a form; ``filename`` is None for a plain field."""

    name: str
    filename: str | None
    content_type: str
    content: bytes

    @property
    def text(self) -> str:
        """The content as text; what is no UTF-8 is replaced."""
        return self.content.decode("utf-8", "replace")


class Form(msgspec.Struct, frozen=True):
    """A parsed form, its parts in order."""

    parts: tuple[FormPart, ...]

    def text(self, name: str) -> str | None:
        """The first field of this name, or None."""
        return next((part.text for part in self.parts if part.name == name and part.filename is None), None)

    def all(self, name: str) -> list[str]:
        """Every field of this name; ``name[]`` is the same name."""
        return [part.text for part in self.parts if part.name in (name, f"{name}[]") and part.filename is None]

    def files(self, name: str) -> list[FormPart]:
        """Every file of this name; ``name[]`` and ``name[0]`` are the same name."""
        return [part for part in self.parts if part.filename is not None and part.name.partition("[")[0] == name]


def parse_form(content_type: str, body: bytes) -> Form | None:
    """The form in ``body``, or None when it is none."""
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    message = BytesParser(policy=HTTP).parsebytes(
        b"content-type: %b\r\n\r\n%b" % (content_type.encode("latin-1"), body)
    )
    if not message.is_multipart() or message.defects:
        return None
    return Form(tuple(_part(part) for part in message.get_payload() if isinstance(part, Message)))


def _part(part: Message) -> FormPart:
    content = part.get_payload(decode=True)
    name = part.get_param("name", "", "content-disposition")
    return FormPart(
        name=name if isinstance(name, str) else "",
        filename=part.get_filename(),
        content_type=part.get_content_type(),
        content=content if isinstance(content, bytes) else b"",
    )
