"""http_request, whatever the other side does: bounded in memory and time, tried again where that may help."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from evil_http import OK, Answer, bomb, dripped, evil_server, hollow_bomb, packed, said, with_body
from fake_worker import claimed, task_id
from hypothesis import given
from hypothesis import strategies as st

from atm.errors import NonRetryableError
from atm.worker.builtin import HttpRequest, http_request
from atm.worker.context import Context
from atm.worker.http_answer import MAX_BODY, HttpAnswerError, text_of_body
from atm.worker.http_request import HttpRefusedError, HttpStatusError, HttpTimeoutError
from atm.worker.log_buffer import LogBuffer
from atm.worker.payloads import encode_result
from atm.worker.public_transport import ForbiddenAddressError, PublicTransport
from atm.worker.unpacking import MAX_LAYERS, MAX_UNPACKED, Unpacker, UnpackError

#: What a call may take at the most, in bytes: its result several times over, and httpx.
MEMORY = 24 * 1024 * 1024


@pytest.fixture(autouse=True)
def _private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATM_HTTP_ALLOW_PRIVATE", "true")


async def _request(url: str, **fields: Any) -> dict[str, Any]:
    context = Context(claimed(task_id()), LogBuffer())
    result: dict[str, Any] = await http_request(context, HttpRequest(url=url, **fields))
    return result


async def _answered(answer: Answer | bytes, **fields: Any) -> dict[str, Any]:
    async with evil_server(said(answer) if isinstance(answer, bytes) else answer) as (url, _):
        return await _request(url, **fields)


@contextlib.contextmanager
def _measured() -> Iterator[None]:
    """Fails when what is done meanwhile takes more than MEMORY at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


# -- bodies -------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("layers", [1, 2, 3])
async def test_a_body_is_bounded_as_it_unpacks(coding: str, layers: int) -> None:
    body = bomb(coding, layers)
    header = b"Content-Encoding: " + ", ".join([coding] * layers).encode()
    with _measured():
        result = await _answered(with_body(body, header))
    assert (result["body"], result["truncated"]) == ("\0" * MAX_BODY, True)


async def test_a_body_that_unpacks_to_nothing_is_bounded_too() -> None:
    body = with_body(hollow_bomb(), b"Content-Encoding: gzip, gzip")
    with _measured(), pytest.raises(UnpackError, match=f"more than {MAX_UNPACKED} bytes"):
        await _answered(body)


async def test_a_body_is_packed_a_few_times_only() -> None:
    header = b"Content-Encoding: " + b", ".join([b"gzip"] * (MAX_LAYERS + 1))
    with pytest.raises(UnpackError, match=f"more than {MAX_LAYERS} times"):
        await _answered(with_body(b"x", header))


async def test_a_body_that_is_not_what_it_says_is_not_asked_for_again() -> None:
    with pytest.raises(UnpackError, match="not gzip"):
        await _answered(with_body(b"abcde", b"Content-Encoding: gzip"))


async def test_a_coding_that_was_not_asked_for_stays_as_it_is() -> None:
    async with evil_server(said(with_body(b"as it is", b"Content-Encoding: br"))) as (url, heads):
        assert (await _request(url))["body"] == "as it is"
    assert b"accept-encoding: gzip, deflate\r\n" in heads[0].lower()


async def test_an_endless_body_is_read_up_to_its_bound() -> None:
    result = await _answered(dripped(OK + b"\r\n", b"x" * MAX_BODY))
    assert (len(result["body"]), result["truncated"]) == (MAX_BODY, True)


@given(
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(st.sampled_from(["gzip", "deflate", "raw"]), max_size=MAX_LAYERS),
    st.integers(1, 50),
)
def test_what_is_packed_honestly_unpacks_to_itself(
    pieces: list[bytes], codings: list[str], step: int
) -> None:
    body = data = b"".join(pieces) * 50
    for coding in codings:
        data = packed(coding, [data])
    unpacker = Unpacker([coding.replace("raw", "deflate") for coding in codings])
    parts = (data[start : start + step] for start in range(0, len(data), step))
    assert b"".join(piece for part in parts for piece in unpacker.feed(part)) == body


@given(st.binary(max_size=2000), st.lists(st.sampled_from(["gzip", "deflate"]), min_size=1, max_size=3))
def test_any_bytes_unpack_or_are_refused(data: bytes, codings: list[str]) -> None:
    try:
        unpacked = sum(map(len, Unpacker(codings).feed(data)))
    except UnpackError:
        return
    assert unpacked <= MAX_UNPACKED


@pytest.mark.parametrize(
    "charset",
    [
        *("zlib_codec", "idna", "punycode", "unicode_escape", "raw-unicode-escape", "undefined", "rot13"),
        *("a\0b", "", "x" * 10_000, "utf-8\n", "hex", "latin-1", "utf-16", "utf-7"),
    ],
)
@pytest.mark.parametrize("body", [b"xn--\xff\xfe", b"\\ud800", b"a-" * 100_000, b"\xff" * MAX_BODY])
def test_a_body_is_text_in_any_charset(charset: str, body: bytes) -> None:
    encode_result({"body": text_of_body(body, charset)})


