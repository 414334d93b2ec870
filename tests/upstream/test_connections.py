"""Connections from the file and the database: checks, sealing, and what is built of them."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pointsman.accounting.prices import PriceService
from pointsman.canonical.limits import Limits
from pointsman.clock import SystemClock
from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey, Secret
from pointsman.settings import ConnectionSettings, Environment, ModelSettings
from pointsman.storage.aliases import AliasRepository, AliasRow
from pointsman.storage.connections import ConnectionRepository, ConnectionRow
from pointsman.storage.database import FILE_NAME, Database
from pointsman.upstream.connections import LOCAL_MODEL, ConnectionService
from pointsman.upstream.declared import FileConnections, NewConnection, refuse_private_literal
from pointsman.upstream.endpoints import LocalChildren
from pointsman.upstream.origins import TlsFiles
from pointsman.upstream.proxies import parse_proxy
from upstream_peers import Authority

MASTER = MasterKey(b"m" * 32)
URL = "https://api.example.com/v1"
KEY = "sk-upstream-0123456789abcdef"


class Place:
    """A database of the test's own with services over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database: Database = None  # type: ignore[assignment]

    def service(
        self, rows: list[ConnectionSettings] | None = None, models: list[ModelSettings] | None = None, **more: Any
    ) -> ConnectionService:
        """A service; ``rows`` and ``models`` stand in the file."""
        environment = Environment(data_dir=self.directory, variables=more.get("variables", {}))
        return ConnectionService(
            self.database,
            more.get("master", MASTER),
            SystemClock(),
            FileConnections(rows or [], models or [], environment),
        )

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        """Run a test's coroutine with the database open."""

        async def main() -> None:
            self.database = Database.open(None, self.directory)
            try:
                await test()
            finally:
                await self.database.aclose()

        asyncio.run(main())


@pytest.fixture
def place(tmp_path: Path, migrated_sqlite: Path) -> Place:
    """A migrated, empty database."""
    shutil.copy(migrated_sqlite, tmp_path / FILE_NAME)
    return Place(tmp_path)


def remote(name: str, **more: Any) -> NewConnection:
    """A connection to be added."""
    return NewConnection(**{"id": name, "kind": "openai", "base_url": URL, **more})


