"""``pointsman users`` against a running server and without one."""

import json

import httpx
from cli_gateway import Gateway, Run

PASSWORD = "correct horse battery staple"


def test_a_person_is_added_changed_and_kept_out(run: Run) -> None:
    created = run("users", "create", "A@Example.org", "--password-stdin", stdin=PASSWORD + "\n")
    assert (created.code, "(a@example.org, user) is added" in created.out) == (0, True)
    again = run("users", "create", "a@example.org", "--no-password")
    assert (again.code, "already" in again.err) == (2, True)
    assert run("users", "role", "a@example.org", "admin").code == 0
    assert run("users", "disable", "a@example.org").code == 0
    [row] = json.loads(run("users", "list", "--json").out)
    assert (row["email"], row["role"], row["state"], row["password"]) == ("a@example.org", "admin", "disabled", True)
    assert "$argon2id$" not in run("users", "list", "--json").out
    assert "a@example.org" in run("users", "list").out


def test_an_address_that_is_none_and_a_password_that_is_too_short_are_refused(run: Run) -> None:
    assert run("users", "create", "nobody", "--no-password").code == 2
    assert run("users", "create", "b@example.org", "--password-stdin", stdin="abc\n").code == 2
    assert run("users", "password", "nobody@example.org", "--remove").code == 2
    assert json.loads(run("users", "list", "--json").out) == []


def test_the_administrators_password_is_in_effect_at_once_and_its_token_too(gateway: Gateway, run: Run) -> None:
    changed = run("users", "password", "admin", "--password-stdin", at=gateway, stdin=PASSWORD + "\n")
    assert (changed.code, "in effect now" in changed.out) == (0, True)
    assert httpx.post(f"{gateway.url}/api/auth/login", json={"password": PASSWORD}).status_code == 200
    token = run("users", "token", "admin", at=gateway).out.strip()
    bearer = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{gateway.url}/v1/request-logs", headers=bearer).status_code == 200
    assert run("users", "password", "admin", "--remove", at=gateway).code == 0
    assert httpx.post(f"{gateway.url}/api/auth/login", json={"password": PASSWORD}).status_code == 403
    assert httpx.get(f"{gateway.url}/v1/request-logs", headers=bearer).status_code == 401
