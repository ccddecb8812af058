"""Signals to stop, in the processes of a worker: they drain it, once, however often and wherever they come.

A worker is several processes, and a signal may be sent to all of them
(systemd does so), to one, or twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

#: What Dramatiq's worker stops for: SIGHUP is its master's order to begin anew.
STOPS = (signal.SIGTERM, signal.SIGHUP)
#: What is sent to all processes of a terminal or a service, and is meant for the worker.
_FOR_THE_WORKER = (*STOPS, signal.SIGINT, signal.SIGQUIT)


class StopSignals:
    """Stands before Dramatiq's handlers in a worker process: the first signal drains, others change nothing.

    Dramatiq's worker ends at once at the second one; and its master hands on
    what the worker may have got already.
    """

    def __init__(self) -> None:
        self._dramatiq: Callable[[int, FrameType | None], Any] | None = None
        self._told = False

    def take_over(self) -> None:
        """Takes over from Dramatiq, in its main thread; in another program nothing happens.

        Called again, it takes over from a module of handlers that has set
        handlers of its own when it was imported.
        """
        for number in STOPS:
            current = signal.getsignal(number)
            if current == self._stop:
                continue
            if self._dramatiq is None:
                if not callable(current) or getattr(current, "__module__", "") != "dramatiq.cli":
                    return
                self._dramatiq = current
                os.register_at_fork(after_in_child=self._leave_child)
            elif getattr(current, "__module__", "") != "dramatiq.cli":
                logger.warning(
                    "a module has set a handler for %s: the worker sets its own", signal.Signals(number).name
                )
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._told or self._dramatiq is None:
            return
        self._told = True
        # It raises SystemExit where it was told before this handler was there.
        with contextlib.suppress(SystemExit):
            self._dramatiq(number, frame)

    def _leave_child(self) -> None:
        """A process that a handler has forked stops when it is told to, as `multiprocessing` relies on."""
        _set(STOPS, signal.SIG_DFL, where=self._stop)
        signal.set_wakeup_fd(-1)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A process that is started meanwhile gets no signal to stop before it calls `ignore_stops`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_WORKER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stops() -> None:
    """Signals to stop change nothing in this process: its worker tells it when to end.

    By a handler that does nothing: what the process starts stops at signals as
    usual. Code that sets handlers of its own gets the signals.
    """
    _set(_FOR_THE_WORKER, _do_nothing)
    os.register_at_fork(after_in_child=lambda: _set(_FOR_THE_WORKER, signal.SIG_DFL, where=_do_nothing))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_WORKER)


def _set(numbers: tuple[signal.Signals, ...], handler: Any, where: Any = None) -> None:
    for number in numbers:
        if where is None or signal.getsignal(number) == where:
            signal.signal(number, handler)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
