"""Writes docs/cli.md from the commands themselves: ``python -m pointsman.cli.reference > docs/cli.md``."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from pointsman.cli import app

HEAD = """\
# The command line

Made by `python -m pointsman.cli.reference > docs/cli.md`: change the commands, not this page.

Results go to standard output; progress, notes and warnings go to standard error. Exit codes: 0 done, 1 failed, 2 wrong
use or configuration, 130 stopped by Ctrl-C. Commands that change something wait until every running server works with
the change; when one doesn't confirm in time they say which, and exit with 1.

```sh
export POINTSMAN_API_KEY=$(pointsman keys create --name laptop)
pointsman connections add openai --base-url https://api.openai.com/v1 --api-key env:OPENAI_API_KEY
pointsman connections test openai
pointsman chat --model openai/gpt-4o-mini "What is the capital of France?"
pointsman logs --follow
```
"""


def render_reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command in _commands("pointsman", typer.main.get_command(app)):
        parts.append(_section(path, command))
    return "\n".join(parts)


# typer carries its own copy of click, whose classes it does not publish: hence Any.
def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name, in the order of the names."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name in sorted(inner):
        yield from _commands(f"{path} {name}", inner[name])


def _section(path: str, command: Any) -> str:
    context = command.context_class(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), "", f"    {path} {usage}", ""]
    records = [record for parameter in command.params if (record := parameter.get_help_record(context)) is not None]
    if records:
        lines += ["| option or argument | meaning |", "|---|---|"]
        lines += [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in records]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    typer.echo(render_reference(), nl=False)
