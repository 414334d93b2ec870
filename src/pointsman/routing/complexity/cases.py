"""The labelled set: prompts with the tier they ought to have, made from the templates in `cases.json`, and how well a
scorer does on them. How the labels were chosen: docs/routing-complexity.md.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, Request
from pointsman.routing.complexity.facts import TIERS, Tier

Split = Literal["development", "held_out"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
_FILE: Final = Path(__file__).with_name("cases.json")
_SLOT: Final = re.compile(r"\{([^{}|]*\|[^{}]*)\}")  # {one|another}
_ANSWER: Final = "Here it is."  # what stands for the model's answers in conversations; the scorer does not read them


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt with its label. ``earlier``: what the user said before. ``template`` numbers the template it is of."""

    tier: Tier
    language: str
    kind: str
    split: Split
    template: int
    text: str
    earlier: tuple[str, ...] = ()

    def request(self) -> Request:
        """The request that a client would send."""
        messages: list[Message] = []
        for text in self.earlier:
            messages.append(Message(role="user", parts=[TextPart(text=text)]))
            messages.append(Message(role="assistant", parts=[TextPart(text=_ANSWER)]))
        messages.append(Message(role="user", parts=[TextPart(text=self.text)]))
        return Request(wire="openai.chat", model="auto", messages=messages)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompts: dict[str, dict[Tier, dict[Split, list[tuple[str, str]]]]]
    conversations: dict[Split, list[tuple[Tier, str, str, list[str], str]]]


def build_cases(data: bytes | None = None) -> list[Case]:
    """Every prompt of the set, in the order of the file. ``data`` replaces the file that is shipped.

    A template's slots are filled side by side: the first prompt takes the first filling of each, and so on, until the
    slot with the most fillings is used up. Raises ValueError when the data has another shape.
    """
    file = msgspec.json.decode(_FILE.read_bytes() if data is None else data, type=_File)
    return [
        Case(tier=tier, language=language, kind=kind, split=split, template=number, text=text, earlier=earlier)
        for number, (tier, language, kind, split, template, earlier) in enumerate(_templates(file))
        for text in fill(template)
    ]


def _templates(file: _File) -> Iterator[tuple[Tier, str, str, Split, str, tuple[str, ...]]]:
    for language, tiers in file.prompts.items():
        for tier, splits in tiers.items():
            for split, templates in splits.items():
                for kind, template in templates:
                    yield tier, language, kind, split, template, ()
    for split, conversations in file.conversations.items():
        for tier, language, kind, earlier, template in conversations:
            yield tier, language, kind, split, template, tuple(earlier)


def fill(template: str) -> list[str]:
    """The prompts that ``template`` stands for."""
    slots = [slot.split("|") for slot in _SLOT.findall(template)]
    count = max(map(len, slots), default=1)
    texts = []
    for number in range(count):
        fillings = iter([slot[number % len(slot)] for slot in slots])
        texts.append(_SLOT.sub(lambda _, fillings=fillings: next(fillings), template))  # type: ignore[misc]
    return texts


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What a scorer said: ``confusion[label][answer]`` counts prompts; ``languages`` has (right, all) of each."""

    total: int
    right: int
    near: int  # right, or off by one tier
    below: int  # answered with a lower tier than the label
    confusion: dict[Tier, dict[Tier, int]]
    languages: dict[str, tuple[int, int]]


def evaluate(cases: Sequence[Case], scorer: Callable[[Request], Tier]) -> Evaluation:
    """Has ``scorer`` judge every case."""
    confusion: dict[Tier, dict[Tier, int]] = {label: dict.fromkeys(TIERS, 0) for label in TIERS}
    languages: dict[str, tuple[int, int]] = {}
    steps = []
    for case in cases:
        answer = scorer(case.request())
        confusion[case.tier][answer] += 1
        steps.append(TIERS.index(answer) - TIERS.index(case.tier))
        right, count = languages.get(case.language, (0, 0))
        languages[case.language] = (right + (answer == case.tier), count + 1)
    return Evaluation(
        total=len(steps),
        right=sum(step == 0 for step in steps),
        near=sum(abs(step) <= 1 for step in steps),
        below=sum(step < 0 for step in steps),
        confusion=confusion,
        languages=languages,
    )
