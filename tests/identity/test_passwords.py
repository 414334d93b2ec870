"""Passwords are kept as argon2id hashes, and checking takes as long for somebody who is not there."""

import asyncio

import pytest

from pointsman.errors import ConfigError
from pointsman.identity import passwords as passwords_module
from pointsman.identity.passwords import MAX_LENGTH, Passwords
from pointsman.keyring import Secret


def test_a_password_is_kept_as_a_salted_argon2id_hash() -> None:
    async def work() -> None:
        passwords = Passwords()
        first, second = await passwords.hash(Secret("geheim ßword")), await passwords.hash(Secret("geheim ßword"))
        assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert first != second
        assert await passwords.check(first, Secret("geheim ßword"))
        assert not await passwords.check(first, Secret("geheim ßwore"))
        assert not await passwords.check(first, Secret(""))
        assert not passwords.is_outdated(first)
        assert passwords.is_outdated("$argon2id$v=19$m=65536,t=3,p=4$MDEyMzQ1Njc$" + first.rpartition("$")[2])

    asyncio.run(work())


@pytest.mark.parametrize("stored", ["", "plain text", "$argon2id$broken", "$2b$12$" + "x" * 53])
def test_a_hash_that_is_none_is_no_password(stored: str) -> None:
    assert not asyncio.run(Passwords().check(stored, Secret("plain text")))


@pytest.mark.parametrize("text", ["", "abc", "x" * (MAX_LENGTH + 1)])
def test_lengths_that_are_not_allowed(text: str) -> None:
    with pytest.raises(ConfigError):
        asyncio.run(Passwords().hash(Secret(text)))
    assert not asyncio.run(Passwords().check(None, Secret(text)))


def test_without_a_hash_as_much_is_computed_and_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    original = passwords_module._is_right

    def counted(stored: str, password: Secret) -> bool:
        computed.append(stored)
        return original(stored, password)

    monkeypatch.setattr(passwords_module, "_is_right", counted)
    assert not asyncio.run(Passwords().check(None, Secret("anything")))
    assert len(computed) == 1
    assert computed[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
