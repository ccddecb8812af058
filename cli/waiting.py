"""Waiting for a task: the progress bar, and what the end means for the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from atm.errors import WaitTimeoutError
from atm.escape import visible
from atm_cli import console, exits
from atm_cli.config import Config
from atm_cli.output import write_one
from atm_cli.views import TASKS

if TYPE_CHECKING:
    from atm.client import Client, Task


def wait_and_report(config: Config, client: Client, task_id: str, timeout: float | None) -> None:
    """Waits up to `timeout` seconds, writes the task, and ends the command with its exit code.

    When the time is up the task is written as it is, and WaitTimeoutError raised.
    """
    try:
        task = wait(client, task_id, timeout)
    except WaitTimeoutError:
        write_one(config.output, TASKS, client.get_task(task_id))
        raise
    write_one(config.output, TASKS, task)
    code = exits.code_of_end(task.status)
    if code != exits.OK:
        reason = task.error_message.partition("\n")[0]
        console.words(f"task {task.task_id} ended {task.status}{f': {reason}' if reason else ''}")
    raise typer.Exit(code)


def wait(client: Client, task_id: str, timeout: float | None) -> Task:
    """The task once it has ended. On a terminal, a bar on stderr shows how far it is.

    Raises WaitTimeoutError after `timeout` seconds (None: never).
    """
    with progress_bar() as show:
        try:
            return client.wait_for_task(task_id, timeout, show)
        except KeyboardInterrupt:
            console.words(f"task {task_id} goes on; `atm task wait {task_id}` waits for it again")
            raise


@contextmanager
def progress_bar() -> Iterator[Callable[[Task], None]]:
    """A function that shows a task's state, on a bar that is gone afterwards; nothing without a terminal."""
    terminal = console.screen(stderr=True)
    if not terminal.is_terminal:
        yield lambda _task: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        # The text is a task's: no markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        bar = progress.add_task("waiting", total=None, note="")

        def show(task: Task) -> None:
            # Without a report of the handler's, the bar only shows that time passes.
            total = 1.0 if task.progress or task.is_final else None
            completed = 1.0 if task.succeeded else task.progress
            note = " ".join(filter(None, (f"{task.progress:.0%}" if total else "", task.progress_message)))
            progress.update(
                bar,
                description=visible(task.status),
                total=total,
                completed=completed,
                note=visible(note),
                refresh=True,
            )

        yield show
