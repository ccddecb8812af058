"""A client that creates tasks all the while, whatever happens."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from fix_system import System, eventually

from atm.client import Client
from atm.errors import UnavailableError


@dataclass
class Trickle:
    """Creates a task every 20 ms, and insists for `insist` seconds on each that is UNAVAILABLE."""

    system: System
    task_type: str
    insist: float
    ids: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `stopping` is set."""
        client = self.system.client()
        while not self.stopping.wait(0.02):
            self.ids.append(self._create(client))

    def _create(self, client: Client) -> str:
        request_id = str(uuid.uuid4())
        end = time.monotonic() + self.insist
        while True:
            try:
                return client.create_task(self.task_type, request_id=request_id, deadline=20).task_id
            except UnavailableError as error:
                if time.monotonic() > end:
                    raise
                time.sleep(error.retry_after or 0.1)

    def goes_on(self) -> None:
        """Returns when it has created some more."""
        enough = len(self.ids) + 15
        eventually(lambda: len(self.ids) >= enough, what="no more tasks are created")


@contextlib.contextmanager
def trickle(system: System, task_type: str = "echo", insist: float = 0.0) -> Iterator[Trickle]:
    """Tasks that are created meanwhile; all of them must succeed, with legal histories."""
    made = Trickle(system, task_type, insist)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        made.goes_on()
        yield made
        made.goes_on()
    finally:
        made.stopping.set()
        thread.join(insist + 30)
    client = system.client()
    assert {client.wait_for_task(task_id, 30).status for task_id in made.ids} == {"SUCCESS"}
    system.check_history()
