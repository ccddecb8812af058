"""A server under mutated calls: who else is served meanwhile, and what it takes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import psutil

from mutations.mutating import KINDS, mutate
from mutations.recording import Recording
from mutations.sending import send
from mutations.well_behaved import Behaviour, WellBehaved

_AT_ONCE = 32
_MEMORY_SECONDS = 0.1
#: How many calls of the other client are measured before and after, at least.
_QUIET_SECONDS = 3.0


@dataclass(frozen=True)
class Phase:
    """Before, during or after: how the other client was served, and the server's memory at its highest."""

    name: str
    other: Behaviour
    memory_bytes: int


@dataclass(frozen=True)
class Run:
    """What each kind of mutation got, and what else happened."""

    got: dict[str, Counter[str]]
    phases: list[Phase]

    def markdown(self) -> str:
        """A row for each kind, then a row for each phase."""
        total = sum(sum(counts.values()) for counts in self.got.values())
        lines = ["| changed | calls | what they got |", "|---|---|---|"]
        for kind, counts in self.got.items():
            answers = ", ".join(f"{answer} {count}" for answer, count in counts.most_common())
            lines.append(f"| {kind} | {sum(counts.values())} | {answers} |")
        lines += ["", f"{total} calls.", ""]
        lines += [
            "| another client | calls | failed | p50 | p99 | the server's memory |",
            "|---|---|---|---|---|---|",
        ]
        for phase in self.phases:
            other = phase.other
            times = f"{other.milliseconds(0.5):.1f} ms | {other.milliseconds(0.99):.1f} ms"
            lines.append(
                f"| {phase.name} | {2 * len(other.seconds)} | {len(other.failures)} | {times} "
                f"| {phase.memory_bytes / 2**20:.0f} MB |"
            )
        return "\n".join(lines)


async def run(address: str, pid: int, recordings: list[Recording], calls: int, seed: int) -> Run:
    """Sends so many mutated calls, as many of each kind, to the server with this process id."""
    rng = random.Random(seed)
    got: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(calls)]
    rng.shuffle(kinds)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(kind: str) -> None:
        async with room:
            got[kind][await send(address, mutate(rng, recordings, kind))] += 1

    async def attack() -> None:
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(one(kind))

    phases = [await _phase("before", address, pid, asyncio.sleep(_QUIET_SECONDS))]
    phases.append(await _phase("during", address, pid, attack()))
    phases.append(await _phase("after", address, pid, asyncio.sleep(_QUIET_SECONDS)))
    return Run(got, phases)


async def _phase(name: str, address: str, pid: int, work: object) -> Phase:
    other = WellBehaved(address)
    await asyncio.to_thread(other.__enter__)
    highest = 0
    task = asyncio.ensure_future(work)  # type: ignore[arg-type]
    while not task.done():
        highest = max(highest, psutil.Process(pid).memory_info().rss)
        await asyncio.wait([task], timeout=_MEMORY_SECONDS)
    await asyncio.to_thread(other.__exit__)
    await task
    return Phase(name, other.result, highest)
