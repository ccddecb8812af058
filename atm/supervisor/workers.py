"""The command that runs one worker process: Dramatiq's own."""

from __future__ import annotations

import sys

from atm.settings import Settings
from atm.supervisor.supervisor import Command

#: What a worker takes beside its drain time: Dramatiq looks once a second
#: whether it shall stop, and handlers that do not react get two more.
_STOP_SECONDS = 8.0


def worker_commands(settings: Settings) -> list[Command]:
    """One command for each worker process: they fail, and are started again, one by one."""
    stop_seconds = settings.drain_seconds + _STOP_SECONDS
    arguments = [
        *(sys.executable, "-m", "dramatiq", "atm.actors"),
        *("--processes", "1", "--threads", str(settings.worker_threads)),
        *("--worker-shutdown-timeout", str(round(stop_seconds * 1000))),
    ]
    return [
        Command(f"worker {number}", arguments, settings.environment(), stop_seconds + 2)
        for number in range(1, settings.workers + 1)
    ]
