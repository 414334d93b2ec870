"""The table of hosts: sound, complete, and what a connection of each kind gets from it."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pointsman.errors import ConfigError
from pointsman.providers import azure_openai, hosts
from pointsman.providers.azure_openai import AzureOpenAI
from pointsman.providers.hosts import Host, Quirks, address_of, effective_host, find_host, parse_hosts, read_quirks
from pointsman.settings import check_connection

Change = Callable[[dict[str, Any]], None]


def shipped() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(hosts._FILE.read_bytes())
    return table


def test_the_table_holds_more_than_sixty_compatible_hosts_that_take_a_key() -> None:
    remote = [host for host in hosts.hosts().values() if host.format == "openai.chat" and host.base_url is not None]
    assert len([host for host in remote if (host.base_url or "").startswith("https://")]) > 60


@pytest.mark.parametrize("host", hosts.hosts().values(), ids=lambda host: host.id)
def test_every_address_is_one_that_a_connection_can_have(host: Host) -> None:
    if host.base_url is None:
        assert host.id == hosts.GENERIC
        return
    whole = host.base_url.replace("{", "").replace("}", "")
    check_connection("a", host.id, whole, "connection")
    assert not whole.endswith("/")
    assert whole.startswith("https://") or "127.0.0.1" in whole


def test_every_price_list_exists() -> None:
    from genai_prices.data import providers

    known = {provider.id for provider in providers}
    assert {host.pricing for host in hosts.hosts().values()} - {None} <= known


def test_every_set_of_quirks_is_used() -> None:
    table = shipped()
    assert {row.get("quirks") for row in table["hosts"]} - {None} == set(table["quirks"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda table: table["hosts"].append(dict(table["hosts"][1])), "is there twice"),
        (lambda table: table["hosts"].append({"id": "A b", "name": "x"}), "not plain"),
        (lambda table: table["hosts"].append({"id": "local", "name": "x"}), "embedded model"),
        (lambda table: table["hosts"].append({"id": "x", "name": "x", "quirks": "none-such"}), "none-such"),
        (lambda table: table["hosts"].append({"id": "x", "name": "x", "auth": "cookie"}), "cookie"),
        (lambda table: table["hosts"].append({"id": "x", "name": "x", "format": "cursor"}), "cursor"),
        (lambda table: table["hosts"].append({"id": "x", "name": "x", "user_agent": "y"}), "user_agent"),
        (lambda table: table["quirks"]["groq"].update({"tool": False}), "tool"),
    ],
)
def test_a_wrong_table_is_refused_by_name(change: Change, named: str) -> None:
    table = shipped()
    change(table)
    with pytest.raises(ValueError, match=named):
        parse_hosts(json.dumps(table).encode())


def test_a_host_needs_no_address() -> None:
    assert address_of(find_host("groq", "x"), None, "x") == "https://api.groq.com/openai/v1"
    assert address_of(find_host("groq", "x"), "https://proxy.example/v1", "x") == "https://proxy.example/v1"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("openai-compatible", "e.g. https://api.openai.com/v1"), ("cloudflare", "/accounts/{account}/ai/v1, completed")],
)
def test_a_host_without_a_whole_address_says_what_is_missing(kind: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        address_of(find_host(kind, "c"), None, "c")
    assert str(refused.value).startswith("c.base_url: is missing")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "hint"), [("opneai", "did you mean 'openai'?"), ("qqqq", "'openai-compatible', or a")]
)
def test_an_unknown_kind_is_refused_with_the_nearest(kind: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find_host(kind, "connections[0]")
    assert "connections[0].kind" in str(refused.value)
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "base_url", "meant"),
    [
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://API.groq.com/openai/v1", "groq"),
        ("openai", "http://127.0.0.1:9999/v1", "openai-compatible"),
        ("deepseek", "https://proxy.example/v1", "deepseek"),
    ],
)
def test_openai_with_another_address_is_not_treated_as_openai(kind: str, base_url: str, meant: str) -> None:
    assert effective_host(kind, base_url).id == meant


def test_quirks_survive_the_way_to_a_provider_format() -> None:
    for host in hosts.hosts().values():
        assert read_quirks(host.quirk_map()) == host.quirks
    assert read_quirks({}) == Quirks()


def test_azure_has_the_key_in_its_header_and_the_deployment_in_the_path() -> None:
    azure = AzureOpenAI(find_host("azure", "x"))
    head = azure.build_head("", b"r.openai.azure.com", "k1")
    message = azure.build_request(head, {"messages": msgspec.Raw(b"[]")}, msgspec.Raw(b'"gpt 4o/\xc3\xa9"'))
    line, *rest = message.split(b"\r\n")
    version = azure_openai.API_VERSION.encode()
    assert line == (
        b"POST /openai/deployments/gpt%204o%2F%C3%A9/chat/completions?api-version=" + version + b" HTTP/1.1"
    )
    assert b"api-key: k1" in rest
    assert not any(one.startswith(b"authorization") for one in rest)
    assert message.endswith('\r\n\r\n{"messages":[],"model":"gpt 4o/é"}'.encode())


def test_azures_v1_path_is_openais() -> None:
    azure = AzureOpenAI(find_host("azure-v1", "x"))
    head = azure.build_head("/openai/v1", b"r.openai.azure.com", None)
    assert head.startswith(b"POST /openai/v1/chat/completions HTTP/1.1\r\n")
    assert b"api-key" not in head
