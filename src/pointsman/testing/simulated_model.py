"""What a simulated model says, whatever the API: the same turn always gets the same thoughts, words and calls."""

import re
from operator import attrgetter
from typing import Any, Final, Literal

import msgspec

from .behaviour import Behaviour
from .openai_completion import ToolCall, Words
from .schema_example import example_of
from .scripted_call import scripted_call

Ended = Literal["stop", "stop_sequence", "length", "calls", "filtered"]

# A word with the space before it; trailing space is a token too, so that the tokens add up to the text exactly.
_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_NOTHING: Final = Words([""], 0)
_CHARACTERS_PER_TOKEN: Final = 4


class Function(msgspec.Struct, frozen=True):
    """A function that may be called, and the JSON schema of its arguments."""

    name: str
    parameters: Any


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is asked, read from a request of any API.

    ``choice`` is ``auto``, ``none``, ``required`` or the name of the only function that may be called. ``output`` is
    None for text, True for any JSON object, else a JSON schema. ``limit`` is the longest answer in tokens.
    """

    text: str
    prompt_tokens: int
    functions: tuple[Function, ...] = ()
    choice: str = "auto"
    answered: bool = False
    thinking: bool = False
    output: Any = None
    stop: tuple[str, ...] = ()
    limit: int | None = None


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says: thoughts first, then words or calls; why it ends."""

    words: Words
    thoughts: Words = _NOTHING
    calls: tuple[ToolCall, ...] = ()
    ended: Ended = "stop"
    matched_stop: str | None = None

    @property
    def tokens(self) -> int:
        """How many tokens were generated, thoughts included."""
        calls = sum(1 + -(-len(call.arguments) // 8) for call in self.calls)
        return self.words.count + self.thoughts.count + calls


def speak(turn: Turn, behaviour: Behaviour) -> Spoken:
    """The answer to ``turn``: "call the tool" calls the first function, "twice" two at once, else it echoes."""
    thoughts = in_words(f"thinking about: {turn.text}") if turn.thinking else _NOTHING
    calls = _calls(turn)
    if calls:
        return Spoken(words=_NOTHING, thoughts=thoughts, calls=calls, ended="calls")
    cycle = _TOKEN.findall(_text(turn))
    words = Words(cycle, len(cycle) if behaviour.tokens is None else behaviour.tokens)
    if behaviour.filtered == "answer":
        words = Words(words.cycle, min(words.count, behaviour.after_events))
        return Spoken(words=words, thoughts=thoughts, ended="filtered")
    words, matched = _up_to_stop(words, turn.stop)
    if turn.limit is not None and words.count > turn.limit:
        return Spoken(words=Words(words.cycle, turn.limit), thoughts=thoughts, ended="length")
    ended: Ended = "stop" if matched is None else "stop_sequence"
    return Spoken(words=words, thoughts=thoughts, ended=ended, matched_stop=matched)


def in_words(text: str) -> Words:
    """``text`` as the tokens in which it is streamed."""
    tokens = _TOKEN.findall(text)
    return Words(tokens or [""], len(tokens))


def count_tokens(text: str) -> int:
    """A stable count: one token per four characters, begun ones included."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _text(turn: Turn) -> str:
    if turn.output is None:
        return f"echo: {turn.text}"
    value = {"echo": turn.text} if turn.output is True else example_of(turn.output)
    return msgspec.json.encode(value).decode()


def _calls(turn: Turn) -> tuple[ToolCall, ...]:
    functions = turn.functions
    if turn.choice not in ("auto", "none", "required"):
        functions = tuple(one for one in functions if one.name == turn.choice)
    elif turn.choice == "none" or (turn.choice == "auto" and (turn.answered or "call the tool" not in turn.text)):
        return ()
    if not functions:
        return ()
    if scripted := scripted_call(turn.text, functions, attrgetter("name")):
        return (ToolCall(scripted[0].name, scripted[1]),)
    chosen = (functions[0], functions[1 % len(functions)]) if "twice" in turn.text else functions[:1]
    return tuple(ToolCall(one.name, _arguments(one)) for one in chosen)


def _arguments(function: Function) -> str:
    return msgspec.json.encode(example_of(function.parameters or {"type": "object"})).decode()


def _up_to_stop(words: Words, marks: tuple[str, ...]) -> tuple[Words, str | None]:
    marks = tuple(filter(None, marks))
    if not marks:
        return words, None
    text = "".join(words)
    found = min(((text.find(mark), mark) for mark in marks if mark in text), default=None)
    if found is None:
        return words, None
    return in_words(text[: found[0]]), found[1]
