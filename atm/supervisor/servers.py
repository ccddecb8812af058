"""The commands of server processes that share their ports."""

from __future__ import annotations

import sys

from atm.settings import Settings
from atm.supervisor.supervisor import Command

#: What a server takes to stop beside its grace.
_STOP_SECONDS = 10.0


def server_commands(settings: Settings) -> list[Command]:
    """One command for each process; the kernel spreads connections over them."""
    return [
        Command(
            f"server process {number}",
            [sys.executable, "-m", "atm_cli", "server"],
            settings.environment(
                server_id=f"{settings.server_id}/{number}",
                processes=1,
                share_ports=True,
                workers=0,
                upgrade_db=False,
            ),
            settings.shutdown_grace_seconds + _STOP_SECONDS,
        )
        for number in range(1, settings.processes + 1)
    ]
