"""Every fault, seen in the bytes of a raw socket."""

import gzip
import json
import time
import zlib

import pytest
from raw_http import KEY, Wire, chunks, read_to_end, read_until, split_head

from pointsman.testing import FAULTS, Outcome
from pointsman.testing.faults import OVERSIZED_HEADER_BYTES

DONE = b"data: [DONE]\n\n"


def ask_and_close(wire: Wire, simulate: str, **members: object) -> tuple[int, dict[str, str], bytes]:
    """A whole answer to a request on HTTP/1.0, after which the server closes by itself; for buffered answers."""
    return split_head(read_to_end(wire.ask(simulate, version="1.0", **members)))


def stream(wire: Wire, simulate: str, **members: object) -> list[bytes]:
    """The chunks of a cleanly ended stream."""
    with wire.ask(simulate, stream=True, **members) as client:
        status, headers, body = split_head(read_until(client, b"\r\n0\r\n\r\n"))
    assert status == 200
    assert headers["transfer-encoding"] == "chunked"
    return chunks(body)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limit", 429),
        ("rate_limit_bare", 429),
        ("http_500", 500),
        ("http_503", 503),
        ("unauthorized", 401),
        ("bad_request", 400),
        ("context_length", 400),
    ],
)
def test_a_refusal_is_openais_error_object_streamed_or_not(wire: Wire, fault: str, status: int, streamed: bool) -> None:
    got, headers, body = ask_and_close(wire, f"fault={fault}", stream=streamed)
    assert got == status
    assert headers["content-type"] == "application/json"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    received = wire.simulator.wait_for(Outcome.COMPLETED)
    assert (received.fault, received.status) == (fault, status)


def test_a_rate_limit_says_when_to_come_back_and_a_bare_one_gives_no_hint(wire: Wire) -> None:
    _, headers, body = ask_and_close(wire, "fault=rate_limit;retry_after=20")
    assert headers["retry-after"] == "20"
    assert headers["retry-after-ms"] == "20000"
    assert b"try again in 20s" in body
    _, headers, body = ask_and_close(wire, "fault=rate_limit_bare")
    assert not [name for name in headers if name.startswith(("retry-after", "x-ratelimit"))]
    assert b"try again" not in body


def test_an_unauthorized_body_leaks_both_ends_of_the_key(wire: Wire) -> None:
    _, _, body = ask_and_close(wire, "fault=unauthorized")
    message = json.loads(body)["error"]["message"]
    assert KEY[:7] in message
    assert KEY[-4:] in message
    assert KEY not in message


def test_reset_is_a_rst_before_any_byte(wire: Wire) -> None:
    with wire.ask("fault=reset") as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    assert wire.simulator.wait_for(Outcome.FAULT).status == 0


def test_close_is_a_fin_before_any_byte(wire: Wire) -> None:
    assert read_to_end(wire.ask("fault=close")) == b""
    assert wire.simulator.wait_for(Outcome.FAULT).sent_bytes == 0


def test_silence_keeps_the_connection_open_and_says_nothing(wire: Wire) -> None:
    with wire.ask("fault=silence") as client:
        wire.simulator.wait_for_requests(1)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert wire.simulator.requests[0].outcome is None
    assert wire.simulator.wait_for_disconnect().sent_bytes == 0


def test_slow_headers_come_late_and_are_otherwise_sound(wire: Wire) -> None:
    begun = time.monotonic()
    status, _, _ = ask_and_close(wire, "fault=slow_headers;headers_ms=80")
    assert status == 200
    assert time.monotonic() - begun >= 0.079


def test_a_stall_leaves_the_stream_open_after_k_events(wire: Wire) -> None:
    with wire.ask("fault=stall;after_events=2", stream=True) as client:
        received = read_until(client, b"echo:")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert received.count(b"data: ") == 2
    assert wire.simulator.wait_for_disconnect().fault == "stall"


def test_a_stalled_body_stops_at_its_half(wire: Wire) -> None:
    with wire.ask("fault=stall") as client:
        _, headers, body = split_head(read_until(client, b'"choices"'))
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert len(body) == int(headers["content-length"]) // 2


def test_a_cut_stream_ends_after_k_events_without_last_chunk(wire: Wire) -> None:
    _, _, body = split_head(read_to_end(wire.ask("fault=cut_mid_stream;after_events=2", stream=True)))
    assert len(chunks(body)) == 2
    assert chunks(body)[-1] != b""
    assert wire.simulator.wait_for(Outcome.FAULT).fault == "cut_mid_stream"


def test_a_cut_body_is_shorter_than_its_content_length(wire: Wire) -> None:
    _, headers, body = split_head(read_to_end(wire.ask("fault=cut_mid_stream")))
    assert len(body) == int(headers["content-length"]) // 2


def test_a_reset_in_mid_stream_is_a_rst_after_the_events(wire: Wire) -> None:
    with pytest.raises(ConnectionResetError):
        read_to_end(wire.ask("fault=reset_mid_stream;after_events=2", stream=True))
    assert wire.simulator.wait_for(Outcome.FAULT).sent_bytes > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("at_byte", [0, 1, 17, 400, 900, 1100])
