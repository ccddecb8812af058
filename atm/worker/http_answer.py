"""What http_request takes from an answer: a bounded part of its body, as text."""

from __future__ import annotations

import codecs

import h11
import httpx

from atm.errors import NonRetryableError
from atm.worker.unpacking import Unpacker

#: The most of an answer that becomes part of the result, in bytes.
MAX_BODY = 256 * 1024
#: Python's, that no server means: names of hosts, and literals. Some of them take for ever.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})


class HttpAnswerError(NonRetryableError):
    """The answer is not HTTP, or not what its headers say: another request gets another like it."""


async def read_body(response: httpx.Response) -> tuple[bytes, bool]:
    """The first MAX_BODY bytes, unpacked, and whether there are more. Closes the answer.

    Raises UnpackError, and what reading from a connection raises.
    """
    try:
        unpacker = Unpacker(response.headers.get_list("content-encoding", split_commas=True))
        body = bytearray()
        async for chunk in response.aiter_raw():
            for piece in unpacker.feed(chunk):
                body += piece
                if len(body) > MAX_BODY:
                    return bytes(body[:MAX_BODY]), True
        return bytes(body), False
    finally:
        await response.aclose()


def text_of_body(body: bytes, charset: str | None) -> str:
    """The body in the charset that the answer names; in UTF-8 where nobody knows that."""
    try:
        name = codecs.lookup(charset or "utf-8").name.replace("-", "_")
        if name not in _NO_CHARSETS:
            return body.decode(name, "replace")
    except (LookupError, ValueError):
        pass  # not known, not for text, or with characters that no name has
    return body.decode("utf-8", "replace")


def lie_in(error: httpx.RemoteProtocolError) -> HttpAnswerError | None:
    """What to raise for an answer that breaks HTTP; None where its connection only ended too early.

    A server that is restarted ends connections before the answer, or between
    its chunks. An end before the Content-Length is a wrong length.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, h11.RemoteProtocolError):
        # httpcore raises what it has raised again, "from None".
        cause = cause.__cause__ or cause.__context__
    if cause is None or "incomplete chunked read" in str(cause):
        return None
    return HttpAnswerError(f"the answer is not what its headers say, or not HTTP: {cause}")
