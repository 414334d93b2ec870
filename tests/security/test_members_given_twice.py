"""Bodies that give a member twice: an upstream gets it once, as it was read here, whichever its parser would take."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import (
    AnthropicMessages,
    Api,
    Gemini,
    Ollama,
    OpenAIOperations,
    OpenAIResponses,
    RunningSimulator,
    running_simulator,
)
from raw_client import Answer, ask, request

APIS: Final[dict[str, Api]] = {
    "openai": OpenAIOperations(api_key=UPSTREAM_KEY, strict=False),
    "openai-responses": OpenAIResponses(api_key=UPSTREAM_KEY, strict=False),
    "anthropic": AnthropicMessages(api_key=UPSTREAM_KEY, strict=False),
    "gemini": Gemini(api_key=UPSTREAM_KEY, strict=False),
    "ollama": Ollama(),
}
MODELS: Final = {"anthropic": "claude-sonnet-4-5"}
MESSAGES: Final = b'"messages":[{"role":"user","content":"hello"}]'
GEMINI: Final = b'"contents":[{"role":"user","parts":[{"text":"hello"}]}]'
# Of each lane on which a body goes to an upstream of the same API: the connection, the path, and the members but one.
LANES: Final = {
    "chat": ("openai", "/v1/chat/completions", MESSAGES),
    "embeddings": ("openai", "/v1/embeddings", b'"input":["hello"]'),
    "moderations": ("openai", "/v1/moderations", b'"input":"hello"'),
    "images": ("openai", "/v1/images/generations", b'"prompt":"hello"'),
    "speech": ("openai", "/v1/audio/speech", b'"input":"hello","voice":"alloy"'),
    "responses": ("openai-responses", "/v1/responses", b'"input":"hello","store":false'),
    "messages": ("anthropic", "/v1/messages", b'"max_tokens":20,"stream":false,' + MESSAGES),
    "count_tokens": ("anthropic", "/v1/messages/count_tokens", MESSAGES),
    "generateContent": ("gemini", "/v1beta/models/{model}:generateContent", GEMINI),
    "countTokens": ("gemini", "/v1beta/models/{model}:countTokens", GEMINI),
    "ollama chat": ("ollama", "/api/chat", b'"stream":false,' + MESSAGES),
    "ollama generate": ("ollama", "/api/generate", b'"stream":false,"prompt":"hello"'),
    "ollama embed": ("ollama", "/api/embed", b'"input":["hello"]'),
}
NAMES: Final = (b"model", b"\\u006dodel", b"mod\\u0065l")
LONG: Final = b'"filler":"' + b"x" * 100_000 + b'"'  # long enough to be stepped over
Place = tuple[RunningGateway, dict[str, RunningSimulator]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A gateway, and an upstream of each API, whose one model is known by its own name alone, too."""
    with ExitStack() as stack:
        simulators = {kind: stack.enter_context(running_simulator(api)) for kind, api in APIS.items()}
        connections = [
            {
                "id": kind,
                "kind": kind,
                "base_url": simulator.base_url if kind.startswith("openai") else simulator.origin,
                "api_key": UPSTREAM_KEY,
                "models": [model_of(kind)],
            }
            for kind, simulator in simulators.items()
        ]
        yield (
            stack.enter_context(running_gateway(tmp_path_factory.mktemp("twice"), {"connections": connections})),
            (simulators),
        )


def model_of(kind: str) -> str:
    """The one model of a connection."""
    return MODELS.get(kind, f"sim-{kind}")


def members_of(body: bytes) -> list[tuple[str, Any]]:
    """The members of a JSON object, all of them, in order."""
    objects: list[list[tuple[str, Any]]] = []
    json.loads(body, object_pairs_hook=objects.append)
    return objects[-1]


def tell(place: Place, lane: str, members: bytes) -> tuple[Answer, list[bytes]]:
    """The answer to a call on this lane, and the bodies that its upstream got."""
    gateway, simulators = place
    kind, path, rest = LANES[lane]
    log = simulators[kind].log
    log.clear()
    body = b"{%b,%b}" % (members.replace(b"<model>", model_of(kind).encode()), rest)
    answer = ask(gateway.port, request("POST", path.format(model=model_of(kind)), body))
    return answer, [received.body for received in log.requests]


@pytest.mark.parametrize("name", NAMES, ids=["plain", "escaped at first", "escaped within"])
@pytest.mark.parametrize("lane", LANES)
def test_an_upstream_is_asked_for_the_model_that_was_checked(place: Place, lane: str, name: bytes) -> None:
    kind = LANES[lane][0]
    answer, bodies = tell(place, lane, b'"%b":"dear-model","model" : "<model>"' % name)
    if answer.status == 400:
        assert (lane, answer.error["param"], bodies) == ("chat", "model", [])
        return
    assert (answer.status, len(bodies)) == (200, 1), answer.body
    models = [value for member, value in members_of(bodies[0]) if member == "model"]
    assert models in ([model_of(kind)], [f"models/{model_of(kind)}"], [] if lane == "countTokens" else None)


