"""`atm task create --from-file`: many tasks, from lines of JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atm_cli import console, payload
from atm_cli.config import Config
from atm_cli.exits import UsageError
from atm_cli.output import write_many
from atm_cli.session import connected
from atm_cli.views import TASKS

#: A thousand commits take milliseconds; a thousand large payloads may not.
_DEADLINE_SECONDS = 60.0


def create_from_file(config: Config, name: str) -> None:
    """Creates the tasks of a file (`-`: of standard input) and writes them.

    The whole file is read first: a line that cannot be read creates nothing.
    """
    from atm.client.requests import batches

    lines = list(_lines(name))
    if not lines:
        raise UsageError(f"{name} holds no task: one JSON object a line")
    created: list[Any] = []
    with connected(config) as client:
        try:
            for batch in batches(lines):
                created += client.create_tasks(batch, deadline=_DEADLINE_SECONDS)
        finally:
            if created:
                with console.said_if_lost(f"created: {' '.join(task.task_id for task in created)}"):
                    write_many(config.output, TASKS, created)
                console.words(f"{len(created)} of {len(lines)} tasks are committed")


def _lines(name: str) -> Iterator[dict[str, Any]]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name!r} cannot be read: {error.strerror}") from error
    for number, line in enumerate(payload.decode(data, name).splitlines(), start=1):
        if line.strip():
            yield payload.parse_object(line, f"line {number} of {name}")