def test_the_response_ends_at_exactly_the_byte_asked_for(wire: Wire, at_byte: int, streamed: bool) -> None:
    received = read_to_end(wire.ask(f"fault=cut_at_byte;at_byte={at_byte}", stream=streamed))
    assert len(received) == at_byte
    assert wire.simulator.wait_for(Outcome.FAULT).sent_bytes == at_byte


@pytest.mark.parametrize("streamed", [False, True])
def test_a_malformed_chunk_breaks_the_http_framing(wire: Wire, streamed: bool) -> None:
    _, headers, body = split_head(read_to_end(wire.ask("fault=malformed_chunk;after_events=2", stream=streamed)))
    assert headers["transfer-encoding"] == "chunked"
    sound, _, _ = body.partition(b"not-a-size\r\n")
    assert len(chunks(sound)) == (2 if streamed else 1)
    with pytest.raises(ValueError, match="not-a-size"):
        chunks(body)


def test_malformed_json_breaks_one_event_and_no_framing(wire: Wire) -> None:
    *events, last = stream(wire, "fault=malformed_json;after_events=1")
    broken = [event for event in events if not _is_json(event)]
    assert broken == [events[1]]
    assert broken[0].endswith(b"\n\n")
    assert (events[-1], last) == (DONE, b"")
    _, headers, body = ask_and_close(wire, "fault=malformed_json")
    assert int(headers["content-length"]) == len(body)
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_a_missing_terminator_is_a_clean_http_end_without_finish(wire: Wire) -> None:
    *events, last = stream(wire, "fault=missing_terminator", stream_options={"include_usage": True})
    assert last == b""
    assert b'"content":" three"' in events[-1]
    assert not any(b'"finish_reason":"' in event or b'"prompt_tokens"' in event for event in events)
    with wire.ask("fault=missing_terminator") as client:
        _, _, body = split_head(read_until(client, b"\r\n0\r\n\r\n"))
    assert not _is_json(b"data: " + b"".join(chunks(body)))


def test_a_missing_done_lacks_nothing_else(wire: Wire) -> None:
    *events, _ = stream(wire, "fault=missing_done")
    assert b'"finish_reason":"stop"' in events[-1]


def test_an_error_event_is_the_last_one(wire: Wire) -> None:
    *events, _ = stream(wire, "fault=error_event;after_events=2")
    assert len(events) == 3
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["type"] == "server_error"
    status, _, body = ask_and_close(wire, "fault=error_event")
    assert status == 200
    assert json.loads(body)["error"]["type"] == "server_error"


@pytest.mark.parametrize("streamed", [False, True])
def test_oversized_headers_are_one_header_of_200_kb(wire: Wire, streamed: bool) -> None:
    _, headers, _ = ask_and_close(wire, "fault=oversized_headers", stream=streamed)
    assert len(headers["x-oversized"]) == OVERSIZED_HEADER_BYTES


def test_gzip_is_sent_although_nobody_asked(wire: Wire) -> None:
    _, headers, body = ask_and_close(wire, "fault=gzip")
    assert headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["object"] == "chat.completion"
    first, *rest = stream(wire, "fault=gzip")
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(first).startswith(b'data: {"id"')  # each event can be read when it comes
    assert unpacker.decompress(b"".join(rest)).endswith(DONE)
    assert unpacker.eof


@pytest.mark.parametrize("streamed", [False, True])
def test_html_is_a_page_with_status_200(wire: Wire, streamed: bool) -> None:
    status, headers, body = ask_and_close(wire, "fault=html", stream=streamed)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("directive", ["fault=no_usage", "usage=none"])
def test_usage_can_be_left_out(wire: Wire, directive: str) -> None:
    assert b'"usage"' not in ask_and_close(wire, directive)[2]
    assert not any(
        b"prompt_tokens" in event for event in stream(wire, directive, stream_options={"include_usage": True})
    )


def test_wrong_usage_contradicts_itself(wire: Wire) -> None:
    usage = json.loads(ask_and_close(wire, "fault=wrong_usage")[2])["usage"]
    assert usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"]


def test_usage_can_be_set(wire: Wire) -> None:
    directives = "prompt_tokens=1000;cached_tokens=400;reasoning_tokens=50;tokens=10"
    usage = json.loads(ask_and_close(wire, directives)[2])["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1000, 60, 1060)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 400
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 50


def test_fail_first_fails_n_times_per_model_and_fault(wire: Wire) -> None:
    def statuses(model: str) -> list[int]:
        return [ask_and_close(wire, "fault=http_500;fail_first=2", model=model)[0] for _ in range(4)]

    assert statuses("flaky-a") == [500, 500, 200, 200]
    assert statuses("flaky-b") == [500, 500, 200, 200]
    assert ask_and_close(wire, "fault=http_503;fail_first=1", model="flaky-a")[0] == 503


def test_no_fault_makes_the_server_deaf_for_the_next_client(wire: Wire) -> None:
    for name in FAULTS:
        with wire.ask(f"fault={name};headers_ms=1;after_events=1", stream=True) as client:
            wire.simulator.wait_for_requests(1)
            client.settimeout(0)
        assert ask_and_close(wire, "")[0] == 200
        wire.simulator.log.clear()


def _is_json(event: bytes) -> bool:
    data = event.removeprefix(b"data: ").strip()
    try:
        json.loads(data)
    except ValueError:
        return data == b"[DONE]"
    return True
