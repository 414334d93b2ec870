"""Operations whose content the gateway carries without reading it: pictures, sound, moderations.

They exist in OpenAI's shape only, so there is nothing to translate: the model's name is changed and the rest stays.
"""

import msgspec

from pointsman.canonical.usage import TokenUsage


class FormPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a form. ``filename`` is None for a plain field; ``headers`` are as the client sent them."""

    name: str
    filename: str | None
    headers: tuple[tuple[str, str], ...]
    content: bytes


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A multipart form, its parts in order."""

    boundary: str
    parts: tuple[FormPart, ...]

    def field(self, name: str) -> FormPart | None:
        """The first plain field of this name."""
        return next((part for part in self.parts if part.name == name and part.filename is None), None)


class PassedRequest(msgspec.Struct, kw_only=True):
    """A request to be passed on, as JSON members (``fields``) or as a ``form``.

    ``path`` is the operation's place under the upstream's base URL. ``results``: how many results a stream has before
    it is complete. ``stream``: events were asked for.
    """

    wire: str
    model: str
    path: str
    stream: bool = False
    results: int = 1
    fields: dict[str, msgspec.Raw] | None = None
    form: Form | None = None


class PassedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a passed answer told about itself."""

    model: str | None = None
    usage: TokenUsage | None = None
