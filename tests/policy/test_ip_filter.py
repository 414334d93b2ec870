"""Which addresses may call: lists, networks, bans, and that nobody locks this machine out."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.policy.ip_filter import Ban, IpFilter, IpRules, entry_of

ADMIN = {"authorization": f"Bearer {KEY}"}
PATH = "/api/settings/ip-filter"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    settings = {"server": {"trusted_proxies": ["127.0.0.1"]}}
    with running_gateway(tmp_path_factory.mktemp("filter"), settings) as started:
        yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20, headers=ADMIN) as opened:
        yield opened
        opened.put(PATH, json={"enabled": False, "blacklist": [], "whitelist": []})


def change(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.put(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def status(client: httpx.Client, address: str) -> int:
    """What somebody at this address is told."""
    return client.get("/v1/models", headers={"x-forwarded-for": address}).status_code


def test_who_is_listed_is_kept_out_at_once_and_let_in_again(client: httpx.Client) -> None:
    assert status(client, "192.0.2.7") == 200
    change(client, enabled=True, blacklist=["192.0.2.0/24"], addBlacklist="::ffff:198.51.100.4")
    assert [status(client, one) for one in ("192.0.2.7", "198.51.100.4", "203.0.113.1")] == [403, 403, 200]
    assert change(client, removeBlacklist="198.51.100.4")["blacklist"] == ["192.0.2.0/24"]
    assert status(client, "198.51.100.4") == 200
    change(client, enabled=False)
    assert status(client, "192.0.2.7") == 200


def test_a_whitelist_lets_in_who_is_listed_and_this_machine(client: httpx.Client) -> None:
    change(client, enabled=True, mode="whitelist", whitelist=["10.1.*"])
    assert [status(client, one) for one in ("10.1.9.9", "10.2.0.1", "127.0.0.1")] == [200, 403, 200]
    change(client, mode="blacklist")


def test_a_ban_holds_also_while_the_lists_are_off(client: httpx.Client) -> None:
    [ban] = change(client, tempBan={"ip": "203.0.113.9", "durationMs": 60_000})["tempBans"]
    assert (ban["reason"], 0 < ban["remainingMs"] <= 60_000) == ("Manual ban", True)
    assert status(client, "203.0.113.9") == 403
    assert change(client, removeBan="203.0.113.9")["tempBans"] == []
    assert status(client, "203.0.113.9") == 200


def test_a_ban_ends_by_itself() -> None:
    rules = IpFilter(IpRules(bans=(Ban(ip="203.0.113.9", until=1000, reason="x"),)))
    assert [rules.is_blocked("203.0.113.9", at) for at in (999, 1000)] == [True, False]


def test_this_machine_is_never_kept_out() -> None:
    bans = (Ban(ip="127.0.0.1", until=10**18, reason="x"), Ban(ip="::1", until=10**18, reason="x"))
    rules = IpFilter(IpRules(enabled=True, mode="whitelist", bans=bans))
    assert [rules.is_blocked(one, 0) for one in ("127.0.0.1", "::1", "", "::ffff:127.0.0.1")] == [False] * 4
    assert rules.is_blocked("::ffff:192.0.2.1", 0)


def test_a_signed_in_administrator_s_choice_about_sign_in_outlives_a_change(
    gateway: RunningGateway, client: httpx.Client
) -> None:
    sign_in = gateway.installation.sign_in
    gateway.call(sign_in.set_login_required(False))
    change(client, addBlacklist="192.0.2.1")
    assert gateway.call(sign_in.login_required()) is False
    gateway.call(sign_in.set_login_required(True))
    assert client.get(PATH).json()["blacklist"] == ["192.0.2.1"]


@pytest.mark.parametrize(
    "body",
    [{"addBlacklist": "nowhere"}, {"blacklist": "192.0.2.1"}, {"mode": "grey"}, {"enabled": 1}, {"more": 1},
     {"tempBan": {"ip": "192.0.2.0/24"}}, {"tempBan": {"ip": "192.0.2.1", "durationMs": 0}}, {"whitelist": [1]}],
)  # fmt: skip
def test_what_is_not_valid_is_refused_by_name(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.put(PATH, json=body)
    assert answer.status_code == 400
    assert [one["field"] for one in answer.json()["error"]["details"]] == list(body)


@pytest.mark.parametrize("text", ["1.2.3.4/33", "1.*.3.4", "*", "", "1.2.3", "999.1.*", "a" * 200])
def test_an_entry_that_means_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        entry_of(text)
