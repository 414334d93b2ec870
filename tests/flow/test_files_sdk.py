"""Uploaded files through a whole gateway, judged by the official SDKs of OpenAI, Anthropic and Google."""

import io
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.identity.keys import KeyService
from pointsman.keyring import Secret
from pointsman.storage.keys import KeyRow
from pointsman.testing import AnthropicMessages, Behaviour, Gemini, OpenAIResponses, RunningSimulator, running_simulator

OTHER_KEY = "sk-pm-other-0123456789abcdefghijklmnopqrstuvwxyz"
SETTINGS = {"server": {"max_body_bytes": 100_000}, "files": {"max_bytes": 300_000}}
NOTE = ("note.txt", b"an unmistakable note", "text/plain")
Simulators = dict[str, RunningSimulator]


@pytest.fixture(scope="module")
def simulators() -> Iterator[Simulators]:
    apis = {
        "openai": OpenAIResponses(api_key=UPSTREAM_KEY),
        "second": OpenAIResponses(api_key=UPSTREAM_KEY),
        "anthropic": AnthropicMessages(api_key=UPSTREAM_KEY),
        "gemini": Gemini(api_key=UPSTREAM_KEY, strict=False),
    }
    managers = {name: running_simulator(api) for name, api in apis.items()}
    running = {name: manager.__enter__() for name, manager in managers.items()}
    yield running
    for manager in managers.values():
        manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def gateway(simulators: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Two accounts with OpenAI's files, the first by both of its APIs, one of each other vendor, one of none."""
    kinds = {
        "chat": ("openai", "openai"),
        "native": ("openai-responses", "openai"),
        "second": ("openai", "second"),
        "claude": ("anthropic", "anthropic"),
        "google": ("gemini", "gemini"),
        "none": ("deepseek", "openai"),
    }
    connections = []
    for name, (kind, simulator) in kinds.items():
        running = simulators[simulator]
        address = running.base_url if kind.startswith(("openai", "deepseek")) else running.origin
        connections.append({"id": name, "kind": kind, "base_url": address, "api_key": UPSTREAM_KEY})
        connections[-1]["models"] = ["m", "only-" + name]
    settings = {**SETTINGS, "connections": connections}
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as running_one:
        add_tenant(running_one)
        yield running_one


def add_tenant(gateway: RunningGateway) -> None:
    """A key of another workspace."""
    installation = gateway.installation
    service: KeyService = installation.keys
    row = KeyRow(
        id="key_other",
        digest=service._digest(Secret(OTHER_KEY)),
        name="other",
        hint="…",
        role="inference",
        workspace_id="other",
        created_at=1,
    )
    revision = gateway.call(installation.key_rows.add(row))
    wait_until(lambda: gateway.server.gateway.snapshot.revision >= revision, "applied key")


def openai_client(gateway: RunningGateway, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=key, max_retries=0, timeout=10)


def anthropic_client(gateway: RunningGateway, key: str = KEY) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.address, api_key=key, max_retries=0, timeout=10)


def google_client(gateway: RunningGateway, key: str = KEY) -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=gateway.address))


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai_client(gateway) as sdk:
        yield sdk


