"""`atm task cancel`: one task at once, several after a question."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from atm.errors import DeadlineError, ServiceError, UnavailableError
from atm.escape import visible
from atm_cli import console, exits
from atm_cli.config import Config, Output
from atm_cli.options import data_command
from atm_cli.output import write_many
from atm_cli.session import connected
from atm_cli.views import CANCELS

if TYPE_CHECKING:
    from atm.client import CancelResult, Client

_SAMPLE = 3


@data_command
def cancel(
    config: Config,
    task_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks' ids.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before cancelling several.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
) -> None:
    """Cancel tasks: a pending one at once, a running one as soon as its handler stops.

    A task that has already ended is left as it is, and the exit code is 5.
    """
    ids = list(dict.fromkeys(task_ids))
    if len(ids) > 1 and not yes and not dry_run:
        _confirm(ids)
    results: list[CancelResult] = []
    code = exits.OK
    with connected(config) as client:
        try:
            for result, failure in _cancel_each(client, ids, dry_run=dry_run):
                results.append(result)
                if not result.success:
                    console.error([f"{result.task_id}: {result.message}"])
                    code = code or failure
        finally:
            # Names feed other commands, which want those that were cancelled.
            shown = [result for result in results if result.success or config.output is not Output.NAME]
            write_many(config.output, CANCELS, shown)
    raise typer.Exit(code)


def requester() -> str:
    """Who asks, for the task's history: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _confirm(ids: list[str]) -> None:
    sample = ", ".join(visible(task_id) for task_id in ids[:_SAMPLE])
    if len(ids) > _SAMPLE:
        sample += f" and {len(ids) - _SAMPLE} more"
    if not sys.stdin.isatty():
        raise exits.UsageError(
            f"cancelling {len(ids)} tasks ({sample}) needs --yes where nobody can be asked"
        )
    # Not typer.confirm: it sends a blank to stdout, which is for data.
    sys.stderr.write(f"Cancel {len(ids)} tasks ({sample})? [y/N]: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        console.words("nothing was cancelled")
        raise typer.Exit(exits.ERROR)


def _cancel_each(client: Client, ids: list[str], *, dry_run: bool) -> Iterator[tuple[CancelResult, int]]:
    """What became of each, and the exit code for a failure. Raises what would befall the others, too."""
    from atm.client import CancelResult

    for task_id in ids:
        try:
            if dry_run:
                result = _foresee(client, task_id)
            else:
                result = client.cancel_task(task_id, requested_by=requester())
        except ServiceError as error:
            if len(ids) == 1 or isinstance(error, UnavailableError | DeadlineError):
                raise
            yield CancelResult(task_id, success=False, message=error.message), exits.code_of(error)
        else:
            yield result, exits.CONFLICT


def _foresee(client: Client, task_id: str) -> CancelResult:
    from atm.client import CancelResult

    task = client.get_task(task_id)
    message = f"is already {task.status}" if task.is_final else f"is {task.status}, would be cancelled"
    return CancelResult(task_id, success=not task.is_final, message=message)
