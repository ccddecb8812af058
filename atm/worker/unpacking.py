"""Unpacks the body of an HTTP answer, piece by piece: what it could become never fills the memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from atm.errors import NonRetryableError

#: How many codings a body may be packed in, one around the other.
MAX_LAYERS = 4
#: The most bytes that may go into or come out of any of them, together: a body can unpack to next to
#: nothing by way of gigabytes.
MAX_UNPACKED = 4 * 1024 * 1024
#: How much one layer gives to the next at a time, in bytes.
_PIECE = 64 * 1024
#: What a client of this module asks for, as the value of Accept-Encoding.
ACCEPTED = "gzip, deflate"


class UnpackError(NonRetryableError):
    """The body cannot be unpacked, or not within bounds."""


class Unpacker:
    """The codings of one body, outermost last, as in Content-Encoding.

    One that is not known ends the unpacking: what is inside of it stays as it is.
    """

    def __init__(self, codings: Sequence[str]) -> None:
        self._layers: list[_Layer] = []
        self._spent = 0
        for coding in reversed([coding.strip().lower() for coding in codings]):
            if coding in ("", "identity"):
                continue
            if coding not in _WINDOWS:
                break
            if len(self._layers) == MAX_LAYERS:
                raise UnpackError(f"the answer's body is packed more than {MAX_LAYERS} times")
            self._layers.append(_Layer(coding))

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What more of the body becomes. Only what is asked for is unpacked. Raises UnpackError."""
        pieces: Iterable[bytes] = [data]
        for layer in self._layers:
            pieces = layer.unpack(self._counted(pieces))
        yield from pieces

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._spent += len(piece)
            if self._spent > MAX_UNPACKED:
                raise UnpackError(
                    f"the answer's body is packed so that unpacking takes more than {MAX_UNPACKED} bytes"
                )
            yield piece


#: By coding: the size of its window, as zlib says it.
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class _Layer:
    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._head = b""
        self._inflater = None if coding == "deflate" else zlib.decompressobj(_WINDOWS[coding])

    def unpack(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for packed in pieces:
            piece, inflater = packed, self._inflater
            if inflater is None:
                piece = self._head = self._head + piece
                if len(piece) < 2:
                    continue
                inflater = self._inflater = zlib.decompressobj(_deflate_window(piece))
            # What follows the end is no part of the body.
            while not inflater.eof:
                try:
                    unpacked = inflater.decompress(piece, _PIECE)
                except zlib.error as error:
                    raise UnpackError(f"the answer's body is not {self._coding}: {error}") from error
                piece = inflater.unconsumed_tail
                if unpacked:
                    yield unpacked
                # A whole piece may have left some of it inside.
                if not piece and len(unpacked) < _PIECE:
                    break


def _deflate_window(head: bytes) -> int:
    """By its first two bytes: some servers leave out the header of zlib, which "deflate" stands for."""
    has_header = head[0] & 15 == zlib.DEFLATED and int.from_bytes(head[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
