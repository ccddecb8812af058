"""The command `atm`: its subcommands, and what happens to errors.

Only what `--help` needs is imported here; commands import the rest.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated, TextIO, cast

import typer

from atm import __version__
from atm.errors import AtmError
from atm.processes import open_standard_streams
from atm_cli import console, db, demo, doctor, exits, operations, serving, task
from atm_cli.config import Flags
from atm_cli.options import OutputOption, ProfileOption, ServerOption

app = typer.Typer(
    name="atm",
    help="ATM, a durable task manager.",
    no_args_is_help=True,
    # A traceback of a defect is for its report: plain, and without the values of variables.
    pretty_exceptions_enable=False,
)
app.add_typer(task.app, name="task")
app.add_typer(operations.worker_app, name="worker")
app.add_typer(serving.app, name="server")
app.add_typer(db.app, name="db")
app.command()(operations.stats)
app.command()(serving.up)
app.command()(demo.demo)
app.command()(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    server: ServerOption = None,
    output: OutputOption = None,
    profile: ProfileOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """ATM, a durable task manager.

    Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 permission, 5 conflict,
    6 unavailable, 7 timed out waiting, 8 the task failed, 9 the task was
    cancelled, 130 Ctrl-C.
    """
    ctx.obj = Flags(server=server, output=output, profile=profile)


@app.command()
def version() -> None:
    """Show the version."""
    console.write(f"atm {__version__}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (the process's own, if none is given) and returns its exit code."""
    # None where it is closed: then there is nothing to tell data to.
    stdout = sys.stdout
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks is shown as an escape instead of ending the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # For Rich and Typer, too.
    sys.stdout = cast("TextIO", console.Stdout(stdout))
    try:
        app(args=None if arguments is None else list(arguments), prog_name="atm")
    except exits.OutputError as error:
        if error.is_told:
            console.error([str(error)])
        return exits.ERROR
    except AtmError as error:
        console.error(exits.explain(error))
        return exits.code_of(error)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exits.ERROR if stop.code else exits.OK
    finally:
        sys.stdout = stdout
    return exits.OK
