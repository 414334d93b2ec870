"""Settings: what is wrong is refused with its place and the nearest name; references and the environment."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.keyring import Secret
from pointsman.settings import (
    Environment,
    Settings,
    check_connection,
    load_settings,
    parse_settings,
    read_environment,
)

REMOTE = {"id": "a", "kind": "openai", "base_url": "https://api.example.com/v1"}


def refusal(document: dict[str, Any]) -> str:
    """The message with which a document is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(document, "pointsman.toml")
    message = str(caught.value)
    assert message.startswith("pointsman.toml: ")
    return message


def test_an_empty_document_means_the_defaults() -> None:
    assert parse_settings({}, "x") == Settings()
    defaults = Settings()
    assert (defaults.server.host, defaults.server.port) == ("127.0.0.1", 20128)
    assert defaults.local.enabled
    assert defaults.connections == []
    assert defaults.storage.database_url is None


def test_every_section_can_be_written() -> None:
    document = {name: {} for name in ("server", "upstream", "local", "journal", "log", "storage")}
    assert parse_settings({**document, "connections": [], "models": []}, "x") == Settings()


@pytest.mark.parametrize(
    ("document", "place", "near"),
    [
        ({"sever": {}}, "'sever'", "'server'"),
        ({"server": {"prot": 1}}, "'server.prot'", "'port'"),
        ({"upstream": {"conect_timeout_seconds": 1}}, "'upstream.conect_timeout_seconds'", "'connect_timeout_seconds'"),
        ({"connections": [REMOTE, {**REMOTE, "api-key": "x"}]}, "'connections[1].api-key'", "'api_key'"),
        ({"models": [{"name": "a", "targte": "b"}]}, "'models[0].targte'", "'target'"),
        ({"log": {"lvel": "info"}}, "'log.lvel'", "'level'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(document: dict[str, Any], place: str, near: str) -> None:
    message = refusal(document)
    assert f"unknown key {place}" in message
    assert f"did you mean {near}?" in message


def test_a_key_like_no_other_is_refused_with_the_known_names() -> None:
    message = refusal({"server": {"zzz": 1}})
    assert "unknown key 'server.zzz'" in message
    assert "host" in message
    assert "port" in message


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"server": {"port": "80"}}, "server.port"),
        ({"server": {"port": 80.5}}, "server.port"),
        ({"server": {"host": 5}}, "server.host"),
        ({"server": []}, "server"),
        ({"local": {"enabled": "yes"}}, "local.enabled"),
        ({"log": {"level": "loud"}}, "log.level"),
        ({"journal": {"batch_rows": "many"}}, "journal.batch_rows"),
        ({"connections": {}}, "connections"),
        ({"connections": [5]}, "connections[0]"),
        ({"connections": [REMOTE, {**REMOTE, "id": "b", "priority": "high"}]}, "connections[1].priority"),
        ({"connections": [{**REMOTE, "models": "gpt"}]}, "connections[0].models"),
        ({"connections": [{**REMOTE, "models": [5]}]}, "connections[0].models[0]"),
        ({"connections": [{**REMOTE, "api_key": 5}]}, "connections[0].api_key"),
        ({"models": [{"name": "a"}]}, "target"),
        ({"connections": [{"kind": "openai"}]}, "id"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(document: dict[str, Any], place: str) -> None:
    assert place in refusal(document)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("server", "port", 0),
        ("server", "port", 65536),
        ("server", "port", -1),
        ("server", "max_body_bytes", -1),
        ("server", "max_header_bytes", 0),
        ("server", "max_connections", 0),
        ("server", "header_timeout_seconds", -1.0),
        ("server", "header_timeout_seconds", float("nan")),
        ("upstream", "connect_timeout_seconds", 0.0),
        ("upstream", "total_timeout_seconds", -5.0),
        ("upstream", "max_connections_per_host", 0),
        ("journal", "segment_bytes", 0),
        ("journal", "batch_rows", 0),
        ("journal", "interval_seconds", -0.1),
    ],
)
def test_an_impossible_number_is_refused_with_its_place(section: str, name: str, value: float) -> None:
    if (section, name, value) == ("server", "port", 0):
        parse_settings({section: {name: value}}, "x")  # any free port: for tests and supervisors
        return
    assert f"{section}.{name}" in refusal({section: {name: value}})


