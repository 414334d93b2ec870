"""Forms are read within bounds, and come out as they went in."""

from typing import NoReturn

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.passed import Form, FormPart
from pointsman.errors import GatewayError
from pointsman.testing.forms import parse_form as independent_parse
from pointsman.wire.multipart import content_type_of, parse_form, with_field, write_form

FILE = ("speech.mp3", bytes(range(256)) + b"\r\n--\r\n", "audio/mpeg")


def sent_by_httpx(files: dict[str, object], data: dict[str, str]) -> tuple[bytes, bytes]:
    request = httpx.Request("POST", "http://x", files=files, data=data)  # type: ignore[arg-type]
    return request.headers["content-type"].encode(), request.read()


def test_a_form_of_a_real_client_is_read() -> None:
    content_type, body = sent_by_httpx({"file": FILE}, {"model": "whisper-1", "prompt": "naïve"})
    form = parse_form(content_type, body)
    assert [(part.name, part.filename) for part in form.parts] == [
        ("model", None),
        ("prompt", None),
        ("file", "speech.mp3"),
    ]
    assert form.parts[2].content == FILE[1]
    assert form.parts[1].content.decode() == "naïve"


def test_a_field_is_replaced_and_the_rest_stays() -> None:
    content_type, body = sent_by_httpx({"file": FILE}, {"model": "a/whisper", "language": "de"})
    changed = with_field(parse_form(content_type, body), "model", "whisper-1")
    read = independent_parse(content_type_of(changed), write_form(changed))
    assert read is not None
    assert {part.name: part.content for part in read.parts} == {
        "model": b"whisper-1",
        "language": b"de",
        "file": FILE[1],
    }
    assert read.files("file")[0].filename == "speech.mp3"
    assert read.files("file")[0].content_type == "audio/mpeg"


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z_]{1,12}(\[\])?", fullmatch=True), st.booleans(), st.binary(max_size=300)),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_written_is_read_again(parts: list[tuple[str, bool, bytes]]) -> None:
    fields = [
        FormPart(
            name=name,
            filename="f.bin" if is_file else None,
            headers=(("Content-Disposition", f'form-data; name="{name}"' + ('; filename="f.bin"' if is_file else "")),),
            content=content,
        )
        for name, is_file, content in parts
    ]
    form = Form(boundary="a-boundary-that-nobody-guesses-0123456789", parts=tuple(fields))
    if any(form.boundary.encode() in part.content for part in form.parts):
        return
    assert parse_form(content_type_of(form).encode(), write_form(form)) == form


@given(st.binary(max_size=400), st.sampled_from([b"x", b"boundary", b"--"]))
def test_only_our_errors_come_out(noise: bytes, boundary: bytes) -> None:
    for body in (noise, b"--%b\r\n%b\r\n--%b--\r\n" % (boundary, noise, boundary)):
        try:
            parse_form(b"multipart/form-data; boundary=%b" % boundary, body)
        except GatewayError:
            pass


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/mixed; boundary=x",
        b"multipart/form-data; boundary=" + b"x" * 71,
        b'multipart/form-data; boundary="x "',
        b'multipart/form-data; boundary="x\xe9"',
        b'multipart/form-data; boundary="x;y"',
        b'multipart/form-data; boundary="x\ry"',
    ],
)
def test_what_is_no_form_is_refused_by_its_type(content_type: bytes) -> None:
    """Although the body is a whole form of the boundary that the type names."""
    boundary = content_type.decode("latin-1").partition("boundary=")[2].strip('"').encode()
    body = b'--%b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--%b--' % (boundary, boundary)
    with pytest.raises(GatewayError) as refused:
        parse_form(content_type, body)
    assert refused.value.param == "content-type"


def test_too_many_parts_are_refused_at_the_first_too_many() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    for rest in (part * 100_000 + b"--b--", b"--b\r\nwhat comes behind is not read"):
        with pytest.raises(GatewayError, match="more than 128 parts"):
            parse_form(b"multipart/form-data; boundary=b", part * 128 + rest)
    assert len(parse_form(b"multipart/form-data; boundary=b", part * 128 + b"--b--").parts) == 128


