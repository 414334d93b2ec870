"""Which files a request names, read as suspiciously as an attacker would have it read otherwise."""

import json
from typing import Any

import pytest

from pointsman.errors import GatewayError
from pointsman.wire.file_references import gemini_file, may_name_files, named_files


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
        {"type": "container_upload", "file_id": "file-1"},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "file", "file_id": "file-1"}}]},
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}},
    ],
)
def test_every_place_of_a_file_is_found(part: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()
    assert may_name_files(body)
    assert named_files(body, "openai.chat") == ("file-1",)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "doc"}},
        {"type": "function", "function": {"name": "f", "parameters": {"default": {"file_id": "doc"}}}},
        {"type": "output_text", "text": "x", "annotations": [{"type": "file_citation", "file_id": "doc"}]},
        {"type": "code_execution_output", "file_id": "doc"},
        {"type": "file_search_call", "results": [{"file_id": "doc"}]},
    ],
)
def test_free_words_name_no_file(part: dict[str, Any]) -> None:
    assert named_files(json.dumps({"content": [part]}).encode(), "anthropic") == ()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"file_id":"a","file_id":"b"}', {"a", "b"}),
        (b'{"\\u0066ile_id":"a"}', {"a"}),
        (b'{"fil\\u0065\\u005Fid":"a"}', {"a"}),
        (b'{"type":"tool_use","type":"x","input":{"file_id":"a"}}', {"a"}),
        (b'{"n":' + b"9" * 6000 + b',"file_id":"a"}', {"a"}),
        (b' \n[{"file_id":"a"}]', {"a"}),
    ],
)
def test_no_spelling_hides_a_file(body: bytes, found: set[str]) -> None:
    assert may_name_files(body)
    assert set(named_files(body, "openai.chat")) == found


@pytest.mark.parametrize("body", [b'{"file_id":"a"', b'{"file_id":"\xff"}', b'{"file_id":' + b"[" * 100_000])
def test_what_cant_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError):
        named_files(body, "openai.chat")


def test_a_form_and_an_ordinary_body_name_none() -> None:
    assert named_files(b'--x\r\ncontent-disposition: form-data; name="file_id"\r\n\r\nx\r\n--x--', "openai") == ()
    assert not may_name_files(b'{"messages":[{"content":"caf\\u00e9 \\u0041 file_path"}]}')
    assert not may_name_files(b'{"fileData":{}}')


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/files/abc-1", "abc-1"),
        ("https://GenerativeLanguage.googleapis.com:443/v1beta/files/abc", "abc"),
        ("http://generativelanguage.googleapis.com/v1beta/%66iles/abc?alt=media", "abc"),
        ("//generativelanguage.googleapis.com/v1beta/files/abc", "abc"),
        (" https://generativelanguage.googleapis.com/v1beta/files/abc:download", "abc"),
        ("https://gateway.example/v1beta/files/abc", "abc"),
        ("files/abc", "abc"),
        ("https://generativelanguage.googleapis.com/other", "https://generativelanguage.googleapis.com/other"),
        ("gs://bucket/files/abc", None),
        ("https://www.youtube.com/watch?v=files/abc", None),
        ("https://example.org/files/report.pdf", None),
    ],
)
def test_addresses_of_google_files_are_told_from_others(address: str, found: str | None) -> None:
    assert gemini_file(address) == found
