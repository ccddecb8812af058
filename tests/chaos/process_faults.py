"""Faults of workers' processes: how they are stopped, whose children they are, and threads that are lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import psutil
from fix_system import eventually
from sqlalchemy import select

from atm.client import Client
from atm.errors import ServiceError
from atm.processes import EXIT_STUCK
from atm.store.logs import LOG
from chaos.installation import Installation, Part, send_signal

#: How long a worker may take to drain, end and be there again: its drain time of 5 s, and what it takes
#: beside it to stop and to boot.
_REPLACED_SECONDS = 30.0
#: ... and what was left behind by a master that is gone.
_GONE_SECONDS = 20.0


def worker_told_with_its_group(installation: Installation, rng: random.Random) -> None:
    """SIGTERM for all processes of a worker at once: it drains, and ends with 0."""

    def tell(part: Part) -> None:
        for process in _family(part):
            send_signal(process.pid, signal.SIGTERM)

    _told(installation, rng, tell)


def worker_told_twice(installation: Installation, rng: random.Random) -> None:
    """SIGTERM for a worker, and again while it drains."""

    def tell(part: Part) -> None:
        for _ in range(3):
            for process in _family(part):
                send_signal(process.pid, signal.SIGTERM)
            time.sleep(rng.random() / 2)

    # Dramatiq's master, when all of its workers have ended and it ends itself, is killed by one more.
    _told(installation, rng, tell, codes=(0, -signal.SIGTERM))


def worker_reloaded(installation: Installation, rng: random.Random) -> None:
    """SIGHUP for a worker's master: it drains its processes and begins anew, as the same process."""
    _all_are_back(installation)
    part, before = rng.choice(installation.worker_parts()), _workers_of(installation)
    process = part.process
    assert process is not None
    mine = before[process.pid]
    charged = _charged(installation, mine)
    process.popen.send_signal(signal.SIGHUP)
    eventually(lambda: mine != _workers_of(installation).get(process.pid, mine), _REPLACED_SECONDS)
    assert process.popen.poll() is None, "the master has ended"
    assert _charged(installation, mine) == charged


def master_killed_while_it_boots(installation: Installation, rng: random.Random) -> None:
    """A worker's master is killed, three times, at any moment of its boot or its workers'."""
    part, left = rng.choice(installation.worker_parts()), set[psutil.Process]()
    for _ in range(3):
        old = part.process
        assert old is not None
        left |= set(_family(part)[1:])
        old.popen.kill()
        eventually(lambda old=old: part.process is not old, _REPLACED_SECONDS)
        time.sleep(rng.random() * 2)
    _, alive = psutil.wait_procs(list(left), timeout=_GONE_SECONDS)
    assert not alive, f"{len(alive)} processes outlive their master"
    _all_are_back(installation)


def worker_threads_hang(installation: Installation, rng: random.Random) -> None:
    """Handlers that nothing stops hold every thread of a worker, or more: it ends, and is started anew."""
    before = {part.name: part.process for part in installation.worker_parts()}
    # So many that one worker gets four of them: all its threads.
    count = 3 * len(before) + 1
    with installation.client() as client:
        tasks = [eventually(lambda: _created(client), 30) for _ in range(count)]
        for task in tasks:
            ended_as = client.wait_for_task(task, 90)
            assert ended_as.status == "TIMEOUT", (ended_as, client.get_task_logs(task))
    ended = eventually(
        lambda: [before[p.name] for p in installation.worker_parts() if p.process is not before[p.name]],
        _REPLACED_SECONDS,
        "no worker is started anew",
    )
    assert ended[0] is not None
    assert ended[0].popen.returncode == EXIT_STUCK
    _all_are_back(installation)


def _told(
    installation: Installation,
    rng: random.Random,
    tell: Callable[[Part], None],
    codes: tuple[int, ...] = (0,),
) -> None:
    part = rng.choice(installation.worker_parts())
    old = part.process
    assert old is not None
    mine = _workers_of(installation).get(old.pid, "")
    # A fault before this one may have cost it attempts.
    charged = _charged(installation, mine)
    tell(part)
    assert old.popen.wait(_REPLACED_SECONDS) in codes
    _all_are_back(installation)
    assert _charged(installation, mine) == charged


def _family(part: Part) -> list[psutil.Process]:
    assert part.process is not None
    try:
        master = psutil.Process(part.process.pid)
        return [master, *master.children(recursive=True)]
    except psutil.Error:
        return []


def _workers_of(installation: Installation) -> dict[int, str]:
    """The workers' ids, by the process ids of their masters."""
    found = {}
    for worker in installation.workers():
        try:
            found[psutil.Process(worker.pid).ppid()] = worker.worker_id
        except psutil.Error:
            continue
    return found


def _charged(installation: Installation, worker_id: str) -> list[tuple[str, str]]:
    """The attempts of this worker that were lost with it, and how."""
    query = select(LOG.c.task_id, LOG.c.message).where(
        LOG.c.worker_id == worker_id, LOG.c.message.like("%was lost: %")
    )
    return [
        (row.task_id, row.message)
        for row in installation.database.read(lambda connection: connection.execute(query).all())
    ]


def _all_are_back(installation: Installation) -> None:
    def back() -> bool:
        # One that has ended is not a part for the moment until it is started anew.
        known = _workers_of(installation)
        return all(part.process and part.process.pid in known for part in installation.worker_parts())

    eventually(back, _REPLACED_SECONDS, "not all workers are back")


def _created(client: Client) -> str:
    try:
        return client.create_task("chaos_hang", timeout=1).task_id
    except ServiceError:
        return ""


#: In the order in which the short form runs them.
OF_PROCESSES = (
    worker_told_with_its_group,
    worker_told_twice,
    worker_reloaded,
    master_killed_while_it_boots,
    worker_threads_hang,
)
