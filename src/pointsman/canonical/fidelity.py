"""The fidelity ledger: what translation did to each field that it could not simply carry.

What is not listed was kept. A dropped field is said aloud: in a response header, in the log, or, when the client
asked for strictness, as an error before anything is sent.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind

MAX_NOTES: Final = 256  # a request with more is counted on, not listed
MAX_PATH: Final = 120
_SHOWN_IN_HEADER: Final = 8
# What upstreams say about their own machinery in an answer. It means nothing to a client of another API, whose answer
# is none the poorer without it: clients of the same API get it, others no note of it. Names as of 2026-11 of OpenAI,
# Groq, Cerebras, llama.cpp, Ollama, vLLM, SGLang, NVIDIA, Gemini and Bedrock, in this order.
TELEMETRY: Final = frozenset(
    (
        "system_fingerprint", "obfuscation", "prompt_cache_diagnostics",
        "x_groq", "usage_breakdown", "queue_time", "prompt_time", "completion_time", "total_time",
        "time_info", "timings", "tokens_per_second",
        "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
        "prompt_token_ids", "token_ids", "kv_transfer_params", "weight_version", "nvext", "trafficType", "metrics",
    )
)  # fmt: skip


class Action(StrEnum):
    """What happened to a field, from harmless to lost."""

    MAPPED = "mapped"  # the same meaning in other words
    SYNTHESISED = "synthesised"  # the upstream wants it, the client did not say it
    APPROXIMATED = "approximated"  # nearly the same meaning
    DROPPED = "dropped"  # not carried


class Note(msgspec.Struct, frozen=True):
    """One field: the client's path of it, what was done, and why or how."""

    path: str
    action: Action
    detail: str = ""


class Fidelity:
    """The ledger of one call. ``names``: the client's members that are called otherwise here (`Request.names`)."""

    __slots__ = ("_names", "counts", "notes")

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = names or {}
        self.notes: list[Note] = []
        self.counts: Counter[Action] = Counter()

    def __bool__(self) -> bool:
        return bool(self.notes)

    def mapped(self, path: str, detail: str) -> None:
        """The same meaning went out in other words, ``detail``."""
        self._add(path, Action.MAPPED, detail)

    def synthesised(self, path: str, detail: str) -> None:
        """The gateway had to say something the client did not."""
        self._add(path, Action.SYNTHESISED, detail)

    def approximated(self, path: str, detail: str) -> None:
        """Something near went out."""
        self._add(path, Action.APPROXIMATED, detail)

    def dropped(self, path: str, detail: str) -> None:
        """Nothing went out; ``detail`` says why."""
        self._add(path, Action.DROPPED, detail)

    def unplaced(self, path: str, value: object, detail: str) -> None:
        """A member of an answer has no place in the client's API: dropped, unless it is null or mere `TELEMETRY`."""
        if value is not None and path.rpartition(".")[2] not in TELEMETRY:
            self.dropped(path, detail)

    def refuse_drops(self) -> None:
        """For strict calls: raises GatewayError(UNSUPPORTED) naming the first dropped field."""
        if not self.counts[Action.DROPPED]:
            return
        lost = [note for note in self.notes if note.action is Action.DROPPED]
        raise GatewayError(
            Kind.UNSUPPORTED,
            f"'{lost[0].path}' can't be carried to this model ({lost[0].detail}); strict mode refuses to drop "
            f"{len(lost)} field(s); leave it out, choose another model, or send no x-pointsman-strict",
            param=lost[0].path,
        )

    def header(self) -> bytes:
        """The compact form: counts, then the paths that lost something. ASCII, bounded."""
        counts = [f"{action.value}={self.counts[action]}" for action in Action if self.counts[action]]
        serious = dict.fromkeys(
            note.path for note in self.notes if note.action in (Action.DROPPED, Action.APPROXIMATED)
        )
        shown = [_plain(path) for path in list(serious)[:_SHOWN_IN_HEADER]]
        text = "; ".join(counts + ([f"fields={','.join(shown)}"] if shown else []))
        return text.encode("ascii")

    def log(self) -> str | None:
        """All notes as JSON, a list of [path, action, detail]; None when there are none."""
        if not self.notes:
            return None
        return msgspec.json.encode([[note.path, note.action, note.detail] for note in self.notes]).decode()

    def _add(self, path: str, action: Action, detail: str) -> None:
        self.counts[action] += 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(Note((self._named(path) if self._names else path)[:MAX_PATH], action, detail))

    def _named(self, path: str) -> str:
        """The client's own path of what is called ``path`` in our words."""
        head, dot, last = path.rpartition(".")
        if not dot:
            return path
        before, _, holder = head.rpartition(".")
        name = self._names.get(f"{holder.partition('[')[0]}.{last}") or self._names.get(last)
        if name is None:
            return path
        if name.startswith("/"):
            return name[1:]
        return f"{before}.{name[3:]}" if name.startswith("../") else f"{head}.{name}"


def _plain(path: str) -> str:
    """A path that is safe in a header: whatever else a client called its field is shown as ``?``."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "_.[]-:") else "?" for char in path)
