"""``pointsman chat``: talk to a model through a running server, at the terminal or in a pipe."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.audited import about
from pointsman.cli.options import ConfigFile, DataDir, opened
from pointsman.cli.output import confirm, console, is_terminal, note

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from pointsman.cli.chat_client import ChatClient, Message

KEY_NAME = "cli"
KEY_HOURS = 12
REFRESH_PER_SECOND = 10
MAX_MESSAGES = 400
MAX_PROMPT_CHARACTERS = 16_000_000
HELP = """\
/model NAME  go on with another model (/model alone shows the present one)
/reset       forget the conversation
/help        this text
/quit        end (or Ctrl-D); Ctrl-C stops an answer"""


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="Answer this once and exit.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Default: the first that is listed.")] = None,
    url: Annotated[str | None, typer.Option(help="Default: the server of the data directory.")] = None,
    key: Annotated[str | None, typer.Option(help="Default: POINTSMAN_API_KEY, else a temporary key.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Talk to a model. In a pipe, standard input is the prompt and the answer comes as plain text."""
    from pointsman.cli.chat_client import ChatClient
    from pointsman.settings import DEFAULT_PORT, read_environment

    place = (data_dir, config)
    known_key = key
    environment = read_environment(data_dir)
    if known_key is None and environment.api_key is not None:
        known_key = environment.api_key.reveal()
    address = None
    if (url is None or known_key is None) and environment.data_dir.is_dir():
        address = asyncio.run(_live_address(*place))
    client = ChatClient(url or address or f"http://127.0.0.1:{DEFAULT_PORT}", known_key)
    names = client.list_models()  # public: tells first of all whether somebody listens
    with _key_for(client, address, place):
        conversation = Conversation(client, model or _first(names))
        if prompt is None and sys.stdin.isatty():
            _converse(conversation)
            return
        text = sys.stdin.read(MAX_PROMPT_CHARACTERS) if prompt is None else prompt
        conversation.ask(text)


def _first(names: list[str]) -> str:
    from pointsman.errors import ConfigError
    from pointsman.upstream.minilm import MODEL_NAME

    names = [name for name in names if name.rpartition("/")[2] != MODEL_NAME]  # it makes embeddings
    if not names:
        raise ConfigError("the server lists no model: add one (pointsman connections add), or say which with --model")
    return names[0]


async def _live_address(data_dir: Path | None, config: Path | None) -> str | None:
    """The address of the youngest server that lives on this data directory's database."""
    from pointsman.installation import DEAD_AFTER_SECONDS

    async with opened(data_dir, config) as installation:
        live = await installation.nodes.live(installation.clock.now_us() - int(DEAD_AFTER_SECONDS * 1e6))
    return live[-1].address if live else None


@contextmanager
def _key_for(client: "ChatClient", address: str | None, place: tuple[Path | None, Path | None]) -> Iterator[None]:
    """Give the client a key of its own when it has none, and revoke it at the end, however that comes."""
    from pointsman.errors import ConfigError

    if client.key is not None:
        yield
        return
    if address is None:
        raise ConfigError("no server runs on this data directory: give a key with --key or POINTSMAN_API_KEY")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    key_id, client.key = asyncio.run(_make_key(*place))
    try:
        yield
    finally:
        asyncio.run(_revoke_key(key_id, *place))


async def _make_key(data_dir: Path | None, config: Path | None) -> tuple[str, str]:
    async with opened(data_dir, config) as installation:
        expires_at = installation.clock.now_us() + KEY_HOURS * 3_600_000_000
        row, secret = await installation.keys.create(KEY_NAME, expires_at=expires_at)
        about(row.id)
        await confirm(installation)
    return row.id, secret.reveal()


async def _revoke_key(key_id: str, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        about(key_id, "apikey.revoked")
        await installation.keys.revoke(key_id)
        await confirm(installation)


class Conversation:
    """The messages so far and the model that answers them."""

    def __init__(self, client: "ChatClient", model: str) -> None:
        self.client = client
        self.model = model
        self.messages: list[Message] = []

    def ask(self, text: str) -> None:
        """Send ``text``, show the answer as it comes and keep both; after an error neither is kept.

        An answer that is stopped by Ctrl-C is kept as far as it came, and KeyboardInterrupt goes on.
        """
        from pointsman.cli.chat_client import Message

        question = Message(role="user", content=text)
        shown = _Screen() if is_terminal() else _Pipe()
        pieces = self.client.stream(self.model, [*self.messages, question])
        try:
            with shown:
                for piece in pieces:
                    shown.add(piece)
        except KeyboardInterrupt:
            self._keep(question, shown.text)
            raise
        finally:
            pieces.close()
        self._keep(question, shown.text)

    def _keep(self, question: "Message", answer: str) -> None:
        from pointsman.cli.chat_client import Message

        if answer:
            self.messages += [question, Message(role="assistant", content=answer)]
            del self.messages[:-MAX_MESSAGES]


class _Pipe:
    """Plain text, part by part."""

    def __init__(self) -> None:
        self.text = ""

    def __enter__(self) -> None: ...

    def add(self, piece: str) -> None:
        self.text += piece
        typer.echo(piece, nl=False)

    def __exit__(self, *_: object) -> None:
        if self.text and not self.text.endswith("\n"):
            typer.echo()


class _Screen(_Pipe):
    """Markdown on a terminal: the last lines while it grows, the whole at the end."""

    def __init__(self) -> None:
        from rich.live import Live

        super().__init__()
        self._console = console()
        self._live = Live(
            console=self._console,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            get_renderable=self._tail,
        )

    def __enter__(self) -> None:
        self._live.start()

    def add(self, piece: str) -> None:
        self.text += piece

    def __exit__(self, *_: object) -> None:
        from rich.markdown import Markdown

        self._live.stop()
        if self.text:
            self._console.print(Markdown(_harmless(self.text)))

    def _tail(self) -> "_Tail":
        return _Tail(_harmless(self.text))


class _Tail:
    """As many of the last lines of a Markdown text as the screen can hold."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.markdown import Markdown
        from rich.segment import Segment

        lines = console.render_lines(Markdown(self._text), options, pad=False)
        for line in lines[-max(1, console.size.height - 2) :]:
            yield from line
            yield Segment.line()


def _harmless(text: str) -> str:
    """``text`` without control characters that a terminal would obey."""
    return "".join(one for one in text if one in "\n\t" or one.isprintable())


def _converse(conversation: Conversation) -> None:
    import readline  # noqa: F401 - gives `input` its line editing and history

    note(f"{conversation.model} at {conversation.client.url}   (/help shows the commands, Ctrl-D ends)")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            note("\n(Ctrl-D ends)")
            continue
        if line == "/quit":
            return
        _take(conversation, line)


def _take(conversation: Conversation, line: str) -> None:
    """One line of the person's: a command, or something to ask. Errors are told and the conversation goes on."""
    from pointsman.errors import GatewayError

    try:
        if line.startswith("/"):
            _obey(conversation, *line.partition(" ")[::2])
        elif line:
            conversation.ask(line)
    except GatewayError as error:
        note(f"error: {error.message}")
    except KeyboardInterrupt:
        note("(stopped)")


def _obey(conversation: Conversation, command: str, argument: str) -> None:
    name = argument.strip()
    if command == "/model" and name:
        conversation.client.check_model(name)
        conversation.model = name
        note(f"now with {name}")
    elif command == "/model":
        note(conversation.model)
    elif command == "/reset":
        conversation.messages.clear()
        note("forgotten")
    else:
        note(HELP if command == "/help" else f"there is no {command}\n{HELP}")
