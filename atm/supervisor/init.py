"""What the first process of a container owes it: reaping orphans, and passing signals on."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def split_from_init() -> None:
    """Where this process is PID 1, leaves that to a parent, and returns in a new process.

    Processes whose parent has ended become children of PID 1, and stay zombies
    until it waits for them. A server cannot: it would take their exit codes
    from whoever waits for its own children. The parent waits for all, passes
    signals on, and ends as the new process does, which ends the container.
    """
    if os.getpid() != 1:
        return
    # Until there is somebody to pass them on to, they wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        # A terminal sends its signals to the whole group: they would come twice.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        return
    os._exit(_stand_over(child))


def _stand_over(child: int) -> int:
    """Reaps whatever ends until the child does. Its exit code, as a shell would give it."""

    def pass_on(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
