"""Secrets can't be printed; what is sealed opens only for its purpose, owner and key; the key file is made once."""

import copy
import importlib
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pointsman
from pointsman.errors import ConfigError
from pointsman.identity.tokens import PURPOSE as TOKENS
from pointsman.keyring import KEY_BYTES, LASTING, MasterKey, Secret, key_id_of, load_master_key
from pointsman.policy.kept_answers import PURPOSE as KEPT_ANSWERS
from pointsman.policy.response_cache import PURPOSE as CACHED_ANSWERS
from pointsman.policy.state_store import PURPOSE as STATES

TEXT = "sk-very-secret-0123456789"
KEY = MasterKey(bytes(range(KEY_BYTES)))
OTHER = MasterKey(bytes(KEY_BYTES))
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)


class Holder(msgspec.Struct):
    """A struct with a secret in it."""

    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        "{}".format,
        "{!r}".format,
        "{:>40}".format,
        "%s".__mod__,
        "%r".__mod__,
        lambda secret: f"{secret} {secret!s} {secret!r}",
        lambda secret: f"{[secret]} { ({'a': secret}) }",
        lambda secret: repr(Holder(secret)),
        lambda secret: "".join(traceback.format_exception_only(ValueError(secret))),
        ascii,
    ],
)
def test_a_secret_shows_nothing_of_itself(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(TEXT))
    assert "****" in shown
    assert "very-secret" not in shown