@pytest.fixture
def claude(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic_client(gateway) as sdk:
        yield sdk


@pytest.fixture
def google(gateway: RunningGateway) -> Iterator[genai.Client]:
    with google_client(gateway) as sdk:
        yield sdk


def ask(gateway: RunningGateway, method: str, path: str, key: str = KEY, **rest: Any) -> tuple[int, bytes, Any]:
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        headers = {"authorization": f"Bearer {key}", **rest.get("headers", {})}
        connection.request(method, path, rest.get("body"), headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


# OpenAI


def test_openai_files_are_uploaded_read_listed_downloaded_and_deleted(
    client: openai.OpenAI, gateway: RunningGateway, simulators: Simulators
) -> None:
    raw = client.files.with_raw_response.create(
        file=NOTE, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 7200}
    )
    file = raw.parse()
    assert (file.bytes, file.filename, file.purpose) == (20, "note.txt", "user_data")
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.operation, record.connection_id, record.status) == ("files.upload", "chat", 200)
    assert (record.cost_nano_usd, record.input_tokens, record.workspace_id) == (0, 0, "default")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == NOTE[1]
    assert file.id in [one.id for one in client.files.list()]
    assert client.files.delete(file.id).deleted
    assert file.id not in [one.id for one in client.files.list()]
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_every_call_about_a_file_leaves_one_record(client: openai.OpenAI, gateway: RunningGateway) -> None:
    file = client.files.create(file=NOTE, purpose="user_data")
    answers = [
        client.files.with_raw_response.retrieve(file.id),
        client.files.with_raw_response.content(file.id),
        client.files.with_raw_response.list(),
        client.files.with_raw_response.delete(file.id),
    ]
    records = [gateway.journal.the(answer.headers["x-request-id"]) for answer in answers]
    assert [record.operation for record in records] == ["files.get", "files.content", "files.list", "files.delete"]
    assert {record.status for record in records} == {200}


def test_openai_lists_go_on_page_by_page_from_the_gateways_own_note(
    client: openai.OpenAI, simulators: Simulators
) -> None:
    for file in client.files.list():
        client.files.delete(file.id)
    made = [client.files.create(file=(f"{number}.txt", b"x"), purpose="user_data").id for number in range(5)]
    batch = client.files.create(file=("b.jsonl", b"{}"), purpose="batch").id
    simulators["openai"].log.clear()
    page = client.files.list(limit=2)
    assert page.has_more
    assert [file.id for file in client.files.list(limit=2)] == [batch, *reversed(made)]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == [*made, batch]
    assert [file.id for file in client.files.list(purpose="batch")] == [batch]
    assert simulators["openai"].requests == ()
    with pytest.raises(openai.BadRequestError):
        client.files.list(after="file-nobodys")
    with pytest.raises(openai.BadRequestError):
        client.files.list(limit=10_001)


def test_an_upload_goes_to_the_connection_that_is_named(client: openai.OpenAI, gateway: RunningGateway) -> None:
    for options in (
        {"extra_query": {"provider": "second"}},
        {"extra_query": {"model": "second/m"}},
        {"extra_headers": {"x-pointsman-provider": "second"}},
    ):
        raw = client.files.with_raw_response.create(file=NOTE, purpose="user_data", **options)  # type: ignore[arg-type]
        assert gateway.journal.the(raw.headers["x-request-id"]).connection_id == "second"
        assert client.files.content(raw.parse().id).read() == NOTE[1]
    for name in ("nobody", "none", "claude"):
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=NOTE, purpose="user_data", extra_query={"provider": name})


def test_an_upstreams_own_refusal_is_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="is not one of"):
        client.files.create(file=NOTE, purpose="nonsense")  # type: ignore[arg-type]
    file = client.files.create(file=NOTE, purpose="assistants")
    with pytest.raises(openai.BadRequestError, match="Not allowed to download"):
        client.files.content(file.id)


# Anthropic


def test_anthropic_files_are_uploaded_read_listed_and_deleted(
    claude: anthropic.Anthropic, gateway: RunningGateway
) -> None:
    raw = claude.beta.files.with_raw_response.upload(file=NOTE, expires_in_seconds=7200)
    file = raw.parse()
    assert (file.filename, file.mime_type, file.size_bytes) == ("note.txt", "text/plain", 20)
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.operation, record.dialect, record.connection_id) == ("files.upload", "anthropic.files", "claude")
    assert claude.beta.files.retrieve_metadata(file.id) == file
    with pytest.raises(anthropic.BadRequestError, match="not downloadable"):
        claude.beta.files.download(file.id)
    others = [claude.beta.files.upload(file=(f"{number}.txt", b"x", "text/plain")).id for number in range(3)]
    assert [one.id for one in claude.beta.files.list(limit=2)] == [*reversed(others), file.id]
    assert {one.id for one in claude.beta.files.list(ids=[file.id, others[0], "file_nobodys"])} == {file.id, others[0]}
    assert claude.beta.files.delete(file.id).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError):
        claude.beta.files.retrieve_metadata(file.id)
    for name in others:
        claude.beta.files.delete(name)