# -- time ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b""),
        (OK, b"x"),
        (OK, b"X-More: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"\r\n", b"x"),
        (OK + b"Content-Length: 100000\r\n\r\n", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + packed("gzip", [])[:10], b"\0\0\0\xff\xff"),
    ],
    ids=["silence", "status line", "headers", "informational", "body", "length", "chunks", "packed nothing"],
)
async def test_the_timeout_is_for_the_whole_request(head: bytes, drop: bytes) -> None:
    with pytest.raises(HttpTimeoutError, match=r"GET http.* took longer than 0.7 s"):
        await _answered(dripped(head, drop), timeout=0.7)


async def test_the_timeout_is_for_connecting_and_for_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATM_HTTP_ALLOW_PRIVATE", "false")

    async def for_ever(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", for_ever)
    with pytest.raises(HttpTimeoutError):
        await _request("http://slow.test/", timeout=0.1)


async def test_a_cancelled_request_is_no_timeout() -> None:
    async with evil_server(dripped(b"", b"")) as (url, heads):
        request = asyncio.ensure_future(_request(url))
        while not heads:
            await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request


# -- what is tried again --------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 10\r\n\r\nshort",
        OK + b"Content-Length: many\r\n\r\nx",
        OK + b"Content-Length: -1\r\n\r\nx",
        OK + b"Content-Length: 1e3\r\n\r\nx",
        OK + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\nx",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        OK + b"Content-Length: 1, 2\r\n\r\nxx",
        OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffffff\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nnumber\r\nabc",
        OK + b"X: y\r\n" * 20_000,
        b"\0\xff" * 5000,
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:60]),
)
async def test_an_answer_that_lies_is_not_asked_for_again(answer: bytes) -> None:
    with pytest.raises(HttpAnswerError, match="the answer is not what its headers say"):
        await _answered(answer)


@pytest.mark.parametrize("length", [b"Content-Length: 2\r\n", b"Content-Length: 2\r\nContent-Length: 2\r\n"])
async def test_what_follows_the_length_that_was_said_is_no_part_of_the_body(length: bytes) -> None:
    assert (await _answered(OK + length + b"\r\nabcdef"))["body"] == "ab"


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 2", OK + b"X: y\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
    ids=["nothing", "half a line", "half a head", "half the chunks"],
)
async def test_a_connection_that_ends_too_early_is_made_again(answer: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await _answered(answer)


async def test_a_redirect_is_an_answer_like_others_and_followed_nowhere() -> None:
    location = b"Location: http://169.254.169.254/"
    result = await _answered(b"HTTP/1.1 302 Found\r\n" + location + b"\r\nContent-Length: 0\r\n\r\n")
    assert (result["status"], result["headers"]["location"]) == (302, "http://169.254.169.254/")


async def test_a_status_of_400_or_more_may_be_asked_for_again() -> None:
    with pytest.raises(HttpStatusError, match="answered 503: later") as raised:
        await _answered(with_body(b"later").replace(b"200 OK", b"503 No"))
    assert not isinstance(raised.value, NonRetryableError)


@pytest.mark.parametrize(
    "url",
    [
        *("", "8.8.8.8", "//8.8.8.8/", "http://", "http:///x", "file:///etc/passwd", "ftp://8.8.8.8/"),
        *(
            "unix:///var/x",
            "http://8.8.8.8:0/",
            "http://8.8.8.8:99999/",
            "http://8.8.8.8:-1/",
            "http://[8.8.8.8]/",
        ),
        *("http://xn--/", "http://8.8.8.8\0/", "http://8.8.8.8/\r\nX: y"),
        *("http://①②⑦.⓪.⓪.①/", "http://0177.0.0.1/", "http://[::1", "http://a:b:c/"),
    ],
)
async def test_a_url_that_cannot_be_requested_is_refused_at_once(url: str) -> None:
    with pytest.raises(HttpRefusedError, match="cannot be requested"):
        await _request(url)


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"": "x"}, {"ä": "x"}, {"a": "\0"}])
async def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(HttpRefusedError):
        await _answered(with_body(b""), headers=headers)


# -- addresses ----------------------------------------------------------------


class _Reached(httpx.AsyncBaseTransport):
    """Where a connection would be made to."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        return httpx.Response(200, request=request)


async def _reach(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Where a request goes to whose name has these addresses, each time that somebody asks."""
    left = list(answers)

    async def resolve(*_: Any, **__: Any) -> Any:
        return [(0, 0, 0, "", (address, 0)) for address in (left.pop(0) if len(left) > 1 else left[0])]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    reached = _Reached()
    async with httpx.AsyncClient(transport=PublicTransport(reached)) as client:
        await client.get("http://name.test/")
    return reached.hosts


async def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await _reach(monkeypatch, ["8.8.8.8"], ["127.0.0.1"]) == ["8.8.8.8"]


@pytest.mark.parametrize("second", ["127.0.0.1", "64:ff9b::a9fe:a9fe", "fec0::1", "fe80::1%eth0"])
async def test_a_name_with_any_address_of_the_inside_is_refused(
    monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    with pytest.raises(ForbiddenAddressError, match="not public"):
        await _reach(monkeypatch, ["8.8.8.8", second])
