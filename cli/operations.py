"""`atm worker list`, `atm server list` and `atm stats`: what runs, and how much there is."""

from __future__ import annotations

import typer

from atm_cli import console
from atm_cli.config import Config
from atm_cli.options import data_command
from atm_cli.output import write_many
from atm_cli.session import connected
from atm_cli.views import COUNTS, SERVERS, WORKERS, counts

worker_app = typer.Typer(help="Look at the workers.", no_args_is_help=True)


@worker_app.callback()
def _worker() -> None:
    # Without a callback, an app of one command would be that command.
    """Look at the workers."""


@worker_app.command("list")
@data_command
def list_workers(config: Config) -> None:
    """List the worker processes, with their load."""
    with connected(config) as client:
        workers = client.list_workers()
        write_many(config.output, WORKERS, workers)
    if not workers:
        console.words(
            "no worker has registered; `dramatiq atm.actors` or `atm server --workers 2` starts some"
        )


@data_command
def list_servers(config: Config) -> None:
    """List the server processes, and tell which one leads."""
    with connected(config) as client:
        write_many(config.output, SERVERS, client.list_servers())


@data_command
def stats(config: Config) -> None:
    """Count tasks by state and by type, and the workers."""
    with connected(config) as client:
        statistics = client.get_statistics()
        write_many(config.output, COUNTS, counts(statistics), document=statistics)