def test_older_anthropic_clients_go_on_by_ids(claude: anthropic.Anthropic, gateway: RunningGateway) -> None:
    made = [claude.beta.files.upload(file=(f"{number}.txt", b"x", "text/plain")).id for number in range(4)]
    version = {"anthropic-version": "2023-06-01"}

    def names(query: str) -> list[str]:
        _, body, _ = ask(gateway, "GET", f"/v1/files?{query}", headers=version)
        return [file["id"] for file in json.loads(body)["data"]]

    assert names(f"limit=2&after_id={made[3]}") == [made[2], made[1]]
    assert names(f"limit=2&before_id={made[0]}") == [made[2], made[1]]
    for name in made:
        claude.beta.files.delete(name)


def test_a_message_may_name_the_callers_file(claude: anthropic.Anthropic, simulators: Simulators) -> None:
    file = claude.beta.files.upload(file=("a.pdf", b"%PDF-1.4", "application/pdf"))
    content: Any = [{"type": "document", "source": {"type": "file", "file_id": file.id}}, {"type": "text", "text": "x"}]
    messages: Any = [{"role": "user", "content": content}]
    claude.beta.messages.create(model="claude/m", max_tokens=9, messages=messages, betas=["files-api-2025-04-14"])
    assert file.id.encode() in simulators["anthropic"].requests[-1].body
    content[0]["source"]["file_id"] = "file_nobodys"
    with pytest.raises(anthropic.NotFoundError):
        claude.beta.messages.create(model="claude/m", max_tokens=9, messages=messages)


# Google


def test_google_files_are_uploaded_in_parts_read_listed_and_deleted(
    google: genai.Client, gateway: RunningGateway, simulators: Simulators
) -> None:
    simulators["gemini"].log.clear()
    file = google.files.upload(file=io.BytesIO(NOTE[1]), config={"mime_type": "text/plain", "display_name": "a note"})
    assert (file.size_bytes, file.mime_type, file.display_name) == (20, "text/plain", "a note")
    assert file.name is not None
    assert file.uri is not None
    assert [received.path.partition("?")[0] for received in simulators["gemini"].requests] == [
        "/upload/v1beta/files"
    ] * 2
    uploads = [record for record in gateway.journal.records() if record.dialect == "gemini.files"][-2:]
    assert {(record.operation, record.connection_id) for record in uploads} == {("files.upload", "google")}
    assert google.files.get(name=file.name).uri == file.uri
    with pytest.raises(google_errors.ClientError, match="generated"):
        google.files.download(file=file.name)
    more = [google.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "text/plain"}).name for _ in range(3)]
    assert [one.name for one in google.files.list(config={"page_size": 2})] == [*reversed(more), file.name]
    answer = google.models.generate_content(
        model="google/m", contents=[types.Part.from_uri(file_uri=file.uri, mime_type="text/plain"), "read it"]
    )
    assert answer.text is not None
    google.files.delete(name=file.name)
    with pytest.raises(google_errors.ClientError) as gone:
        google.files.get(name=file.name)
    assert gone.value.code == 404
    part = types.Part.from_uri(file_uri=file.uri, mime_type="text/plain")
    with pytest.raises(google_errors.ClientError) as named:
        google.models.generate_content(model="google/m", contents=[part])
    assert named.value.code == 404
    for name in more:
        google.files.delete(name=str(name))