def test_an_impossible_number_of_calls_at_once_is_refused() -> None:
    assert "connections[0].max_concurrent" in refusal({"connections": [{**REMOTE, "max_concurrent": 0}]})


def test_two_connections_must_not_have_the_same_id() -> None:
    message = refusal({"connections": [REMOTE, {**REMOTE, "base_url": "https://b.example.com"}]})
    assert "connections[1].id: 'a' is declared twice" in message


def test_two_aliases_must_not_have_the_same_name() -> None:
    message = refusal({"models": [{"name": "fast", "target": "a/b"}, {"name": "fast", "target": "a/c"}]})
    assert "models[1].name: 'fast' is declared twice" in message


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "ä/ö", "a:b", "é\x00", "-" * 0])
def test_an_id_is_plain(name: str) -> None:
    assert "connections[0].id" in refusal({"connections": [{**REMOTE, "id": name}]})


@pytest.mark.parametrize("name", ["a", "openai-2", "my_host", "v1.5"])
def test_ids_may_have_dashes_dots_and_underscores(name: str) -> None:
    assert parse_settings({"connections": [{**REMOTE, "id": name}]}, "x").connections[0].id == name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///v1",
        "https://user@api.example.com/v1",
        "https://user:pass@api.example.com/v1",
        "https://:pass@api.example.com/v1",
        "https://@api.example.com/v1",
        "https://api.example.com/v1?key=x",
        "https://api.example.com/v1#x",
        "https://api.example.com:99999/v1",
        "https://api.example.com:-1/v1",
        "https://api.example.com:port/v1",
        "https://api.example.com:0/v1",
        "https://[::1/v1",
        "https://[nonsense]/v1",
        "https://api.example.com/v 1",
        "https://api.example.com/v1\r\nx-evil: 1",
        "https://api.example.com/\x00",
        "https://api.exam ple.com/v1",
        "https://api.example.com/é",
        "https://" + "a" * 64 + ".com/v1",
        "https://a..b/v1",
        "https://api.example.com\\@evil.example/v1",
    ],
)
def test_a_bad_base_url_is_refused(url: str) -> None:
    message = refusal({"connections": [{**REMOTE, "base_url": url}]})
    assert "connections[0].base_url" in message
    assert "pass" not in message.replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://127.0.0.1:8080",
        "http://[::1]:8080/v1/",
        "https://api.example.com:443/a/b/c/",
        "HTTPS://API.Example.com/v1",
        "https://bücher.example/v1",
        "http://localhost",
    ],
)
def test_a_good_base_url_is_taken(url: str) -> None:
    check_connection("a", "openai", url, "connection")


