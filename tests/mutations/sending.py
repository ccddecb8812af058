"""Sends what a mutation has made, and says what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from hpack import Decoder

from mutations.mutating import Mutation
from mutations.recording import (
    ACK,
    CALLS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Frame,
)

#: An answer that has not come by then is not coming: the server waits for bytes that were promised.
PATIENCE_SECONDS = 3.0

RESET, ENDED, WAITS = "stream reset", "connection ended", "waited for the rest"
_CODES = {str(code.value[0]).encode(): code.name for code in grpc.StatusCode}


async def send(address: str, mutation: Mutation) -> str:
    """What became of the call that was changed: the code of its answer, RESET, ENDED or WAITS."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(mutation.data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _answer(reader, writer, mutation.stream)
    except TimeoutError:
        return WAITS
    except (ConnectionError, asyncio.IncompleteReadError):
        return ENDED
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: int) -> str:
    decoder = Decoder()
    # A changed number makes it another stream's; what the other call gets is its own.
    (other,) = set(CALLS) - {stream}
    async for frame in _frames(reader):
        if frame.kind == PING and not frame.flags & ACK:
            writer.write(Frame(PING, ACK, 0, frame.payload).encode())
        elif frame.kind == SETTINGS and not frame.flags & ACK:
            writer.write(Frame(SETTINGS, ACK, 0, b"").encode())
        elif frame.kind == GOAWAY:
            return ENDED
        elif frame.kind == RST_STREAM and frame.stream != other:
            return RESET
        elif frame.kind == HEADERS:
            # Not as text: a message may have bytes of what was sent.
            headers = {bytes(name): bytes(value) for name, value in decoder.decode(frame.payload, raw=True)}
            if frame.flags & END_STREAM and frame.stream != other:
                return _CODES.get(headers.get(b"grpc-status", b""), "an answer without a code")
    return ENDED


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[Frame]:
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        yield Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