def test_a_stored_connection_serves_with_its_credential(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        first = await service.add(remote("a", secret=Secret(KEY), models=("m", "org/n"), max_concurrent=3))
        assert await service.add(remote("b")) > first
        endpoints = await place.service().endpoints(None, PriceService())
        assert set(endpoints) == {"a", "b"}
        access = await endpoints["a"].acquire()
        assert f"authorization: Bearer {KEY}".encode() in access.head
        assert (access.origin.allow_private, access.origin.limit) == (False, 3)
        assert b"authorization" not in (await endpoints["b"].acquire()).head
        catalogue = await service.catalogue(local=False, local_installed=False)
        assert catalogue.resolve("org/n").id == "a/org/n"
        assert catalogue.resolve("b/whatever").id == "b/whatever"

    place.run(test)


def test_a_credential_is_stored_sealed_and_never_shown(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        await service.add(remote("a", secret=Secret(KEY)))
        (info,) = await service.list_all()
        assert info.has_secret
        assert KEY not in repr(info)

    place.run(test)
    stored = b"".join(path.read_bytes() for path in place.directory.iterdir())
    assert KEY.encode() not in stored
    assert KEY[3:15].encode() not in stored


def test_a_connection_of_the_file_serves_with_its_references_resolved(place: Place) -> None:
    async def test() -> None:
        row = ConnectionSettings(id="f", kind="openai", base_url=URL, api_key=Secret("env:KEY"), models=["m"])
        service = place.service([row], [ModelSettings(name="fast", target="f/m")], variables={"KEY": KEY})
        access = await (await service.endpoints(None, PriceService()))["f"].acquire()
        assert access.reveal() == KEY
        assert access.origin.allow_private
        assert (await service.catalogue(local=False, local_installed=False)).resolve("fast").id == "f/m"
        (info,) = await service.list_all()
        assert (info.source, info.has_secret) == ("file", True)

    place.run(test)


def test_what_may_be_asked_of_a_connection_comes_from_either_source(place: Place) -> None:
    async def test() -> None:
        most = {"requests_per_minute": 3, "requests_per_day": 40, "tokens_per_minute": 500}
        service = place.service([ConnectionSettings(id="f", kind="openai", base_url=URL, **most)])
        await service.add(remote("a", **most))
        await service.add(remote("b"))
        assert await service.limits() == {"f": Limits(**most), "a": Limits(**most), "b": Limits()}
        await service.update("a", lambda old: msgspec.structs.replace(old, priority=1))
        assert (await service.limits())["a"] == Limits(**most), "what isn't named stays as it is"

    place.run(test)


def test_a_missing_reference_names_the_row(place: Place) -> None:
    rows = [
        ConnectionSettings(id="a", kind="openai", base_url=URL),
        ConnectionSettings(id="b", kind="openai", base_url=URL, api_key=Secret("env:MISSING")),
    ]
    with pytest.raises(ConfigError, match=r"connections\[1\]\.api_key"):
        place.service(rows)


@pytest.mark.parametrize("secret", ["two words", "line\r\nx-evil: 1", "bücher", "\x00", "", "\ud800"])
def test_a_credential_that_fits_no_header_is_refused_from_either_source(place: Place, secret: str) -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match="api_key") as caught:
            await place.service().add(remote("a", secret=Secret(secret)))
        assert not secret or secret not in str(caught.value)
        row = ConnectionSettings(id="f", kind="openai", base_url=URL, api_key=Secret(secret))
        with pytest.raises(ConfigError, match=r"connections\[0\]\.api_key"):
            place.service([row])

    place.run(test)


def test_a_credential_that_cannot_be_opened_leaves_the_others_serving(place: Place) -> None:
    async def test() -> None:
        await place.service().add(remote("good", secret=Secret(KEY)))
        await place.service(master=MasterKey(b"o" * 32)).add(remote("bad", secret=Secret(KEY)))
        now = SystemClock().now_us()
        row = ConnectionRow(
            id="broken", kind="openai", base_url=URL, sealed_secret=b"\x01x", created_at=now, updated_at=now
        )
        await ConnectionRepository(place.database).add(row)
        service = place.service()
        assert set(await service.endpoints(None, PriceService())) == {"good"}
        assert set((await service.catalogue(local=False, local_installed=False)).connections) == {"good"}

    place.run(test)


def test_a_connection_that_cannot_be_opened_is_still_listed_for_the_operator(place: Place) -> None:
    async def test() -> None:
        await place.service(master=MasterKey(b"o" * 32)).add(remote("bad", secret=Secret(KEY)))
        assert [info.id for info in await place.service().list_all()] == ["bad"]

    place.run(test)


def test_an_address_that_cannot_be_built_leaves_the_others_serving(place: Place) -> None:
    async def test() -> None:
        now = SystemClock().now_us()
        for name, url in (("a", "https://a..b/v1"), ("b", "https://[::1/v1"), ("c", "http://h:99999"), ("d", URL)):
            row = ConnectionRow(id=name, kind="openai", base_url=url, created_at=now, updated_at=now)
            await ConnectionRepository(place.database).add(row)
        service = place.service()
        endpoints = await service.endpoints(None, PriceService())
        assert set(endpoints) == {"d"}
        catalogue = await service.catalogue(local=False, local_installed=False)
        assert set(catalogue.connections) == {"d"}, "a model that resolves must have an endpoint"

    place.run(test)


def test_the_file_wins_over_a_stored_connection_of_the_same_id(place: Place) -> None:
    async def test() -> None:
        await place.service().add(remote("a", secret=Secret(KEY)))
        row = ConnectionSettings(id="a", kind="openai", base_url="https://file.example/v1")
        service = place.service([row])
        (info,) = await service.list_all()
        assert (info.source, info.base_url, info.has_secret) == ("file", "https://file.example/v1", False)
        for action in (service.add(remote("a")), service.remove("a")):
            with pytest.raises(ConfigError, match="configuration file"):
                await action

    place.run(test)


def test_an_alias_of_the_file_wins_over_a_stored_one(place: Place) -> None:
    async def test() -> None:
        await AliasRepository(place.database).add(AliasRow(name="fast", target="a/stored", created_at=1))
        await AliasRepository(place.database).add(AliasRow(name="slow", target="a/slow", created_at=1))
        service = place.service(None, [ModelSettings(name="fast", target="a/file")])
        await service.add(remote("a"))
        catalogue = await service.catalogue(local=False, local_installed=False)
        assert (catalogue.resolve("fast").id, catalogue.resolve("slow").id) == ("a/file", "a/slow")

    place.run(test)


def test_an_id_is_taken_once(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        await service.add(remote("a"))
        with pytest.raises(ConfigError, match="exists already"):
            await service.add(remote("a"))

    place.run(test)


def test_a_removed_connection_is_gone(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        revision = await service.add(remote("alpha", secret=Secret(KEY)))
        assert await service.remove("alpha") > revision
        assert await service.list_all() == []
        await service.add(remote("alpha"))
        with pytest.raises(ConfigError, match="did you mean 'alpha'"):
            await service.remove("alhpa")
        with pytest.raises(ConfigError, match="did you mean 'alpha'"):
            await service.find("alpa")

    place.run(test)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/v1", "http://[::1]:8080", "http://10.0.0.1", "http://localhost", "http://LOCALHOST:1", "http://a.localhost",
     "http://169.254.169.254", "http://[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_a_private_address_added_by_command_must_be_allowed(place: Place, url: str) -> None:
    async def test() -> None:
        service = place.service()
        with pytest.raises(ConfigError, match="allow-private"):
            await service.add(remote("a", base_url=url))
        await service.add(remote("a", base_url=url, allow_private=True))

    place.run(test)


def test_a_public_or_unresolved_name_is_judged_later() -> None:
    for url in ("https://api.example.com", "https://8.8.8.8/v1", "http://2130706433"):
        refuse_private_literal(url)


class Child:
    """Stands for the embedded model's supervisor, which is never asked here."""

    async def acquire(self) -> Any:
        raise AssertionError

    def release(self) -> None:
        raise AssertionError


CHILDREN = LocalChildren(chat=Child(), embedder=Child())


def test_the_embedded_model_is_there_when_it_is_turned_on(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        off = await service.catalogue(local=False, local_installed=True)
        assert off.targets == []
        on = await service.catalogue(local=True, local_installed=False)
        target = on.resolve(LOCAL_MODEL)
        assert target.id == f"local/{LOCAL_MODEL}"
        assert not target.listed
        assert (await service.catalogue(local=True, local_installed=True)).resolve(LOCAL_MODEL).listed
        assert set(await service.endpoints(CHILDREN, PriceService())) == {"local", "local/minilm"}
        assert await service.endpoints(None, PriceService()) == {}

    place.run(test)


def test_the_embedded_model_may_be_named_by_the_operator(place: Place) -> None:
    async def test() -> None:
        service = place.service([ConnectionSettings(id="mine", kind="local")])
        catalogue = await service.catalogue(local=True, local_installed=True)
        assert [target.id for target in catalogue.targets] == [f"mine/{LOCAL_MODEL}", "mine/minilm"]
        assert set(await service.endpoints(CHILDREN, PriceService())) == {"mine", "mine/minilm"}

    place.run(test)


def test_an_upstream_called_local_does_not_hide_the_embedded_model_silently(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        with pytest.raises(ConfigError, match="local"):
            await service.add(remote("local"))

    place.run(test)


def test_every_model_that_resolves_has_an_endpoint(place: Place) -> None:
    async def test() -> None:
        rows = [ConnectionSettings(id="f", kind="openai", base_url=URL, models=["m"])]
        service = place.service(rows)
        await service.add(remote("a", models=("n",)))
        catalogue = await service.catalogue(local=True, local_installed=True)
        endpoints = await service.endpoints(CHILDREN, PriceService())
        assert {target.endpoint for target in catalogue.targets} <= set(endpoints)

    place.run(test)


def test_the_request_for_the_model_list_goes_to_the_connection(place: Place) -> None:
    async def test() -> None:
        service = place.service()
        await service.add(remote("a", base_url="https://api.example.com:8443/v1/", secret=Secret(KEY)))
        probe = await service.find_origin("a")
        origin, message, secret = probe.origin, probe.message, probe.secret
        assert (origin.scheme, origin.host, origin.port, origin.allow_private) == (
            "https",
            "api.example.com",
            8443,
            False,
        )
        assert message.startswith(b"GET /v1/models HTTP/1.1\r\nhost: api.example.com:8443\r\n")
        assert secret == Secret(KEY)
        with pytest.raises(ConfigError):
            await service.find_origin("b")

    place.run(test)


PROXY = "socks5h://me:s3cret-Pa55@127.0.0.1:1080"


def test_a_proxy_and_tls_files_of_the_file_reach_the_origin(place: Place) -> None:
    authority = Authority(place.directory, "authority")
    certificate, key = authority.issue("me", [])

    async def test() -> None:
        row = ConnectionSettings(
            id="f",
            kind="openai",
            base_url=URL,
            proxy=Secret("env:PROXY"),
            ca_file=str(authority.certificate),
            client_certificate=certificate,
            client_key=key,
        )
        service = place.service([row], variables={"PROXY": PROXY})
        access = await (await service.endpoints(None, PriceService()))["f"].acquire()
        assert access.origin.tls == TlsFiles(ca_file=str(authority.certificate), certificate=certificate, key=key)
        assert access.origin.proxy == parse_proxy(PROXY, "")
        assert "s3cret-Pa55" not in f"{access!r} {access.origin!r} {row!r} {await service.list_all()!r}"
        origin = (await service.find_origin("f")).origin
        assert (origin.proxy, origin.tls) == (access.origin.proxy, access.origin.tls)

    place.run(test)


def test_a_proxy_and_tls_files_that_were_added_by_command_reach_the_origin_and_the_password_is_sealed(
    place: Place,
) -> None:
    authority = Authority(place.directory, "authority")
    certificate, key = authority.issue("me", [])
    files = TlsFiles(ca_file=str(authority.certificate), certificate=certificate, key=key)

    async def test() -> None:
        await place.service().add(remote("a", proxy=Secret(PROXY), tls=files))
        await place.service(master=MasterKey(b"o" * 32)).add(remote("bad", proxy=Secret(PROXY)))
        service = place.service()
        endpoints = await service.endpoints(None, PriceService())
        assert set(endpoints) == {"a"}
        access = await endpoints["a"].acquire()
        assert (access.origin.proxy, access.origin.tls) == (parse_proxy(PROXY, ""), files)
        origin = (await service.find_origin("a")).origin
        assert (origin.proxy, origin.tls) == (access.origin.proxy, access.origin.tls)

    place.run(test)
    assert b"s3cret-Pa55" not in b"".join(path.read_bytes() for path in place.directory.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"proxy": Secret("https://me:s3cret-Pa55@h:1")}, r"connection\.proxy: must begin with http://"),
        ({"tls": TlsFiles(ca_file="/nowhere.pem")}, r"connection\.ca_file: can't be read"),
        ({"base_url": "http://h/v1", "tls": TlsFiles(ca_file="/nowhere.pem")}, "for https:// only"),
    ],
)
def test_a_wrong_proxy_or_tls_file_is_not_added(place: Place, fields: dict[str, Any], problem: str) -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match=problem) as caught:
            await place.service().add(remote("a", **fields))
        assert "s3cret-Pa55" not in str(caught.value)
        assert await place.service().list_all() == []

    place.run(test)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"proxy": Secret("env:PROXY")}, r"\.proxy: the environment variable PROXY is not set"),
        ({"proxy": Secret("https://me:s3cret-Pa55@h:1")}, r"\.proxy: must begin with http://"),
        ({"ca_file": "/nowhere.pem"}, r"\.ca_file: can't be read"),
        ({"client_key": "/nowhere.key"}, r"\.client_key: needs a client_certificate"),
        ({"client_certificate": "/nowhere.crt"}, r"\.client_certificate, client_key: can't be read"),
        ({"base_url": "http://h/v1", "ca_file": "/nowhere.pem"}, "for https:// only"),
        ({"kind": "local", "base_url": None, "proxy": Secret(PROXY)}, r"\.proxy: a local connection has none"),
        ({"kind": "local", "base_url": None, "ca_file": "/x"}, "for https:// only"),
    ],
)
def test_a_wrong_proxy_or_tls_file_names_the_row(place: Place, fields: dict[str, Any], problem: str) -> None:
    row = ConnectionSettings(**{"id": "f", "kind": "openai", "base_url": URL, **fields})
    with pytest.raises(ConfigError, match=r"^connections\[0\].*" + problem) as caught:
        place.service([row])
    assert "s3cret-Pa55" not in str(caught.value)


def test_a_client_key_with_a_password_is_refused_without_asking_for_it(place: Place) -> None:
    authority = Authority(place.directory, "authority")
    certificate, key = authority.issue("me", [], b"password")
    row = ConnectionSettings(id="f", kind="openai", base_url=URL, client_certificate=certificate, client_key=key)
    with pytest.raises(ConfigError, match="need a password"):
        place.service([row])
