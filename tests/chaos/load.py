"""Clients that create tasks, and cancel some, while faults happen; they remember what was accepted."""

from __future__ import annotations

import random
import threading
import time
import uuid
from dataclasses import dataclass, field

from atm.client import Client
from atm.errors import AtmError, ServiceError
from chaos.installation import Installation

#: What is created, and how often. None of them may be lost, and each must succeed unless it is cancelled.
MIX = {"chaos_quick": 70, "chaos_slow": 10, "chaos_async": 10, "chaos_flaky": 10}
#: How long one task's creation is tried, with the same request id.
_INSIST_SECONDS = 45.0


@dataclass
class Accepted:
    """The tasks whose CreateTask answered OK, and those that somebody wanted cancelled."""

    tasks: dict[str, str] = field(default_factory=dict)
    requests: dict[str, set[str]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Load:
    """`rate` is the tasks per second of all threads together; None: as fast as they can."""

    def __init__(
        self,
        installation: Installation,
        seed: int,
        *,
        threads: int = 4,
        rate: float | None = 40.0,
        cancel_share: float = 0.05,
    ) -> None:
        self.accepted = Accepted()
        self._installation = installation
        self._seed = seed
        self._pause = threads / rate if rate else 0.0
        self._cancel_share = cancel_share
        self._stopping = threading.Event()
        self._left: int | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)
        ]

    def start(self, total: int | None = None) -> None:
        """Creates tasks until `stop`, or until there are `total`."""
        self._left = total
        for thread in self._threads:
            thread.start()

    def stop(self) -> Accepted:
        """Ends it; what was accepted."""
        self._stopping.set()
        return self.join()

    def join(self) -> Accepted:
        """Waits until `total` tasks were created; what was accepted."""
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"
        return self.accepted

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed}-{number}")
        with self._installation.client(number) as client:
            while not self._stopping.is_set() and self._take():
                self._create(client, rng)
                if self._pause:
                    self._stopping.wait(self._pause)

    def _take(self) -> bool:
        with self.accepted.lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0

    def _create(self, client: Client, rng: random.Random) -> None:
        task_type = rng.choices(list(MIX), list(MIX.values()))[0]
        request_id, priority = str(uuid.UUID(int=rng.getrandbits(128))), rng.choice([0, 0, 0, 1])
        end = time.monotonic() + _INSIST_SECONDS
        while True:
            try:
                task = client.create_task(
                    task_type, {"n": "1"}, priority=priority, request_id=request_id, deadline=10
                )
                break
            except ServiceError:
                if time.monotonic() > end or self._stopping.is_set():
                    with self.accepted.lock:
                        self.accepted.refused += 1
                    return
                time.sleep(0.2)
        with self.accepted.lock:
            self.accepted.tasks[task.task_id] = task_type
            self.accepted.requests.setdefault(request_id, set()).add(task.task_id)
        if rng.random() < self._cancel_share:
            self._cancel(client, task.task_id, rng)

    def _cancel(self, client: Client, task_id: str, rng: random.Random) -> None:
        time.sleep(rng.random() * 0.3)
        with self.accepted.lock:
            self.accepted.cancelled.add(task_id)
        try:
            client.cancel_task(task_id, requested_by="chaos", deadline=5)
        except AtmError:
            return  # whether it took effect is unknown: either end is right
