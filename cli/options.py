"""The options that every data command takes, and what they come to."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from atm_cli.config import Config, Flags, Output, resolve

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", "-s", metavar="HOST:PORT", show_default=False, help="The server to ask (env ATM_SERVER)."
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", show_default=False, help="How data is written (env ATM_OUTPUT)."),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        show_default=False,
        help="A profile of ~/.config/atm/config.toml (env ATM_PROFILE; ATM_CONFIG names another file).",
    ),
]


def configure(
    ctx: typer.Context,
    server: ServerOption = None,
    output: OutputOption = None,
    profile: ProfileOption = None,
) -> Config:
    """The configuration of a command: its own flags, then those before the command's name.

    Raises SettingsError.
    """
    # Before gRPC is loaded: its log would add lines to the one that says what is wrong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    before = ctx.find_root().obj
    flags = Flags(server=server, output=output, profile=profile)
    return resolve(flags.over(before) if isinstance(before, Flags) else flags)


def data_command(run: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the options of `configure`, too; `run` gets what they come to as `config`.

    Typer reads what a command takes from its signature, so the one of `run` is extended.
    """
    own = [
        item for item in inspect.signature(run, eval_str=True).parameters.values() if item.name != "config"
    ]
    context, *shared = inspect.signature(configure, eval_str=True).parameters.values()

    @functools.wraps(run)
    def command(
        ctx: typer.Context, server: str | None, output: Output | None, profile: str | None, **values: Any
    ) -> None:
        run(configure(ctx, server, output, profile), **values)

    signature = inspect.Signature([context, *own, *shared])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {item.name: item.annotation for item in signature.parameters.values()}
    return command