def test_google_files_are_uploaded_in_one_request(gateway: RunningGateway) -> None:
    body = (
        b'--x\r\ncontent-type: application/json\r\n\r\n{"file": {"displayName": "one"}}\r\n'
        b"--x\r\ncontent-type: text/plain\r\n\r\nhello\r\n--x--\r\n"
    )
    headers = {"content-type": "multipart/related; boundary=x", "x-goog-upload-protocol": "multipart"}
    status, answer, _ = ask(gateway, "POST", "/upload/v1beta/files", body=body, headers=headers)
    file = json.loads(answer)["file"]
    assert (status, file["sizeBytes"], file["displayName"]) == (200, "5", "one")
    assert ask(gateway, "DELETE", f"/v1beta/{file['name']}")[0] == 200


def start_upload(gateway: RunningGateway, key: str = KEY, size: int = 4) -> tuple[int, str]:
    headers = {
        "content-type": "application/json",
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": str(size),
        "x-goog-upload-header-content-type": "text/plain",
    }
    status, _, told = ask(gateway, "POST", "/upload/v1beta/files", key, body=b"{}", headers=headers)
    return status, told.get("x-goog-upload-url", "")


def go_on(gateway: RunningGateway, address: str, body: bytes, command: str, offset: int = 0, key: str = "") -> Any:
    headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
    if key:
        headers["authorization"] = f"Bearer {key}"
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        connection.request("POST", address.removeprefix(gateway.address), body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_an_upload_in_parts_can_be_asked_about_and_given_up(gateway: RunningGateway, simulators: Simulators) -> None:
    status, address = start_upload(gateway, size=262_148)
    assert status == 200
    assert address.startswith(f"{gateway.address}/upload/v1beta/files?upload_id=")
    assert str(simulators["gemini"].port) not in address
    first = go_on(gateway, address, b"x" * 262_144, "upload")
    assert first.headers["x-goog-upload-status"] == "active"
    standing = go_on(gateway, address, b"", "query")
    assert standing.headers["x-goog-upload-size-received"] == "262144"
    assert go_on(gateway, address, b"", "cancel").headers["x-goog-upload-status"] == "cancelled"
    assert go_on(gateway, address, b"x", "upload, finalize").status == 404


def test_an_uploads_address_is_its_owners_and_cant_be_forged(gateway: RunningGateway) -> None:
    _, address = start_upload(gateway)
    assert go_on(gateway, address, b"four", "upload, finalize", key=OTHER_KEY).status == 404
    assert go_on(gateway, address, b"four", "upload, finalize", key="sk-pm-wrong").status == 401
    forged = address.replace("upload_id=", "upload_id=AA")
    assert go_on(gateway, forged, b"four", "upload, finalize").status == 404
    assert go_on(gateway, address, b"four", "upload, finalize").status == 200


# other people's files


def test_another_tenants_files_do_not_exist(gateway: RunningGateway, client: openai.OpenAI) -> None:
    file = client.files.create(file=NOTE, purpose="user_data")
    with openai_client(gateway, OTHER_KEY) as other:
        assert file.id not in [one.id for one in other.files.list()]
        missing = []
        for name in (file.id, "file-nobodys"):
            for call in (other.files.retrieve, other.files.content, other.files.delete):
                with pytest.raises(openai.NotFoundError) as refused:
                    call(name)
                missing.append(refused.value.message.replace(name, "NAME"))
        assert len(set(missing)) == 1
    assert client.files.retrieve(file.id).id == file.id
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        for version in ({"anthropic-version": "2023-06-01"}, {"x-goog-api-key": OTHER_KEY}, {}):
            assert ask(gateway, method, f"/v1/files/{file.id}{path}", OTHER_KEY, headers=version)[0] == 404


def test_another_tenants_anthropic_and_google_files_do_not_exist(
    gateway: RunningGateway, claude: anthropic.Anthropic, google: genai.Client
) -> None:
    theirs = claude.beta.files.upload(file=NOTE)
    stored = google.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "text/plain"})
    assert stored.name is not None
    with anthropic_client(gateway, OTHER_KEY) as other:
        assert list(other.beta.files.list()) == []
        for call in (other.beta.files.retrieve_metadata, other.beta.files.download, other.beta.files.delete):
            with pytest.raises(anthropic.NotFoundError):
                call(theirs.id)
    with google_client(gateway, OTHER_KEY) as stranger:
        assert list(stranger.files.list()) == []
        for ask_google in (stranger.files.get, stranger.files.delete):
            with pytest.raises(google_errors.ClientError) as refused:
                ask_google(name=stored.name)
            assert refused.value.code == 404
    claude.beta.files.delete(theirs.id)
    google.files.delete(name=stored.name)


