"""The name by which a client tells its own users apart, where an API limits its length."""

from hashlib import sha256
from typing import Final

from pointsman.canonical.fidelity import Fidelity

LONGEST: Final = 64  # characters: OpenAI refuses more; coding agents send a whole JSON object


def short_name_of_caller(name: str, path: str, fidelity: Fidelity) -> str:
    """``name``, or its SHA-256 in hexadecimal when it is too long: one caller keeps one name."""
    if len(name) <= LONGEST:
        return name
    fidelity.mapped(path, f"longer than {LONGEST} characters: its SHA-256")
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
