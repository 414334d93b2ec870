"""``pointsman translate``: what a request of one API becomes in another's, and what is lost on the way."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.output import console, print_json, print_table


@app.command()
def translate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A request's JSON body; - is standard input.")],
    source: Annotated[
        str | None, typer.Option("--from", help="The API it is for. [default: found by its looks]")
    ] = None,
    target: Annotated[
        str, typer.Option("--to", help="openai, openai-responses, claude, gemini, ollama, cohere ...")
    ] = ("openai"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result and the ledger as JSON.")] = False,
) -> None:
    """Translate a request and show the difference: the two bodies, and each field that was not simply carried."""
    from pointsman.hub.translator import detect, format_named
    from pointsman.hub.translator import translate as run

    body = _read(file)
    source = source or detect(body)
    result = run(body, format_named(source, "--from", client=True), format_named(target, "--to"))
    rows = [(note.path, note.action.value, note.detail) for note in result.notes]
    if as_json:
        print_json({"source": source, "target": target, "path": result.built.path, "body": result.body,
                    "fidelity": rows})  # fmt: skip
        return
    _print_diff(f"{file} ({source})", f"{result.built.path} ({target})", body, result.body)
    typer.echo()
    if rows:
        print_table(("field", "what happened", "how"), rows)
    else:
        typer.echo("Everything was carried.")


def _read(file: Path) -> dict[str, Any]:
    import msgspec

    from pointsman.errors import ConfigError

    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return msgspec.json.decode(data, type=dict[str, Any])
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{file} holds no JSON object") from None


def _print_diff(before: str, after: str, old: Any, new: Any) -> None:
    """Both bodies as one unified diff of indented JSON, coloured on a terminal."""
    from difflib import unified_diff

    from rich.text import Text

    screen = console()
    lines = unified_diff(_lines(old), _lines(new), before, after, lineterm="", n=1_000_000)
    for line in lines:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        if not line.startswith("@@"):
            screen.print(Text(line, style=style), soft_wrap=True)


def _lines(value: Any) -> list[str]:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode().splitlines()
