"""A tool call that the user's text spells out: ``call the tool Bash with {"command": "echo ok"}``.

It lets a whole program, such as a coding agent, take a turn in which a tool really runs.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

_SCRIPTED: Final = re.compile(r"call the tool (\S+) with (?=\{)")
_DECODER: Final = json.JSONDecoder()

Tool = TypeVar("Tool")


def scripted_call(text: str, tools: Sequence[Tool], name_of: Callable[[Tool], object]) -> tuple[Tool, str] | None:
    """The tool that ``text`` names, and its arguments as JSON; None when it spells out no call of one of ``tools``."""
    for found in _SCRIPTED.finditer(text):
        try:
            _, end = _DECODER.raw_decode(text, found.end())
        except ValueError:
            continue
        for tool in tools:
            if name_of(tool) == found[1]:
                return tool, text[found.end() : end]
    return None
