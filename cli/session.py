"""A command's connection to the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from atm.errors import AtmError
from atm_cli import console, exits
from atm_cli.config import Config

if TYPE_CHECKING:
    from atm.client import Client


@contextmanager
def connected(config: Config) -> Iterator[Client]:
    """A client of the configured server.

    An error of ATM inside the block is told on stderr, and ends the command
    with its exit code.
    """
    from atm.client import Client

    with Client(config.server) as client:
        try:
            yield client
        except exits.OutputError:
            raise
        except AtmError as error:
            console.error(exits.explain(error, config.server))
            raise typer.Exit(exits.code_of(error)) from error