def test_a_local_connection_has_no_address() -> None:
    assert "base_url" in refusal({"connections": [{**REMOTE, "kind": "local"}]})
    parse_settings({"connections": [{"id": "a", "kind": "local"}]}, "x")


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.one_of(
                st.sampled_from(["server", "connections", "id", "kind", "base_url", "models", "port"]), st.text()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(document=st.dictionaries(st.sampled_from(["server", "connections", "models", "log", "x"]), DOCUMENTS))
@settings(max_examples=150, deadline=None)
def test_any_document_is_taken_or_refused(document: dict[str, Any]) -> None:
    try:
        parse_settings(document, "x")
    except ConfigError as error:
        refused = str(error)
    else:
        refused = "x: "
    assert refused.startswith("x: ")


# the file


def test_no_file_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == Settings()


def test_the_file_of_the_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pointsman.toml").write_text("[server]\nport = 9\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_settings(None).server.port == 9


@pytest.mark.parametrize("content", [b"[server\n", b"\xff\xfe", b"port = \n"])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load_settings(path)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load_settings(tmp_path / "missing.toml")


def test_a_credential_in_the_file_is_a_secret() -> None:
    row = parse_settings({"connections": [{**REMOTE, "api_key": "sk-plain-in-file"}]}, "x").connections[0]
    assert isinstance(row.api_key, Secret)
    assert "sk-plain" not in repr(row)


def test_a_wrong_credential_is_not_repeated() -> None:
    message = refusal({"connections": [{**REMOTE, "api_key": ["sk-plain-in-file"]}]})
    assert "sk-plain" not in message


# references and the environment


def test_references_are_resolved(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("  from-file\n", encoding="utf-8")
    environment = Environment(data_dir=tmp_path, variables={"KEY": "from-env"})
    assert environment.resolve(Secret("env:KEY"), "f").reveal() == "from-env"
    assert environment.resolve(Secret(f"file:{path}"), "f").reveal() == "from-file"
    for literal in ("literal", "sk-a:b", "ENV:KEY", "environment"):
        assert environment.resolve(Secret(literal), "f").reveal() == literal


@pytest.mark.parametrize("reference", ["env:MISSING", "env:EMPTY", "env:", "file:/nowhere/key", "file:", "file:/"])
def test_a_reference_to_nothing_names_the_field(tmp_path: Path, reference: str) -> None:
    environment = Environment(data_dir=tmp_path, variables={"EMPTY": "", "OTHER": "hidden-value"})
    with pytest.raises(ConfigError) as caught:
        environment.resolve(Secret(reference), "connections[2].api_key")
    assert str(caught.value).startswith("connections[2].api_key: ")
    assert "hidden-value" not in str(caught.value)


def test_an_empty_or_binary_key_file_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for content in (b"", b" \n", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"^f: "):
            Environment(data_dir=tmp_path).resolve(Secret(f"file:{path}"), "f")


def clear(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An environment without anything of ours."""
    for name in [*os.environ]:
        if name.startswith(("POINTSMAN_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))


def test_data_lives_in_the_users_data_directory_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch, tmp_path)
    assert read_environment().data_dir == tmp_path / ".local/share/pointsman"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert read_environment().data_dir == tmp_path / "xdg/pointsman"


def test_the_command_line_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch, tmp_path)
    monkeypatch.setenv("POINTSMAN_DATA_DIR", "~/env")
    assert read_environment().data_dir == tmp_path / "env"
    assert read_environment(tmp_path / "option").data_dir == tmp_path / "option"
    monkeypatch.chdir(tmp_path)
    assert read_environment(Path("relative")).data_dir == tmp_path / "relative"


def test_what_the_environment_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch, tmp_path)
    empty = read_environment()
    fields = ("database_url", "redis_url", "secret_key", "bootstrap_key")
    assert [getattr(empty, name) for name in fields] == [None] * 4
    for name in fields:
        monkeypatch.setenv(f"POINTSMAN_{name.upper()}", "")
    assert [getattr(read_environment(), name) for name in fields] == [None] * 4
    for name in fields:
        monkeypatch.setenv(f"POINTSMAN_{name.upper()}", f"value-of-{name}")
    full = read_environment()
    assert (full.database_url, full.redis_url) == ("value-of-database_url", "value-of-redis_url")
    assert (full.secret_key, full.bootstrap_key) == (Secret("value-of-secret_key"), Secret("value-of-bootstrap_key"))


def test_an_environment_shows_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch, tmp_path)
    for name in ("POINTSMAN_SECRET_KEY", "POINTSMAN_BOOTSTRAP_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hidden-value")
    monkeypatch.setenv("POINTSMAN_DATABASE_URL", "postgresql://user:hidden-value@h/db")
    assert "hidden-value" not in repr(read_environment())


def test_every_setting_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().server.port = 1  # type: ignore[misc]
    assert msgspec.structs.replace(Settings().server, port=1).port == 1


def test_a_word_on_a_model_is_read() -> None:
    row = {
        "model": "a/m",
        "prompt": 1,
        "completion": 2.5,
        "parameters": ["tools"],
        "zdr": True,
        "deprecated": "2027-01-31",
    }
    [fact] = parse_settings({"facts": [row]}, "x").facts
    assert (fact.prompt, fact.completion, fact.parameters, fact.zdr) == (1.0, 2.5, ["tools"], True)


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"model": ""}, "facts[0].model"),
        ({"model": "m", "prompt": 1}, "facts[0]: prompt and completion"),
        ({"model": "m", "slug": "name"}, "facts[0].slug"),
        ({"model": "m", "slug": "/name"}, "facts[0].slug"),
        ({"model": "m", "deprecated": "soon"}, "facts[0].deprecated"),
        ({"model": "m", "prompt": -1, "completion": 1}, "facts[0].prompt"),
        ({"model": "m", "context_tokens": 0}, "facts[0].context_tokens"),
    ],
)
def test_a_word_on_a_model_that_makes_no_sense_is_refused(row: dict[str, Any], place: str) -> None:
    assert place in refusal({"facts": [row]})


def test_what_an_ambiguous_name_means_is_one_of_two_words() -> None:
    assert "routing.ambiguous" in refusal({"routing": {"ambiguous": "guess"}})
