"""Bytes of an event stream into `StreamReader`.

Holds for any bytes: no exception but UPSTREAM_ERROR; what is forwarded is the input, in order, and nothing else but a
``[DONE]``; what is held back is bounded; the same bytes in other pieces give the same readings.
"""

from dataclasses import dataclass, field

from fuzz.splits import case_of, one_blank_line
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai import MAX_EVENT_BYTES, StreamReader

SECRET = "sk-secret-0123456789"
DONE = b"data: [DONE]\n\n"


@dataclass
class Reading:
    """A reader that was fed, and what it gave."""

    reader: StreamReader
    forwarded: list[bytes] = field(default_factory=list)
    error: str | None = None

    def play(self, parts: list[bytes]) -> "Reading":
        """Feed the parts, then the end."""
        try:
            for part in parts:
                self.forwarded.append(self.reader.feed(part))
                held = sum(map(len, self.reader._pieces))
                assert held == self.reader._held <= MAX_EVENT_BYTES, "what is held is not what is counted"
            self.forwarded.append(self.reader.finish())
        except GatewayError as error:
            assert error.kind is Kind.UPSTREAM_ERROR
            self.error = error.message
        return self

    @property
    def output(self) -> bytes:
        """All that was forwarded, without blank lines at the end, which mean nothing."""
        return b"".join(self.forwarded).rstrip(b"\r\n")

    def summary(self) -> tuple[object, ...]:
        """Every reading."""
        reader = self.reader
        return self.error, reader.done, reader.failed, reader.finish_reason, reader.model, reader.usage, reader.events


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    case = case_of(raw)
    choices, secret = 1 + case.options % 3, SECRET if case.options & 4 else None
    whole = Reading(StreamReader(choices, secret)).play([case.data] if case.data else [])
    cut = Reading(StreamReader(choices, secret)).play(case.parts)
    for reading in (whole, cut):
        taken = reading.output.removesuffix(DONE.strip()).rstrip(b"\r\n") if reading.reader.done else reading.output
        assert case.data.startswith(taken), "something was forwarded that had not come"
    # An error found in a later event of one read stops the earlier ones of that read too; in pieces they were out.
    if whole.error is None:
        assert one_blank_line(whole.output) == one_blank_line(cut.output), (
            f"other pieces, other bytes: {whole.output!r} {cut.output!r}"
        )
        assert whole.summary() == cut.summary(), f"other readings: {whole.summary()!r} {cut.summary()!r}"
    else:
        assert whole.error == cut.error, f"other errors: {whole.error!r} {cut.error!r}"
        assert one_blank_line(cut.output).startswith(one_blank_line(whole.output)), "fewer bytes in pieces"
