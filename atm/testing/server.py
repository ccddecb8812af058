"""A whole installation for tests: a server, a worker with the project's handlers, Redis and SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atm.client import Client, DeadlineError, UnavailableError
from atm.devserver import embedded
from atm.states import WorkerStatus
from atm.worker.handlers import load


@dataclass(frozen=True)
class AtmServer:
    """An installation that runs: where it is, and a client that is connected to it."""

    address: str
    client: Client


@contextlib.contextmanager
def serving(handlers: Sequence[str], python_path: Sequence[str]) -> Iterator[AtmServer]:
    """An installation that takes tasks of the types in the modules `handlers`, until the block ends.

    Its data is in a temporary folder. `python_path` holds the folders in which
    its worker looks for modules. Imports the handlers in this process, too, so
    that it knows their types, and what is wrong with a module is told at once.
    Raises SettingsError for that, and UnavailableError, with the server's log,
    when no worker announces the types.
    """
    # By the module, for tests may have registered handlers that no worker knows.
    specs = load(handlers).specs()
    wanted = {spec.task_type for spec in specs if spec.module in handlers}

    def ready(address: str) -> bool:
        with (
            Client(address, retries=False) as client,
            contextlib.suppress(UnavailableError, DeadlineError),
        ):
            return any(
                worker.status == WorkerStatus.RUNNING and wanted <= set(worker.task_types)
                for worker in client.list_workers()
            )
        return False

    with (
        embedded(workers=1, handlers=handlers, python_path=python_path, ready=ready) as address,
        Client(address) as client,
    ):
        yield AtmServer(address, client)