@pytest.mark.parametrize("lane", LANES)
def test_a_large_body_is_no_other(place: Place, lane: str) -> None:
    answer, bodies = tell(place, lane, b'"model":"dear-model",%b,"model":"<model>"' % LONG)
    assert answer.status in ((400,) if lane == "chat" else (200, 400)), answer.body
    for body in bodies:
        assert b"dear-model" not in body


@pytest.mark.parametrize("lane", LANES)
def test_no_member_reaches_an_upstream_twice(place: Place, lane: str) -> None:
    doubled = b'"max_tokens":1000000,"stream":true,"max_tokens":20,"stream":false,%b' % LANES[lane][2]
    answer, bodies = tell(place, lane, b'"model":"<model>",' + doubled)
    assert answer.status in (200, 400), answer.body
    for body in bodies:
        names = [name for name, _ in members_of(body)]
        assert len(names) == len(set(names))
        assert b"1000000" not in body
        assert b"true" not in body


OTHER_LETTERS: Final = (b"Model", b"MODEL", b"mOdel", b"\\u004dodel")


@pytest.mark.parametrize("name", OTHER_LETTERS)
@pytest.mark.parametrize("lane", LANES)
def test_a_model_in_other_letters_is_refused(place: Place, lane: str, name: bytes) -> None:
    for members in (b'"model":"<model>","%b":"dear-model"', b'"%b":"dear-model","model":"<model>"'):
        answer, bodies = tell(place, lane, members % name)
        assert (answer.status, bodies) == (400, [])
        assert b"'model'" in answer.body


FORMS: Final = ("/v1/images/edits", "/v1/audio/transcriptions", "/v1/audio/translations")


def tell_form(place: Place, path: str, names: str, model_names: str = 'name="model"') -> tuple[Answer, list[bytes]]:
    """The answer to a form that has a part of this name as well, and the bodies that its upstream got."""
    gateway, simulators = place
    log = simulators["openai"].log
    log.clear()
    part = "--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n"
    body = part % ('name="file"; filename="a.wav"', "x") + part % ('name="image"; filename="a.png"', "x")
    body += part % ('name="prompt"', "x") + part % (model_names, model_of("openai"))
    form = (body + part % (names, "dear-model") + "--b--\r\n").encode()
    answer = ask(gateway.port, request("POST", path, form, "content-type: multipart/form-data; boundary=b"))
    return answer, [received.body for received in log.requests]


@pytest.mark.parametrize("path", FORMS)
def test_a_part_of_a_form_with_two_names_is_refused(place: Place, path: str) -> None:
    lines = 'name="%s"\r\nContent-Disposition: form-data; name="%s"'
    two_lines = (lines % ("model", "other"), lines % ("other", "model"))
    for names in ('name="model"; name="other"', 'name="other"; name*=model', 'name="model"', *two_lines):
        answer, bodies = tell_form(place, path, names)
        assert (answer.status, bodies) == (400, [])
        assert answer.error["param"] in ("model", "other")


@pytest.mark.parametrize("path", FORMS)
def test_a_model_that_is_a_file_is_refused(place: Place, path: str) -> None:
    answer, bodies = tell_form(place, path, 'name="other"', 'name="model"; filename="a.txt"')
    assert (answer.status, answer.error["param"], bodies) == (400, "model", [])


# What servers take for ``model``: those that undo escapes, cut names, don't mind their letters, or make lists of them.
LIKE_MODEL: Final = (
    r'"mod\el"', r'"\model"', r'"mode\l"', r"mod\el", '"Model"', "MODEL", '"mOdel"', '"model[]"', '"model[0]"',
    '"Model[a]"', '"model "', '" model"', '"model []"', '"=?utf-8?q?model?="', '"\x0bmodel"', '"model\x00"',
    '"mod\x7fel"',
)  # fmt: skip


@pytest.mark.parametrize("name", LIKE_MODEL)
@pytest.mark.parametrize("more", ["", '; filename="a.txt"'], ids=["field", "file"])
def test_a_part_of_a_form_that_others_may_take_for_the_model_is_refused(place: Place, name: str, more: str) -> None:
    for path in FORMS:
        for names in (f"name={name}{more}", f"name = {name}{more}"):
            answer, bodies = tell_form(place, path, names)
            assert (answer.status, bodies) == (400, []), names


@pytest.mark.parametrize(
    "names",
    ['name="models"', 'name="modal"', 'name="a[model]"', r'name="other"; filename="C:\model\Model.wav"', 'name="é"'],
)
def test_a_part_that_nobody_takes_for_the_model_is_passed_on(place: Place, names: str) -> None:
    for path in FORMS:
        _, bodies = tell_form(place, path, names)
        assert [names.encode() in body for body in bodies] == [True]
