"""`atm worker list`, `atm server list` and `atm stats`: what runs, and how much there is."""

from __future__ import annotations

import typer

from atm_cli import console
from atm_cli.options import OutputOption, ProfileOption, ServerOption, configure
from atm_cli.session import connected

worker_app = typer.Typer(help="Look at the workers.", no_args_is_help=True)


@worker_app.callback()
def _worker() -> None:
    # Without a callback, an app of one command would be that command.
    """Look at the workers."""


@worker_app.command("list")
def list_workers(
    ctx: typer.Context,
    server: ServerOption = None,
    output: OutputOption = None,
    profile: ProfileOption = None,
) -> None:
    """List the worker processes, with their load."""
    config = configure(ctx, server, output, profile)
    from atm_cli.output import write_many
    from atm_cli.views import WORKERS

    with connected(config) as client:
        workers = client.list_workers()
        write_many(config.output, WORKERS, workers)
    if not workers:
        console.words(
            "no worker has registered; `dramatiq atm.actors` or `atm server --workers 2` starts some"
        )


def list_servers(
    ctx: typer.Context,
    server: ServerOption = None,
    output: OutputOption = None,
    profile: ProfileOption = None,
) -> None:
    """List the server processes, and tell which one leads."""
    config = configure(ctx, server, output, profile)
    from atm_cli.output import write_many
    from atm_cli.views import SERVERS

    with connected(config) as client:
        write_many(config.output, SERVERS, client.list_servers())


def stats(
    ctx: typer.Context,
    server: ServerOption = None,
    output: OutputOption = None,
    profile: ProfileOption = None,
) -> None:
    """Count tasks by state and by type, and the workers."""
    config = configure(ctx, server, output, profile)
    from atm_cli.output import write_many
    from atm_cli.views import COUNTS, counts

    with connected(config) as client:
        statistics = client.get_statistics()
        write_many(config.output, COUNTS, counts(statistics), document=statistics)