def test_a_huge_header_and_a_huge_field_are_refused() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="a"\r\n'
    with pytest.raises(GatewayError, match="headers are too large"):
        parse_form(b"multipart/form-data; boundary=b", head + b"X-A: " + b"y" * 9000 + b"\r\n\r\n1\r\n--b--")
    with pytest.raises(GatewayError, match="a field of the form"):
        parse_form(b"multipart/form-data; boundary=b", head + b"\r\n" + b"y" * (1 << 20) + b"y\r\n--b--")


def test_many_headers_of_a_part_and_a_header_with_a_line_break_are_refused() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="a"\r\n'
    few = head + b"X-A: y\r\n" * 7 + b"\r\n1\r\n--b--"
    assert len(parse_form(b"multipart/form-data; boundary=b", few).parts[0].headers) == 8
    for lines in (b"X-A: y\r\n" * 8, b"X-A: y\r\n z\r\n", b"X-A: y\rX-B: z\r\n", b"X-A: y\nX-B: z\r\n"):
        with pytest.raises(GatewayError):
            parse_form(b"multipart/form-data; boundary=b", head + lines + b"\r\n1\r\n--b--")


def no_file(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a file was opened for a form")


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "..\\x", "C:\\x", "a\u202eb", 'a"; filename="b', "a\r\nContent-Type: x/y"]
)
def test_the_name_of_a_file_is_a_word_and_no_file_is_opened_for_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms live in memory: a name is carried to the upstream as it came, and nothing here is called by it."""
    content_type, body = sent_by_httpx({"file": (name, FILE[1], "text/plain")}, {"model": "m"})
    parse_form(*sent_by_httpx({"file": FILE}, {}))  # the first form imports its parser
    for place in ("builtins.open", "io.open", "os.open"):
        monkeypatch.setattr(place, no_file)
    sent = write_form(with_field(parse_form(content_type, body), "model", "n"))
    monkeypatch.undo()
    before, after = (independent_parse(content_type.decode(), one) for one in (body, sent))
    assert before is not None
    assert after is not None
    assert after.files("file") == before.files("file")
    assert [part.name for part in after.parts] == ["model", "file"]


@pytest.mark.parametrize(
    "disposition",
    [
        b'form-data; name="model"; name="x"',
        b'form-data; name="x"; name="model"',
        b'form-data; name="x"; Name = model',
        b"form-data; name=\"x\"; name*=UTF-8''model",
        b'form-data; name="x"; name*0="mod"; name*1="el"',
        b'form-data; name="x\\"; filename="; name=model; x="',
        b'form-data; name="file"; filename="; name=model"',
        b'form-data; name="x"\r\nContent-Disposition: form-data; name="model"',
        b'form-data; name="model"\r\ncontent-disposition: form-data; name="x"',
    ],
)
def test_a_part_that_other_readers_may_call_otherwise_is_refused(disposition: bytes) -> None:
    body = b"--b\r\nContent-Disposition: %b\r\n\r\n1\r\n--b--\r\n" % disposition
    with pytest.raises(GatewayError, match="two names"):
        parse_form(b"multipart/form-data; boundary=b", body)


@pytest.mark.parametrize("name", ["my name=Bob.wav", "export?name=x.png", "a; nickname=b.txt"])
def test_a_file_may_have_the_word_in_its_name(name: str) -> None:
    form = parse_form(*sent_by_httpx({"file": (name, b"1", "audio/wav")}, {"model": "m"}))
    assert [part.filename for part in form.parts if part.name == "file"] == [name]


@pytest.mark.parametrize("cut", [1, 5, 40, 60])
def test_a_truncated_form_is_refused(cut: int) -> None:
    content_type, body = sent_by_httpx({"file": FILE}, {"model": "m"})
    with pytest.raises(GatewayError, match="not a whole multipart form"):
        parse_form(content_type, body[:-cut] if cut > 4 else body[: -cut - 3])


def test_a_model_that_holds_the_boundary_is_refused() -> None:
    form = Form(boundary="m", parts=())
    with pytest.raises(GatewayError, match="boundary"):
        with_field(form, "model", "my-model")
