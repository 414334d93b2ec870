"""Forms of credentials: what is made is recognised, and shown so that nobody can guess it."""

import hashlib
import re

import pytest

from pointsman.identity.credentials import fingerprint_of, hint_of, kind_of, new_secret
from pointsman.keyring import MasterKey
from pointsman.storage.keys import CredentialKind

MASTER = MasterKey(b"m" * 32)
FORMS: dict[CredentialKind, str] = {
    "plain": r"sk-pm-[\w-]{43}",
    "openrouter": r"sk-or-v1-[0-9a-f]{64}",
    "hardcarrx": r"hmpk_[\w-]{43}",
    "crosscompute": r"cc_live_[\w-]{43}",
    "crosscompute_agent": r"cc_agent_[\w-]{43}",
    "omniroute": r"sk-[0-9a-f]{16}-[0-9a-f]{32}-[0-9a-f]{8}",
    "omniroute_cli": r"oma_live_[\w-]{43}",
    "session": r"pms_[\w-]{43}",
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_new_credential_has_its_form_and_is_known_by_it(kind: CredentialKind) -> None:
    secret = new_secret(kind, MASTER)
    assert re.fullmatch(FORMS[kind], secret.reveal())
    assert kind_of(secret.reveal()) == kind
    assert secret != new_secret(kind, MASTER)
    shown = hint_of(kind, secret)
    unseen = max(len(part) for part in re.split(r"\.\.\.|…|\*{4}", secret.reveal())) - len(shown)
    assert unseen >= 20
    assert shown[-3:] == secret.reveal()[-3:]


def test_the_hint_of_an_openrouter_key_is_its_label() -> None:
    assert re.fullmatch(
        r"sk-or-v1-[0-9a-f]{3}\.\.\.[0-9a-f]{3}", hint_of("openrouter", new_secret("openrouter", MASTER))
    )


def test_only_openrouter_names_keys_by_their_hash() -> None:
    secret = new_secret("openrouter", MASTER)
    assert fingerprint_of("openrouter", secret) == hashlib.sha256(secret.reveal().encode()).hexdigest()
    assert fingerprint_of("plain", secret) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hxv_old", "hardcarrx"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln", "jwt"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.", "jwt"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0", None),
        ("eyJ" + "a" * 9000 + ".a.a", None),
        ("sk-proj-abc", None),
        ("an operator's own key", None),
        ("", None),
    ],
)
def test_other_forms(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


def test_a_token_is_never_drawn() -> None:
    with pytest.raises(ValueError, match="signed"):
        new_secret("jwt", MASTER)
