"""`atm server` and `atm up`: the commands that serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atm_cli.operations import list_servers

ReflectionFlag = Annotated[
    bool | None,
    typer.Option(
        "--reflection/--no-reflection",
        show_default=False,
        help="Offer gRPC reflection (env ATM_REFLECTION; default: no).",
    ),
]
UnknownTypesFlag = Annotated[
    bool | None,
    typer.Option(
        "--accept-unknown-types/--refuse-unknown-types",
        show_default=False,
        help="Accept types that no worker has announced (env ATM_ACCEPT_UNKNOWN_TYPES; default: no).",
    ),
]


app = typer.Typer(invoke_without_command=True)
app.command("list")(list_servers)


@app.callback()
def server(
    ctx: typer.Context,
    server_id: Annotated[
        str | None, typer.Option("--id", help="This instance's name (env ATM_SERVER_ID; default: server-1).")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port of the gRPC API (env ATM_GRPC_PORT; default: 9090)."),
    ] = None,
    worker_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port for workers (env ATM_WORKER_PORT; default: 8080)."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on (env ATM_HOST; default: every interface).")
    ] = None,
    redis_addr: Annotated[
        str | None,
        typer.Option(
            "--redis", help="Redis: host:port or a redis:// URL (env REDIS_ADDR; default: localhost:6379)."
        ),
    ] = None,
    mysql_dsn: Annotated[
        str | None,
        typer.Option(
            "--mysql",
            help="SQL: user:password@tcp(host:3306)/database, or a URL like sqlite:///path (env MYSQL_DSN).",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the ports (env ATM_PROCESSES; default: 1)."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes to run beside the server (env ATM_WORKERS; default: 0)."),
    ] = None,
    worker_threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads of each of them (env ATM_WORKER_THREADS; default: 8)."
        ),
    ] = None,
    reflection: ReflectionFlag = None,
    accept_unknown_types: UnknownTypesFlag = None,
    upgrade_db: Annotated[
        bool | None,
        typer.Option(
            "--upgrade-db/--no-upgrade-db",
            show_default=False,
            help="Bring the schema up to date first (env ATM_UPGRADE_DB; default: no).",
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR (env ATM_LOG_LEVEL; default: INFO).")
    ] = None,
) -> None:
    """Serve the gRPC API, on a Redis and an SQL database that exist."""
    if ctx.invoked_subcommand is not None:
        return
    from atm.settings import Settings
    from atm.supervisor.init import split_from_init

    split_from_init()
    # Each parameter has the name of its setting.
    settings = Settings.load(**ctx.params)
    from atm.server.app import run

    raise typer.Exit(run(settings))


def up(
    ctx: typer.Context,
    data_dir: Annotated[
        Path, typer.Option(help="The folder that holds everything; tasks in it survive a restart.")
    ] = Path(".atm"),
    host: Annotated[
        str | None, typer.Option(help="The address to listen on (env ATM_HOST; default: 127.0.0.1).")
    ] = None,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="The port of the gRPC API.")] = 9090,
    worker_port: Annotated[int, typer.Option(min=0, max=65535, help="The port for workers.")] = 8080,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes.")] = 2,
    worker_threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each of them.")] = 8,
    reflection: ReflectionFlag = None,
    accept_unknown_types: UnknownTypesFlag = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run everything here: the server, its workers, and an embedded Redis and database. Ctrl-C stops it."""
    from atm.supervisor.init import split_from_init

    split_from_init()
    from atm.devserver import up as run_everything

    # As in `server`, parameters have the names of settings; all but the folder.
    raise typer.Exit(run_everything(**{**ctx.params, "data_dir": data_dir}))
