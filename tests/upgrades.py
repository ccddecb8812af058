"""Upgrades of the schema in processes of their own, that are killed; and releases that are yet to come."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import signal
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from atm.states import Status
from atm.store import schema_upgrade
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.store.migrations import revisions, scripts

_processes = multiprocessing.get_context("forkserver")
_CHANGES = ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")


@functools.cache
def _start_fork_server() -> None:
    """Starts the process that the others are forked from; it has imported everything before."""
    _processes.set_forkserver_preload(["upgrades"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        forkserver.ensure_running()


def start_upgrade(
    dsn: str, *, die_after: int = 0, folder: Path | None = None, alone: bool = True
) -> BaseProcess:
    """Starts a real process that upgrades; with `die_after` it kills itself after so many changes.

    `folder` has the migrations, `alone` is False for a database that knows no locks.
    """
    _start_fork_server()
    process = _processes.Process(target=_upgrade, args=(dsn, die_after, folder, alone))
    process.start()
    return process


def upgrade_killed(dsn: str, die_after: int, folder: Path | None = None) -> bool:
    """Whether an upgrade was killed after so many changes; False when it had no more to make."""
    process = start_upgrade(dsn, die_after=die_after, folder=folder)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _upgrade(dsn: str, die_after: int, folder: Path | None, alone: bool) -> None:
    made = 0

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal made
        made += statement.lstrip().startswith(_CHANGES)
        if made == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    if die_after:
        event.listen(Engine, "after_cursor_execute", count)
    if folder is not None:
        revisions.FOLDER = folder
    if not alone:
        schema_upgrade._LOCKS = ()
        schema_upgrade._TABLE_PAUSE_SECONDS = 0.1
    schema_upgrade.upgrade(parse_sql_dsn(dsn))


def next_release(folder: Path, body: str, *, oldest_code: str = "", after: Path | None = None) -> Path:
    """The migrations of a release after this one (or after another such): one more, which does `body`.

    `{n}` in it stands for the revision.
    """
    before = after or revisions.FOLDER
    last = max(path.name[:4] for path in (before / "versions").glob("[0-9]*.py"))
    number = f"{int(last) + 1:04}"
    made = folder / f"release-{number}"
    shutil.copytree(before, made, ignore=shutil.ignore_patterns("__pycache__"))
    lines = [
        '"""Made up."""',
        "import sqlalchemy as sa",
        "from atm.store.migrations import steps",
        f'revision, down_revision = "{number}", "{last}"',
        f'oldest_code = "{oldest_code}"' if oldest_code else "",
        "def upgrade():",
        *(f"    {line}" for line in body.replace("{n}", number).splitlines()),
    ]
    (made / "versions" / f"{number}_made_up.py").write_text("\n".join(lines))
    return made


def upgrade_to(dsn: str, revision: str) -> None:
    """Brings a new database to an old revision."""
    with Database(parse_sql_dsn(dsn), pool_size=1).engine.connect() as connection:
        for script in scripts.scripts():
            schema_upgrade._apply(connection, script)
            if script.revision == revision:
                break
    connection.engine.dispose()


_ROW: dict[str, Any] = {
    "task_type": "example_task",
    "status": Status.SUCCESS,
    "priority": 0,
    "payload": '{"n":"1"}',
    "worker_id": "w",
    "attempt": 1,
    "retry_count": 0,
    "max_retry": 3,
    "timeout_ms": 0,
    "retry_strategy": "FIXED",
    "retry_delay_ms": 1,
    "retry_backoff_rate": 1.0,
    "retry_max_delay_ms": 1,
    "error_message": "",
    "error_reason": "",
    "progress": 1.0,
    "progress_message": "",
    "created_at": "2026-01-01 00:00:00.000000",
    "completed_at": "2026-01-01 00:00:00.000000",
    "due_at": "2026-01-01 00:00:00.000000",
    "cancel_requested_by": "",
}


def insert_task(connection: Any, task_id: str, **values: Any) -> None:
    """Adds a task by plain SQL; it has the columns of the first revision."""
    row = {"task_id": task_id, **_ROW, **values}
    names = ", ".join(row)
    connection.execute(
        text(f"INSERT INTO task ({names}) VALUES ({', '.join(':' + name for name in row)})"), row
    )