def chat_body(part: str) -> bytes:
    return b'{"model":"chat/m","messages":[{"role":"user","content":[%b]}]}' % part.encode()


@pytest.mark.parametrize(
    "part",
    [
        '{"type":"file","file":{"file_id":"ID"}}',
        '{"type":"file","file":{"file\\u005fid":"ID"}}',
        '{"type":"file","file":{"\\u0066ile_i\\u0064":"ID"}}',
        '{"type":"file","file":{"file_id":"ID","file_id":"MINE"}}',
        '{"type":"file","file":{"file_id":"MINE","file_id":"ID"}}',
        '{"type":"file","type":"tool_use","input":{"file_id":"ID"},"file":{"file_id":"ID"}}',
        '{"type":"file","big":' + "9" * 5000 + ',"file":{"file_id":"ID"}}',
    ],
)
def test_a_call_cant_name_another_tenants_file_however_it_is_written(
    gateway: RunningGateway, client: openai.OpenAI, simulators: Simulators, part: str
) -> None:
    theirs = client.files.create(file=NOTE, purpose="user_data").id
    with openai_client(gateway, OTHER_KEY) as other:
        mine = other.files.create(file=NOTE, purpose="user_data").id
    simulators["openai"].log.clear()
    body = chat_body(part.replace("ID", theirs).replace("MINE", mine))
    status, answer, _ = ask(gateway, "POST", "/v1/chat/completions", OTHER_KEY, body=body)
    assert status in (400, 404), answer
    assert simulators["openai"].requests == ()


def test_tokens_of_another_tenants_file_are_not_counted(
    gateway: RunningGateway, claude: anthropic.Anthropic, google: genai.Client, simulators: Simulators
) -> None:
    file = claude.beta.files.upload(file=("a.pdf", b"%PDF-1.4", "application/pdf"))
    stored = google.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "text/plain"})
    content: Any = [{"type": "document", "source": {"type": "file", "file_id": file.id}}]
    part = types.Part.from_uri(file_uri=str(stored.uri), mime_type="text/plain")
    for name in ("anthropic", "gemini"):
        simulators[name].log.clear()
    with anthropic_client(gateway, OTHER_KEY) as other, pytest.raises(anthropic.NotFoundError):
        other.messages.count_tokens(model="claude/m", messages=[{"role": "user", "content": content}])
    with google_client(gateway, OTHER_KEY) as stranger, pytest.raises(google_errors.ClientError) as refused:
        stranger.models.count_tokens(model="google/m", contents=[part])
    assert refused.value.code == 404
    assert simulators["anthropic"].requests == simulators["gemini"].requests == ()
    claude.beta.files.delete(file.id)
    google.files.delete(name=str(stored.name))


def test_a_film_by_address_cant_be_another_tenants_google_file(
    gateway: RunningGateway, google: genai.Client, simulators: Simulators
) -> None:
    file = google.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "video/mp4"})
    part = json.dumps({"type": "video_url", "video_url": {"url": file.uri}})
    body = chat_body(part).replace(b"chat/m", b"google/m")
    simulators["gemini"].log.clear()
    assert ask(gateway, "POST", "/v1/chat/completions", OTHER_KEY, body=body)[0] == 404
    assert simulators["gemini"].requests == ()
    assert ask(gateway, "POST", "/v1/chat/completions", KEY, body=body)[0] == 200
    google.files.delete(name=str(file.name))


