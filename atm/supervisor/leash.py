"""`python -m atm.supervisor.leash PARENT COMMAND…`: runs a command that ends when its parent does.

`PARENT` is the parent's process id: it may have ended before this one began.

The kernel kills it on Linux. Elsewhere this process stays, watches its
parent, and kills the command itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from atm.processes import die_with_parent

_LOOK_SECONDS = 0.5


def main() -> None:
    """Becomes the command, or watches over it."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # It is inherited over exec.
        die_with_parent(signal.SIGKILL, parent)
        os.execvp(command[0], command)  # noqa: S606 - a list of arguments, no shell
    _watch(parent, command)


def _watch(parent: int, command: list[str]) -> None:
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    while child.poll() is None:
        if os.getppid() != parent:
            child.kill()
        time.sleep(_LOOK_SECONDS)
    sys.exit(child.returncode)


if __name__ == "__main__":
    main()
