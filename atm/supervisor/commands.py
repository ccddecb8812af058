"""The commands of server processes that share their ports, and of worker processes: Dramatiq's own."""

from __future__ import annotations

from atm.processes import python_command
from atm.settings import Settings
from atm.supervisor.supervisor import Command

#: What a server takes to stop beside its grace.
_SERVER_STOP_SECONDS = 10.0
#: What a worker takes beside its drain time: Dramatiq looks once a second
#: whether it shall stop, and handlers that do not react get two more.
_WORKER_STOP_SECONDS = 8.0


def server_commands(settings: Settings) -> list[Command]:
    """One command for each process; the kernel spreads connections over them."""
    return [
        Command(
            f"server process {number}",
            python_command("atm_cli", "server"),
            settings.environment(
                server_id=f"{settings.server_id}/{number}",
                processes=1,
                share_ports=True,
                workers=0,
                upgrade_db=False,
            ),
            settings.shutdown_grace_seconds + _SERVER_STOP_SECONDS,
        )
        for number in range(1, settings.processes + 1)
    ]


def worker_commands(settings: Settings) -> list[Command]:
    """One command for each worker process: they fail, and are started again, one by one."""
    stop_seconds = settings.drain_seconds + _WORKER_STOP_SECONDS
    arguments = python_command(
        "dramatiq",
        "atm.actors",
        *("--processes", "1", "--threads", str(settings.worker_threads)),
        *("--worker-shutdown-timeout", str(round(stop_seconds * 1000))),
        # None: Dramatiq's default is to look for modules in the current folder before all others.
        "--path",
    )
    return [
        Command(f"worker {number}", arguments, settings.environment(), stop_seconds + 2)
        for number in range(1, settings.workers + 1)
    ]