def test_a_stranger_learns_nothing_and_sends_no_large_body(gateway: RunningGateway) -> None:
    for method, path in (
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/x"),
        ("DELETE", "/v1/files/x"),
    ):
        assert ask(gateway, method, path, "sk-pm-wrong")[0] == 401
    assert ask(gateway, "POST", "/upload/v1beta/files", "sk-pm-wrong")[0] == 401
    status, body, _ = ask(gateway, "POST", "/v1/files", "sk-pm-wrong", body=b"x" * 200_000)
    assert (status, b"100000 bytes" in body) == (413, True)


# routing


def test_a_call_goes_to_where_its_files_are(client: openai.OpenAI, simulators: Simulators) -> None:
    file = client.files.create(file=NOTE, purpose="user_data", extra_query={"provider": "second"})
    content: Any = [{"type": "file", "file": {"file_id": file.id}}, {"type": "text", "text": "x"}]
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
    assert file.id.encode() in simulators["second"].requests[-1].body
    with pytest.raises(openai.BadRequestError, match="is at the connection 'second'"):
        client.chat.completions.create(model="chat/m", messages=[{"role": "user", "content": content}])


def test_two_connections_to_one_account_share_its_files(client: openai.OpenAI) -> None:
    file = client.files.create(file=NOTE, purpose="user_data")
    content: Any = [{"type": "input_file", "file_id": file.id}, {"type": "input_text", "text": "x"}]
    answer = client.responses.create(model="native/m", input=[{"role": "user", "content": content}])
    assert answer.status == "completed"


