"""`atm demo`: walks through what ATM does, and checks what it shows."""

from __future__ import annotations

import typer

from atm_cli import console, exits
from atm_cli.config import Config
from atm_cli.options import ProfileOption, ServerOption, configure
from atm_cli.session import connected


def demo(ctx: typer.Context, server: ServerOption = None, profile: ProfileOption = None) -> None:
    """Walk through eight cases, and check each of them.

    Against the server that --server, ATM_SERVER or a profile names; without
    one, against a server that is started for it in a temporary folder. The
    exit code is 1 when a case does not hold.
    """
    config = configure(ctx, server, None, profile)
    if config.server_given:
        raise typer.Exit(_run(config))
    from atm.devserver import embedded

    console.words("no server was named: starting one, with two workers, in a temporary folder")
    with embedded(workers=2) as address:
        code = _run(Config(server=address, server_given=True, output=config.output))
    raise typer.Exit(code)


def _run(config: Config) -> int:
    from atm_cli.demo_cases import CASES
    from atm_cli.demo_run import DemoRun

    with connected(config) as client:
        passed = DemoRun(client, config.server).run(CASES)
    return exits.OK if passed else exits.ERROR
