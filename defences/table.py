"""The table of defences: what each one is, how it is taken away, and which tests then have to fail."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class NotInTheCode(Exception):
    """A place of the table is not in the code, or not there once."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One change that takes a defence away.

    :param file: the source file, below the repository's root
    :param old: what stands there, exactly once
    :param new: what stands there without the defence
    """

    file: str
    old: str
    new: str

    def write(self, root: Path) -> None:
        """Make the change in the copy of the repository at ``root``.

        :raises NotInTheCode: ``old`` is not there, or more than once
        """
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(self.old) != 1:
            raise NotInTheCode(f"{self.file} holds {text.count(self.old)} times: {self.old!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Defence:
    """One defence.

    :param item: the attack it stands against, by its number in docs/security-tests.md
    :param text: what it is
    :param removals: all changes that take it away
    :param tests: each of these fails without it; below ``tests/``, as ``folder/file.py::test``
    """

    item: int
    text: str
    removals: tuple[Removal, ...]
    tests: tuple[str, ...]


def read_table() -> list[Defence]:
    """All defences, in the order of the files and of the entries in them."""
    return [
        Defence(
            entry["item"],
            entry["defence"],
            tuple(Removal(change["file"], change["old"], change["new"]) for change in entry["without"]),
            tuple(entry["tests"]),
        )
        for path in sorted(HERE.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["defence"]
    ]
