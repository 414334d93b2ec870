"""Which pages has a process gained, and what is in them? For growth that is no object's: heaps, arenas, caches.

    python -m benchmarks.pages PID --seconds 360

Looks at the process's private, writable memory now and after so many seconds (proc_pid_pagemap(5)), and prints each
page that is new: its mapping, the text in it, and the Python types that its words point to. Needs the right to trace
the process.
"""

import argparse
import re
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = 4096
PRESENT: Final = 1 << 63
TEXTS: Final = 6  # shown of a page
TYPES: Final = 4
_TEXT: Final = re.compile(rb"[\x20-\x7e]{8,60}")
_TYPE_NAME: Final = re.compile(rb"[A-Za-z_][\w.]{0,78}\x00")
_TYPE_HEAD: Final = struct.Struct("<qQqQ")  # of a PyTypeObject: references, its type, size, name


class Mapping(NamedTuple):
    """A part of an address space."""

    start: int
    end: int
    name: str


class Memory:
    """Another process's memory."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._memory = (self._folder / "mem").open("rb", buffering=0)
        self._names: dict[int, str | None] = {}

    def close(self) -> None:
        """Look at it no more."""
        self._memory.close()

    def mappings(self) -> Iterator[Mapping]:
        """What is private and writable."""
        for line in (self._folder / "maps").read_text().splitlines():
            addresses, rights, *_, name = [*line.split(None, 5), ""][:6]
            if rights.startswith("rw") and rights.endswith("p"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                yield Mapping(start, end, name or "anonymous")

    def pages(self) -> dict[int, Mapping]:
        """The addresses of the pages that are in memory."""
        found = {}
        with (self._folder / "pagemap").open("rb") as entries:
            for mapping in self.mappings():
                entries.seek(mapping.start // PAGE * 8)
                data = entries.read((mapping.end - mapping.start) // PAGE * 8)
                for number, (entry,) in enumerate(struct.iter_unpack("<Q", data)):
                    if entry & PRESENT:
                        found[mapping.start + number * PAGE] = mapping
        return found

    def read(self, address: int, size: int) -> bytes:
        """Some bytes; fewer, or none, where there is no memory."""
        try:
            self._memory.seek(address)
            return self._memory.read(size)
        except (OSError, ValueError, OverflowError):
            return b""

    def type_name(self, address: int) -> str | None:
        """The name of the Python type at an address, if that is one."""
        if address not in self._names:
            self._names[address] = self._find_type_name(address)
        return self._names[address]

    def _find_type_name(self, address: int) -> str | None:
        head = self.read(address, _TYPE_HEAD.size) if address % 8 == 0 and address > PAGE else b""
        if len(head) < _TYPE_HEAD.size:
            return None
        references, kind, _, name = _TYPE_HEAD.unpack(head)
        if references <= 0 or not self.read(kind, 8):
            return None
        found = _TYPE_NAME.match(self.read(name, 80))
        return found[0][:-1].decode() if found else None

    def describe(self, page: int) -> str:
        """What is in a page, in a line."""
        data = self.read(page, PAGE)
        texts = [text.decode() for text in _TEXT.findall(data)[:TEXTS]]
        types = Counter(filter(None, (self.type_name(word) for (word,) in struct.iter_unpack("<Q", data))))
        told = ", ".join(f"{count} {name}" for name, count in types.most_common(TYPES))
        return f"{data.count(0)} zeros; {told or 'no types'}; {texts}"


def report(memory: Memory, before: dict[int, Mapping], after: dict[int, Mapping]) -> Iterator[str]:
    """Lines about the pages that came, after a line on how many came and went in each mapping."""
    new = sorted(after.keys() - before.keys())
    gone = Counter(before[page].name for page in before.keys() - after.keys())
    came = Counter(after[page].name for page in new)
    for name in sorted(came.keys() | gone.keys()):
        yield f"{name}: +{came[name]} -{gone[name]} pages of 4 KiB"
    for page in new:
        yield f"{page:x} {after[page].name}: {memory.describe(page)}"


def main() -> None:
    """Look twice, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=360.0)
    options = parser.parse_args()
    with closing(Memory(options.pid)) as memory:
        before = memory.pages()
        time.sleep(options.seconds)
        for line in report(memory, before, memory.pages()):
            print(line, flush=True)


if __name__ == "__main__":
    main()
