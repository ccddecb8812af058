"""Whatever bytes of a valid call are changed, the server goes on, and so do the calls of others."""

from __future__ import annotations

import random

import pytest
from fix_system import System

from mutations.mutating import KINDS, Mutation, mutate
from mutations.recording import CALLS, DATA, HEADERS, PREFACE, Recording, frames_of, record
from mutations.run import run
from mutations.sending import send

CALLS_IN_ALL = 300
#: What a server may take more than before, for what waits: far less than for one connection a megabyte.
MORE_MEMORY = 128 * 2**20


@pytest.mark.parametrize("new_system", ["sqlite"], indirect=True)
async def test_calls_with_random_bytes_changed_end_no_server_and_disturb_no_other_client(
    new_system: System,
) -> None:
    server = new_system.start_server()
    new_system.start_worker()
    recordings = record(new_system.address)
    await _replays_are_answered(new_system.address, recordings)
    before = {one.instance_id for one in new_system.client().list_servers()}
    done = await run(new_system.address, server.pid, recordings, CALLS_IN_ALL, seed=7)
    assert server.popen.poll() is None
    assert {one.instance_id for one in new_system.client().list_servers()} == before
    assert [phase.other.failures for phase in done.phases] == [[], [], []]
    assert sum(sum(got.values()) for got in done.got.values()) == CALLS_IN_ALL
    assert all(done.got.values())
    assert done.phases[1].memory_bytes < done.phases[0].memory_bytes + MORE_MEMORY
    assert "Traceback" not in server.output()
    # Once in a minute, however often it was.
    assert 1 <= server.output().count("values of metadata were not UTF-8") <= 3
    new_system.kill_processes()
    new_system.check_history()


async def _replays_are_answered(address: str, recordings: list[Recording]) -> None:
    """A recording that is not changed gets what the client got: else nothing is tried here."""
    for recording in recordings:
        kinds = {(frame.kind, frame.stream) for frame in recording.frames}
        assert kinds >= {(kind, stream) for kind in (HEADERS, DATA) for stream in CALLS}
        data = PREFACE + b"".join(frame.encode() for frame in recording.frames)
        assert frames_of(data) == recording.frames
        for stream in CALLS:
            assert await send(address, Mutation("none", stream, data)) == "OK", recording.path


def test_the_same_seed_makes_the_same_mutations() -> None:
    frames = frames_of(PREFACE + _recorded())
    recordings = [Recording(b"/path", frames)]
    for kind in KINDS.keys() - {"metadata"}:
        one, other = (mutate(random.Random(5), recordings, kind) for _ in range(2))
        assert one == other


def _recorded() -> bytes:
    from mutations.recording import SETTINGS, Frame

    calls = [
        frame
        for stream in CALLS
        for frame in (Frame(HEADERS, 4, stream, b"\0\5:path\5/path"), Frame(DATA, 1, stream, bytes(9)))
    ]
    return b"".join(frame.encode() for frame in [Frame(SETTINGS, 0, 0, bytes(6)), *calls])
