"""An answer that is passed on as it comes: events, sound, or a body that is collected first."""

from collections.abc import Callable

from pointsman.errors import GatewayError
from pointsman.providers.openai_operations import EventWatcher, SoundWatcher
from pointsman.upstream.answers import Receiver, StreamedAnswer
from pointsman.upstream.http1 import UpstreamConnection


class RelayedAnswer(StreamedAnswer):
    """A sink that passes an event stream on in whole events, and sound as it comes.

    Sound that breaks off in the middle breaks the client's connection: there is no other way to say that it isn't
    whole. Whatever else comes is collected.
    """

    def __init__(
        self,
        receiver: Receiver,
        events: EventWatcher,
        settle: Callable[[GatewayError | None, int], None],
        render_error: Callable[[GatewayError], bytes],
        *,
        sound: bool,
    ) -> None:
        """``sound``: whatever isn't JSON or events is sound."""
        super().__init__(receiver, events, settle, render_error)
        self._sound = sound
        self._is_sound = False

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """Decides by the status and content type how the body goes on."""
        if super().head(status, headers, call):
            return True
        told = headers.get(b"content-type", b"").lower()
        if status == 200 and self._sound and not told.startswith((b"application/json", b"text/html")):
            self.streaming = self._is_sound = True
            self._reader = SoundWatcher()
            self._receiver.throttle = self._throttle
        return self.streaming

    def fail(self, error: GatewayError) -> None:
        """The call broke."""
        if self.done or not self._is_sound or not self.started:
            super().fail(error)
            return
        self._settle_once(error, 0)
        self._receiver.cut()
        self.finish()

    def _begin(self) -> None:
        self.started = True
        content_type = self.headers.get(b"content-type") or b"application/octet-stream"
        self._receiver.start(200, content_type, b"" if self._is_sound else b"cache-control: no-cache\r\n")