def test_words_that_name_no_file_pass(client: openai.OpenAI) -> None:
    call: Any = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"file_id": "doc-1"}'}}
    messages: Any = [
        {"role": "user", "content": 'the "file_id" is "doc-1"'},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"file_id": "doc-1"}'},
    ]
    tool: Any = {"type": "object", "properties": {"file_id": {"type": "string"}}}
    client.chat.completions.create(
        model="chat/m",
        messages=messages,
        metadata={"file_id": "doc-1"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": tool}}],
    )


# what can go wrong


def test_an_upload_up_to_its_own_limit_passes_and_a_larger_one_is_told_the_limit(
    client: openai.OpenAI, gateway: RunningGateway
) -> None:
    large = client.files.create(file=("a.bin", b"\x00" * 300_000), purpose="user_data")
    assert len(client.files.content(large.id).read()) == 300_000
    with pytest.raises(openai.APIStatusError, match=r"limit of 365536 bytes \(files\.max_bytes\)") as refused:
        client.files.create(file=("a.bin", b"\x00" * 400_000), purpose="user_data")
    assert refused.value.status_code == 413
    status, _, _ = ask(gateway, "POST", "/v1/chat/completions", body=b"x" * 200_000)
    assert status == 413


def test_an_upload_that_breaks_off_reaches_no_upstream(gateway: RunningGateway, simulators: Simulators) -> None:
    simulators["openai"].log.clear()
    before = len(gateway.journal.records())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as half:
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 5000\r\n\r\n"
        half.sendall(head.encode() + b"x" * 100)
    wait_until(lambda: gateway.read(lambda: gateway.server.edge.active == 0), "end")
    assert simulators["openai"].requests == ()
    assert len(gateway.journal.records()) == before


def form(content: bytes) -> bytes:
    head = 'content-disposition: form-data; name="{}"'
    return (
        f"--x\r\n{head.format('purpose')}\r\n\r\nuser_data\r\n--x\r\n{head.format('file')}; filename=a\r\n\r\n".encode()
        + content
        + b"\r\n--x--\r\n"
    )


def test_a_client_that_leaves_while_its_upload_runs_ends_it(
    client: openai.OpenAI, gateway: RunningGateway, simulators: Simulators, broken: Any
) -> None:
    before = [file.id for file in client.files.list()]
    broken("openai", "silence")
    records = len(gateway.journal.records())
    simulators["openai"].log.clear()
    body = form(b"content")
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as half:
        half.sendall(f"{head}content-type: multipart/form-data; boundary=x\r\n\r\n".encode() + body)
        simulators["openai"].wait_for_requests(1)
    simulators["openai"].wait_for_disconnect()
    [record] = wait_until(lambda: gateway.journal.records()[records:], "record")
    assert (record.operation, record.outcome, record.status) == ("files.upload", "client_closed", 499)
    broken("openai", None)
    assert [file.id for file in client.files.list()] == before


@pytest.fixture
def broken(simulators: Simulators) -> Iterator[Any]:
    """Makes an upstream fail in a way for one test."""

    def behave(name: str, fault: str | None) -> None:
        simulators[name].simulator.behaviour = Behaviour(fault=fault, headers_ms=0)

    yield behave
    for running in simulators.values():
        running.simulator.behaviour = Behaviour()


FAULTS = {
    "http_500": 502,
    "http_503": 503,
    "rate_limit": 429,
    "unauthorized": 502,
    "reset": 502,
    "close": 502,
    "html": 502,
    "malformed_json": 502,
    "error_event": 502,
    "cut_mid_stream": 502,
    "gzip": 502,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_upstream_that_fails_is_told_and_leaves_no_file(
    client: openai.OpenAI, gateway: RunningGateway, broken: Any, fault: str
) -> None:
    before = [file.id for file in client.files.list()]
    broken("openai", fault)
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=NOTE, purpose="user_data")
    assert refused.value.status_code == FAULTS[fault]
    assert UPSTREAM_KEY not in refused.value.response.text
    record = gateway.journal.the(refused.value.response.headers["x-request-id"])
    assert (record.status, record.outcome) == (FAULTS[fault], "error")
    assert [file.id for file in client.files.list()] == before


@pytest.mark.parametrize("fault", ["cut_mid_stream", "reset_mid_stream"])
def test_a_download_that_breaks_off_breaks_the_clients_connection(
    client: openai.OpenAI, gateway: RunningGateway, broken: Any, fault: str
) -> None:
    file = client.files.create(file=("a.bin", b"\x00" * 200_000), purpose="user_data")
    broken("openai", fault)
    before = len(gateway.journal.records())
    with pytest.raises((IncompleteRead, ConnectionError)):
        ask(gateway, "GET", f"/v1/files/{file.id}/content")
    [record] = wait_until(lambda: gateway.journal.records()[before:], "record")
    assert (record.operation, record.outcome) == ("files.content", "error")


def test_a_file_that_its_upstream_lost_is_gone_here_too(client: openai.OpenAI, simulators: Simulators) -> None:
    file = client.files.create(file=NOTE, purpose="user_data")
    api: Any = simulators["openai"].simulator.api
    del api._outer.files.shelf.files[file.id]
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(file.id)
    assert file.id not in [one.id for one in client.files.list()]


def test_a_files_bytes_are_never_a_page_of_this_server(client: openai.OpenAI, gateway: RunningGateway) -> None:
    file = client.files.create(file=("a.html", b"<script>", "text/html"), purpose="user_data")
    _, _, headers = ask(gateway, "GET", f"/v1/files/{file.id}/content")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"] == "sandbox"


def test_nothing_of_a_file_is_readable_in_the_data_directory(client: openai.OpenAI, gateway: RunningGateway) -> None:
    client.files.create(file=("unmistakable-name.txt", b"unmistakable-words"), purpose="user_data")
    for path in gateway.data_dir.rglob("*"):
        if path.is_file():
            assert b"unmistakable" not in path.read_bytes()
