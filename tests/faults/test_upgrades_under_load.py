"""Servers and workers go on while the next release upgrades their schema, however often that is killed."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Self

import pytest
from fix_system import System, eventually
from upgrades import next_release, start_upgrade

from atm.client import Client
from atm.states import Status
from atm.store import schema

KILLS = 50
#: What releases expand: columns of tables in use, an index of the largest, a table.
EXPANSION = """
steps.add_column("task", sa.Column("label_{n}", sa.String(20), nullable=True))
steps.add_column("task_log", sa.Column("zone_{n}", sa.Integer(), nullable=False, server_default="0"))
steps.add_column("worker", sa.Column("zone_{n}", sa.Integer(), nullable=False, server_default="0"))
steps.add_column("server", sa.Column("zone_{n}", sa.Integer(), nullable=False, server_default="0"))
steps.create_index("ix_task_label_{n}", "task", ["label_{n}"])
steps.replace_index("ix_task_completed", "task", ["completed_at"])
steps.create_table(sa.Table("made_up_{n}", sa.MetaData(), sa.Column("id", sa.Integer(), primary_key=True)))
"""


class Load:
    """A client that creates tasks until it is told to stop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = threading.Event()
        self.accepted: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.02):
            self.accepted.append(self._client.create_task("echo", {"a": "b"}).task_id)


@pytest.mark.timeout(600)
def test_an_upgrade_that_is_killed_at_random_moments_completes_and_loses_nothing(
    new_system: System, tmp_path: Path
) -> None:
    rng = random.Random(12)
    new_system.start_server()
    new_system.start_worker()
    client = new_system.client()
    folder, releases = None, 0
    kills = 0
    with Load(client) as load:
        while kills < KILLS:
            if folder is None or schema.current(new_system.database.url) == _head(folder):
                releases += 1
                folder = next_release(tmp_path, EXPANSION, after=folder)
            upgrade = start_upgrade(new_system.dsn, folder=folder)
            # From its first look at the database to its last statement.
            time.sleep(rng.uniform(0.0, 0.4))
            upgrade.kill()
            upgrade.join()
            kills += 1
        assert folder is not None
        last = start_upgrade(new_system.dsn, folder=folder)
        last.join()
        assert last.exitcode == 0
        assert schema.current(new_system.database.url) == _head(folder)
    print(f"{kills} kills, {releases} releases, {len(load.accepted)} tasks")
    # This release starts with the schema of a later one.
    new_system.start_server()
    new_system.start_worker()
    load.accepted.append(new_system.client().create_task("echo").task_id)
    for task_id in load.accepted:
        assert client.wait_for_task(task_id, timeout=60).status == Status.SUCCESS
    new_system.check_history()


def test_code_that_cannot_go_on_does_not_start_and_says_what_to_install(
    new_system: System, tmp_path: Path
) -> None:
    contraction = next_release(
        tmp_path, 'steps.drop_column("task", "progress_message")', oldest_code=f"{int(schema.head()) + 1:04}"
    )
    upgrade = start_upgrade(new_system.dsn, folder=contraction)
    upgrade.join()
    server = new_system.start_server(wait=False)
    eventually(lambda: server.popen.poll() is not None)
    worker = new_system.start_worker(wait=False)
    eventually(lambda: worker.popen.poll() is not None)
    for process in (server, worker):
        assert process.popen.returncode
        assert "was made by ATM" in process.output()
        assert "Install ATM" in process.output()


def _head(folder: Path) -> str:
    return max(path.name[:4] for path in (folder / "versions").glob("[0-9]*.py"))
