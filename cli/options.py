"""The options that every data command takes, and what they come to."""

from __future__ import annotations

import os
from typing import Annotated

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
    ctx: typer.Context, server: str | None, output: Output | None = None, profile: str | None = None
) -> Config:
    """The configuration of a command: its own flags, then those before the command's name.

    Raises SettingsError.
    """
    # Before gRPC is loaded: its log would add lines to the one that says what is wrong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    before = ctx.find_root().obj
    flags = Flags(server=server, output=output, profile=profile)
    return resolve(flags.over(before) if isinstance(before, Flags) else flags)
