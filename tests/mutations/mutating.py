"""Changes random bytes of a recording, each time in one kind of place."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mutations.recording import CALLS, DATA, HEADERS, NOTE, PREFACE, SETTINGS, WINDOW_UPDATE, Frame, Recording

#: Where the bytes are that are changed.
BYTES_OF = (
    *(
        "the preface",
        "settings and windows",
        "the length of a frame",
        "type and flags",
        "the stream's number",
    ),
    *("the headers (HPACK)", "the path", "metadata", "the message's prefix", "the message"),
)


@dataclass(frozen=True)
class Mutation:
    """What is sent on a connection. `stream`: the call that is changed; the other one is as it was."""

    kind: str
    stream: int
    data: bytes


def mutate(rng: random.Random, recordings: Sequence[Recording], kind: str) -> Mutation:
    """One of the recordings, changed in this kind of place (one of KINDS)."""
    while True:
        recording, stream = rng.choice(recordings), rng.choice(CALLS)
        if change := KINDS[kind](rng, recording, stream):
            return Mutation(kind, stream, change)


Change = Callable[[random.Random, Recording, int], bytes | None]


def _change_bytes(kind: str) -> Change:
    def change(rng: random.Random, recording: Recording, stream: int) -> bytes | None:
        places = [
            at for start, end, of in _regions(recording, stream) if of == kind for at in range(start, end)
        ]
        if not places:
            return None
        data = bytearray(_encode(recording.frames))
        for at in rng.sample(places, min(len(places), rng.randint(1, 4))):
            # Half of them another byte, half of them one bit.
            data[at] = rng.randrange(256) if rng.random() < 0.5 else data[at] ^ 1 << rng.randrange(8)
        return bytes(data)

    return change


def _lose_bytes(rng: random.Random, recording: Recording, stream: int) -> bytes:
    data = bytearray(_encode(recording.frames))
    start = rng.randrange(len(PREFACE), len(data))
    del data[start : start + rng.randint(1, 20)]
    return bytes(data)


def _add_bytes(rng: random.Random, recording: Recording, stream: int) -> bytes:
    data = bytearray(_encode(recording.frames))
    at = rng.randrange(len(PREFACE), len(data))
    data[at:at] = rng.randbytes(rng.randint(1, 20))
    return bytes(data)


def _mix_frames(rng: random.Random, recording: Recording, stream: int) -> bytes:
    frames = list(recording.frames)
    if rng.random() < 0.5:
        frames.insert(rng.randrange(len(frames)), rng.choice(frames))
    else:
        rng.shuffle(frames)
    return _encode(frames)


#: What is changed, and how.
KINDS: dict[str, Change] = {
    **{kind: _change_bytes(kind) for kind in BYTES_OF},
    "bytes lost": _lose_bytes,
    "bytes added": _add_bytes,
    "frames doubled or in another order": _mix_frames,
}


def _encode(frames: Sequence[Frame]) -> bytes:
    return PREFACE + b"".join(frame.encode() for frame in frames)


def _regions(recording: Recording, stream: int) -> Iterator[tuple[int, int, str]]:
    """From where to where, and what is there, for a connection and one of its calls."""
    yield 0, len(PREFACE), "the preface"
    at = len(PREFACE)
    seen_data = False
    for frame in recording.frames:
        payload, end = at + 9, at + 9 + len(frame.payload)
        if frame.kind in (SETTINGS, WINDOW_UPDATE):
            yield payload, end, "settings and windows"
        if frame.stream == stream or frame.stream == 0:
            yield at, at + 3, "the length of a frame"
            yield at + 3, at + 5, "type and flags"
            yield at + 5, at + 9, "the stream's number"
        if frame.stream == stream and frame.kind == HEADERS:
            yield payload, end, "the headers (HPACK)"
            for value, kind in ((recording.path, "the path"), (NOTE, "metadata")):
                if (found := frame.payload.find(value)) >= 0:
                    yield payload + found, payload + found + len(value), kind
        if frame.stream == stream and frame.kind == DATA:
            prefix = 0 if seen_data else 5
            seen_data = True
            yield payload, payload + prefix, "the message's prefix"
            yield payload + prefix, end, "the message"
        at = end
