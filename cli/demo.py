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
        raise typer.Exit(_tour(config))
    from atm.devserver import embedded

    console.words("no server was named: starting one, with two workers, in a temporary folder")
    with embedded(workers=2) as address:
        code = _tour(Config(server=address, server_given=True, output=config.output))
    raise typer.Exit(code)


def _tour(config: Config) -> int:
    from atm_cli.tour import Tour
    from atm_cli.tour_cases import CASES

    with connected(config) as client:
        passed = Tour(client, config.server).run(CASES)
    return exits.OK if passed else exits.ERROR
