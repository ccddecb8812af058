"""`atm task …`: create, get, logs, list, wait. Cancelling has a file of its own."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated

import typer

from atm.states import Status
from atm_cli import console, payload
from atm_cli.batch import create_from_file
from atm_cli.cancel import cancel
from atm_cli.config import Config
from atm_cli.exits import UsageError
from atm_cli.options import OutputOption, ProfileOption, ServerOption, configure, data_command
from atm_cli.output import write_many, write_one
from atm_cli.session import connected
from atm_cli.views import LOGS, TASKS
from atm_cli.waiting import wait_and_report

app = typer.Typer(help="Create tasks, follow them, cancel them.", no_args_is_help=True)
app.command("cancel")(cancel)


class PriorityName(StrEnum):
    """The two priorities."""

    NORMAL = "normal"
    HIGH = "high"


TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
WaitTimeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0, help="How long to wait; without it, until the task ends."
    ),
]


@app.command()
def create(
    ctx: typer.Context,
    task_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="The type of task, such as example_task.")
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="The payload: key=text, or key:=JSON.", show_default=False),
    ] = None,
    payload_source: Annotated[
        str | None,
        typer.Option(
            "--payload", metavar="JSON|@FILE|-", help="The payload as one JSON object; - reads stdin."
        ),
    ] = None,
    priority: Annotated[
        PriorityName, typer.Option(case_sensitive=False, help="High tasks overtake normal ones.")
    ] = PriorityName.NORMAL,
    max_retry: Annotated[
        int | None,
        typer.Option(min=0, help="How often a failed attempt is tried again (default: the type's)."),
    ] = None,
    task_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, help="How long one attempt may run; 0: no limit (default: the type's)."
        ),
    ] = None,
    delay: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long it waits before it may start.")
    ] = 0.0,
    request_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The same id again gives the same task (default: a new one).",
            show_default=False,
        ),
    ] = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            help="Create many: one JSON object a line, with task_type and what else of "
            "payload, priority, max_retry, timeout, delay and request_id is wanted.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the task has ended.")] = False,
    timeout: WaitTimeout = None,
    server: ServerOption = None,
    output: OutputOption = None,
    profile: ProfileOption = None,
) -> None:
    """Hand over a task, or with --from-file many. They are committed once this returns.

    The tasks of a file go in by the thousand, or by 3 MiB: each part is accepted
    as a whole or not at all. With --wait the exit code tells how the task ended: 0 SUCCESS, 8 FAILED or
    TIMEOUT, 9 CANCELLED, 7 still going on after --timeout.
    """
    config = configure(ctx, server, output, profile)
    if from_file is not None:
        _refuse_beside_file(ctx)
        create_from_file(config, from_file)
        return
    if task_type is None:
        raise UsageError("which type of task? `atm task create TYPE`, or --from-file FILE")
    if timeout is not None and not wait:
        raise UsageError("--timeout is how long --wait waits; --task-timeout limits the task itself")
    _check_seconds("--timeout", timeout)
    _check_seconds("--delay", delay)
    values = payload.build(pairs or (), payload_source)
    with connected(config) as client:
        task = client.create_task(
            task_type,
            values,
            priority=priority.value,
            max_retry=max_retry,
            timeout=task_timeout,
            delay=delay,
            request_id=request_id,
        )
        with console.said_if_lost(f"created: {task.task_id}"):
            if wait:
                wait_and_report(config, client, task.task_id, timeout)
            write_one(config.output, TASKS, task)


@app.command()
@data_command
def get(config: Config, task_id: TaskId) -> None:
    """Show one task."""
    with connected(config) as client:
        write_one(config.output, TASKS, client.get_task(task_id))


@app.command()
@data_command
def logs(config: Config, task_id: TaskId) -> None:
    """Show a task's history, oldest first."""
    with connected(config) as client:
        write_many(config.output, LOGS, client.get_task_logs(task_id))


@app.command("list")
@data_command
def list_(
    config: Config,
    status: Annotated[
        Status | None,
        typer.Option(case_sensitive=False, help="Only tasks in this state.", show_default=False),
    ] = None,
    priority: Annotated[
        PriorityName | None,
        typer.Option(case_sensitive=False, help="Only tasks of this priority.", show_default=False),
    ] = None,
    task_type: Annotated[
        str | None,
        typer.Option("--type", metavar="TYPE", help="Only tasks of this type.", show_default=False),
    ] = None,
    page: Annotated[int, typer.Option(min=1, help="Which page, from 1.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=500, help="How many tasks a page has.")] = 20,
    page_token: Annotated[
        str, typer.Option(metavar="TOKEN", help="The next_page_token of the page before.", show_default=False)
    ] = "",
) -> None:
    """List tasks, newest first."""
    with connected(config) as client:
        found = client.list_tasks(
            status.value if status else None,
            priority.value if priority else None,
            task_type,
            page=page,
            page_size=page_size,
            page_token=page_token,
            view="full" if config.output.shows_all else "basic",
        )
        write_many(config.output, TASKS, found.tasks, document=found)
    if omitted := sum(task.values_omitted for task in found):
        console.words(
            f"{omitted} tasks are without their payload or result (values_omitted), which did not fit into "
            "the answer; `atm task get ID` has them"
        )
    if page_token:
        more = f"; the next page: --page-token {found.next_page_token}" if found.next_page_token else ""
        console.words(f"{len(found.tasks)} tasks{more}")
    elif not found.tasks:
        console.words(
            "no task matches" if not found.total else f"page {page} is empty; there are {found.pages}"
        )
    elif found.pages > 1:
        console.words(f"page {page} of {found.pages}; {found.total} tasks match")


@app.command()
@data_command
def wait(config: Config, task_id: TaskId, timeout: WaitTimeout = None) -> None:
    """Wait until a task has ended, and show it.

    The exit code tells how it ended: 0 SUCCESS, 8 FAILED or TIMEOUT,
    9 CANCELLED, 7 still going on after --timeout.
    """
    _check_seconds("--timeout", timeout)
    with connected(config) as client:
        wait_and_report(config, client, task_id, timeout)


def _refuse_beside_file(ctx: typer.Context) -> None:
    """What is said of one task does not go with a file of many."""
    for name in ctx.params.keys() - {"from_file", "server", "output", "profile"}:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--from-file does not go with {name.replace('_', '-')}: say it in the file")


def _check_seconds(option: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{option} takes a number of seconds")
