"""Which web pages may call from a browser, and OPTIONS in general."""

import pytest

from gateway import RunningGateway, running_gateway
from pointsman.errors import ConfigError
from pointsman.settings import parse_settings
from raw_client import CHAT, Answer, ask, chat, request

PAGE, OTHER = "https://page.example", "https://other.example"
SETTINGS = {"server": {"cors_origins": [PAGE, "http://localhost:3000"]}}
PREFLIGHT = (
    "access-control-request-method: POST",
    "access-control-request-headers: authorization,content-type,x-stainless-os",
)


def allowed_origin(answer: Answer) -> str | None:
    """The origin that may read ``answer``; every answer must say that it depends on the origin."""
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    return answer.headers.get("access-control-allow-origin")


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/a/b", "/health", "/omni/nothing", "/v1/request-logs"])
def test_a_preflight_is_answered_without_a_key(gateway: RunningGateway, path: str) -> None:
    answer = ask(gateway.port, request("OPTIONS", path, b"", f"origin: {PAGE}", *PREFLIGHT, key=None))
    assert (answer.status, answer.body, allowed_origin(answer)) == (200, b"", PAGE)
    assert "POST" in answer.headers["access-control-allow-methods"].split(", ")
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"


def test_a_preflight_of_another_page_allows_nothing(gateway: RunningGateway) -> None:
    for origin in (OTHER, "null", PAGE + ":444", PAGE + ".evil", "http://page.example", PAGE.upper()):
        answer = ask(gateway.port, request("OPTIONS", CHAT, b"", f"origin: {origin}", *PREFLIGHT, key=None))
        assert allowed_origin(answer) is None
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_is_asked_for_is_not_echoed_unless_it_is_a_list_of_names(gateway: RunningGateway) -> None:
    for names in ("a b", "a:b", "x" * 3000, "a,", "<script>"):
        lines = ("access-control-request-method: POST", f"access-control-request-headers: {names}")
        answer = ask(gateway.port, request("OPTIONS", CHAT, b"", f"origin: {PAGE}", *lines, key=None))
        assert "access-control-allow-headers" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_listed_page_may_read_answers_and_the_useful_headers(gateway: RunningGateway, stream: bool) -> None:
    answer = ask(gateway.port, chat("", f"origin: {PAGE}", stream=stream))
    assert (answer.status, allowed_origin(answer)) == (200, PAGE)
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after"} <= set(exposed)


def test_a_listed_page_may_read_errors_of_every_kind(gateway: RunningGateway) -> None:
    origin = f"origin: {PAGE}"
    messages = (
        chat("", origin, key="wrong"),
        chat("", origin, model="none"),
        request("POST", CHAT, b"x", origin, "content-encoding: lzma"),
        request("GET", "/nothing", b"", origin),
        request("GET", "/h", b"", origin, "upgrade: websocket", "connection: upgrade"),
    )
    for message in messages:
        answer = ask(gateway.port, message)
        assert (answer.status >= 400, allowed_origin(answer)) == (True, PAGE)


def test_requests_without_an_origin_and_of_other_pages_are_served_without_permission(gateway: RunningGateway) -> None:
    assert allowed_origin(ask(gateway.port, chat())) is None
    assert allowed_origin(ask(gateway.port, chat("", f"origin: {OTHER}"))) is None


def test_any_page_may_call_only_when_the_operator_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    for origins, expected in ((["*"], "*"), ([], None)):
        with running_gateway(tmp_path_factory.mktemp("cors"), {"server": {"cors_origins": origins}}) as gateway:
            answer = ask(gateway.port, request("GET", "/health", b"", f"origin: {OTHER}"))
            assert answer.headers.get("access-control-allow-origin") == expected
            assert "access-control-allow-credentials" not in answer.headers
            if not origins:
                assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
                answer = ask(gateway.port, request("OPTIONS", CHAT, b"", f"origin: {OTHER}", *PREFLIGHT, key=None))
                assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["https://a/", "example.org", "https://A.example", "https://*.a", "", "https://a/b"])
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.cors_origins\[0\]"):
        parse_settings({"server": {"cors_origins": [origin]}}, "test")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (CHAT, {"POST", "OPTIONS"}),
        ("/v1/models", {"GET", "HEAD", "OPTIONS"}),
        ("/v1/models/a", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/health", {"GET", "HEAD", "OPTIONS"}),
        ("/v1/request-logs", {"GET", "OPTIONS"}),
        ("*", {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}),
    ],
)
def test_options_tells_the_methods_of_a_route(gateway: RunningGateway, path: str, methods: set[str]) -> None:
    answer = ask(gateway.port, request("OPTIONS", path, key=None))
    assert answer.status in (200, 204)
    assert set(answer.headers["allow"].split(", ")) == methods
    assert answer.headers.get("content-length", "0") == "0"


def test_options_of_no_route_is_not_found(gateway: RunningGateway) -> None:
    assert ask(gateway.port, request("OPTIONS", "/nothing", key=None)).status == 404
