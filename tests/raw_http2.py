"""A client that writes HTTP/2 frames itself: it sends what no library of gRPC would."""

from __future__ import annotations

import socket
import struct
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
#: Bytes that are not UTF-8, or that no method's name holds.
BAD_PATHS = (
    b"/taskservice.TaskService/\xff",
    b"\xff\xfe",
    b"/\xc3\x28/Create",
    b"/\xed\xa0\x80/surrogate",
    b"/\xc0\xaf/overlong",
    b"/taskservice.TaskService/CreateTask\x80",
    b"/taskservice.TaskService/\xf0\x9f\x98",
    b"/" + bytes(range(128, 240)),
    b"",
    b"no slash",
    b"//",
    b"/taskservice.TaskService/None",
)


class RawConnection:
    """One connection. `call` sends a call and returns whether its stream was ended by the server."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._file = self._socket.makefile("rb")
        self._stream = -1
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def call(self, path: bytes) -> bool:
        """False when the connection was closed instead."""
        try:
            self._socket.sendall(self._request(path))
            return self._wait_for_end()
        except ConnectionError:
            return False

    def begin_and_reset(self, path: bytes, count: int) -> bool:
        """Begins calls and resets each at once; False when the connection was closed meanwhile."""
        reset = b"\0\0\0\x08"
        frames = [self._request(path) + _frame(_RST_STREAM, 0, self._stream, reset) for _ in range(count)]
        try:
            self._socket.sendall(b"".join(frames))
        except ConnectionError:
            return False
        return True

    def wait_until_closed(self) -> None:
        """Returns when the server takes no more calls on this connection, or has closed it."""
        self._wait_for_end()

    def _request(self, path: bytes) -> bytes:
        """The frames of a call without content, on a stream of its own."""
        self._stream += 2
        headers = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": path,
            b":authority": b"localhost",
            b"te": b"trailers",
            b"content-type": b"application/grpc",
        }
        block = b"".join(_literal(name, value) for name, value in headers.items())
        return _frame(_HEADERS, _END_HEADERS, self._stream, block) + _frame(
            _DATA, _END_STREAM, self._stream, b"\0" * 5
        )

    def _wait_for_end(self) -> bool:
        while len(head := self._file.read(9)) == 9:
            length = int.from_bytes(head[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            body = self._file.read(length)
            if kind == _GOAWAY:
                return False
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._socket.sendall(_frame(kind, _ACK, 0, body if kind == _PING else b""))
            if stream == self._stream and (kind == _RST_STREAM or flags & _END_STREAM):
                return True
        return False

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + body


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field as HPACK has it: neither indexed nor compressed."""
    assert len(name) < 127
    assert len(value) < 127
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