@pytest.mark.parametrize(
    "encode",
    [
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        lambda secret: msgspec.json.encode(Holder(secret)),
        pickle.dumps,
        lambda secret: pickle.dumps({"a": secret}, protocol=2),
        copy.copy,
        copy.deepcopy,
        vars,
        hash,
        lambda secret: {secret: 1},
        lambda secret: secret + "",
        lambda secret: "".join([secret]),
        lambda secret: b"" + secret,
    ],
)
def test_a_secret_cannot_be_encoded_copied_or_hashed(encode: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        encode(Secret(TEXT))
    assert "very-secret" not in str(caught.value)


def test_a_secret_is_revealed_on_purpose() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_secrets_are_compared_by_value() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret(TEXT + "x")
    assert Secret(TEXT) != TEXT
    assert Secret("é") == Secret("é")


def test_a_master_key_shows_nothing_of_itself() -> None:
    for shown in (repr(KEY), str(KEY), f"{KEY}"):
        assert shown == "MasterKey(****)"


@given(text=NAMES, purpose=NAMES, owner=NAMES)
@settings(max_examples=100, deadline=None)
def test_what_is_sealed_opens_again(text: str, purpose: str, owner: str) -> None:
    sealed = KEY.seal(purpose, owner, Secret(text))
    assert KEY.open(purpose, owner, sealed).reveal() == text
    assert len(text) < 8 or text.encode() not in sealed


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert len({KEY.seal("p", "o", Secret(TEXT)) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("key", "purpose", "owner"),
    [(KEY, "other", "o"), (KEY, "p", "other"), (KEY, "o", "p"), (KEY, "", "po"), (OTHER, "p", "o")],
)
def test_nothing_opens_for_another_key_purpose_or_owner(key: MasterKey, purpose: str, owner: str) -> None:
    sealed = KEY.seal("p", "o", Secret(TEXT))
    with pytest.raises(ConfigError) as caught:
        key.open(purpose, owner, sealed)
    assert TEXT not in str(caught.value)


def test_changing_any_byte_is_noticed() -> None:
    sealed = KEY.seal("p", "o", Secret(TEXT))
    for place in range(len(sealed)):
        for bit in (1, 0x80):
            changed = bytearray(sealed)
            changed[place] ^= bit
            with pytest.raises(ConfigError):
                KEY.open("p", "o", bytes(changed))


def test_cutting_off_any_length_is_noticed() -> None:
    sealed = KEY.seal("p", "o", Secret(TEXT))
    for length in range(len(sealed)):
        with pytest.raises(ConfigError):
            KEY.open("p", "o", sealed[:length])
    with pytest.raises(ConfigError):
        KEY.open("p", "o", sealed + b"\0")


@given(sealed=st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_config_errors(sealed: bytes) -> None:
    for value in (sealed, b"\x01" + sealed):
        with pytest.raises(ConfigError):
            KEY.open("p", "o", value)


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = [KEY.derive("a"), KEY.derive("b"), KEY.derive("ab"), KEY.derive(""), OTHER.derive("a")]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == KEY_BYTES for key in keys)
    assert KEY.derive("a") == MasterKey(bytes(range(KEY_BYTES))).derive("a")


def test_what_is_looked_up_by_name_is_named_with_the_first_key_and_all_else_with_the_current_one() -> None:
    first, second, third = (bytes([number]) * KEY_BYTES for number in (1, 2, 3))
    purposes = [*LASTING, "connection-secret", TOKENS]
    at_first = {purpose: MasterKey(first).derive(purpose) for purpose in purposes}
    master = MasterKey(second)
    for key in (second, third):
        kept = {purpose: ((key_id_of(first), at_first[purpose]),) for purpose in LASTING}
        master.adopt({key_id_of(key): key}, key_id_of(key), kept)
        assert all(master.derive(purpose) == at_first[purpose] for purpose in LASTING)
        assert all(master.derive(purpose) == MasterKey(key).derive(purpose) for purpose in purposes[len(LASTING) :])
    assert master.mark("connection-mark", "a") == MasterKey(first).mark("connection-mark", "a")


def test_each_purpose_that_digests_or_names_is_lasting_and_no_other() -> None:
    """Whatever derives a key or a mark in the sources. Signed tokens are made anew by their people."""
    found = {f"{purpose}-names" for purpose in (STATES, KEPT_ANSWERS, CACHED_ANSWERS)}  # state_store.py
    sources = Path(pointsman.__file__).parent
    for path in sources.rglob("*.py"):
        names = re.findall(r"master\.(?:derive|mark)\(([A-Z_]+)", path.read_text(encoding="utf-8"))
        if names:
            module = importlib.import_module(".".join(("pointsman", *path.relative_to(sources).with_suffix("").parts)))
            found |= {getattr(module, name) for name in names}
    assert found - {TOKENS} == LASTING


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_master_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        MasterKey(bytes(length))


@pytest.mark.parametrize("text", ["", "short", "x" * 31])
def test_a_short_configured_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="32 characters") as caught:
        load_master_key(tmp_path, Secret(text))
    assert not text or text not in str(caught.value)


def test_a_configured_key_makes_no_file_and_is_always_the_same(tmp_path: Path) -> None:
    one, again, other = (load_master_key(tmp_path, Secret(letter * 32)) for letter in "xxy")
    assert one.derive("a") == again.derive("a") != other.derive("a")
    assert list(tmp_path.iterdir()) == []


def test_a_configured_key_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_master_key(tmp_path, Secret("x" * 32 + "\udcff"))  # how os.environ shows a byte that is no UTF-8


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        first = load_master_key(tmp_path, None)
    finally:
        os.umask(mask)
    path = tmp_path / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="ascii")
    assert load_master_key(tmp_path, None).derive("a") == first.derive("a")
    assert path.read_text(encoding="ascii") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]
    assert len(bytes.fromhex(text)) == KEY_BYTES


PROCESS = """
import sys, pathlib
from pointsman.keyring import load_master_key
print("ready", flush=True)
sys.stdin.readline()
print(load_master_key(pathlib.Path(sys.argv[1]), None).derive("a").hex())
"""


def test_processes_that_start_together_have_the_same_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=30)[0] for process in processes}
    assert len(keys) == 1
    assert [process.returncode for process in processes] == [0] * 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_threads_that_start_together_have_the_same_key(tmp_path: Path) -> None:
    for attempt in range(20):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        barrier = threading.Barrier(4)
        keys: list[bytes] = []

        def load(directory: Path = directory, barrier: threading.Barrier = barrier, keys: list[bytes] = keys) -> None:
            barrier.wait()
            keys.append(load_master_key(directory, None).derive("a"))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(keys) == 4
        assert len(set(keys)) == 1


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "00" * 33, "é" * 32])
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret.key"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_master_key(tmp_path, None)
    assert path.read_text(encoding="utf-8") == text


def test_a_directory_that_is_not_there_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_master_key(tmp_path / "missing", None)


def test_a_key_file_that_is_a_directory_is_the_operators_error(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(ConfigError):
        load_master_key(tmp_path, None)
