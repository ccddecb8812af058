"""An HTTP server that answers as it is told, byte by byte: what no honest one would send."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


def said(data: bytes) -> Answer:
    """Sends this, and closes."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


def dripped(head: bytes, drop: bytes) -> Answer:
    """Sends `head`, and then `drop` again and again, each of them well within any timeout of one read."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    return answer


def with_body(body: bytes, *headers: bytes) -> bytes:
    """An honest answer with this body."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return OK + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def evil_server(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on loopback: its URL, and the heads of the requests that it has got."""
    heads: list[bytes] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # whoever asked has gone, or the test has ended
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", heads
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def packed(coding: str, pieces: list[bytes]) -> bytes:
    """These, one after the other, packed."""
    windows = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS, "raw": -zlib.MAX_WBITS}
    packer = zlib.compressobj(9, zlib.DEFLATED, windows[coding])
    return b"".join([*map(packer.compress, pieces), packer.flush()])


def bomb(coding: str, layers: int, megabytes: int = 64) -> bytes:
    """That many megabytes of zeros, packed again and again."""
    data = packed(coding, [bytes(1024 * 1024)] * megabytes)
    for _ in range(layers - 1):
        data = packed(coding, [data])
    return data


def hollow_bomb(megabytes: int = 64) -> bytes:
    """Gzip in gzip: that many megabytes are the name of a file, and its content is nothing at all."""
    name = b"\x1f\x8b\x08\x08" + bytes(6)
    return packed("gzip", [name, *([b"n" * (1024 * 1024)] * megabytes)])
