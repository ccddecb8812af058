"""Starts and stops what a worker process has, at the moments that Dramatiq tells."""

from __future__ import annotations

import logging
import sys
from typing import Any

from dramatiq import Middleware

from atm.errors import AtmError
from atm.escape import visible
from atm.worker.output import end_boot
from atm.worker.runtime import WorkerRuntime
from atm.worker.signals import StopSignals

logger = logging.getLogger(__name__)

#: How often Dramatiq's threads look whether the worker stops, in milliseconds: it
#: would be once a second, and the worker's end waits for the slowest.
_LOOK_MS = 200


class Lifecycle(Middleware):
    """Announces the worker before its threads start, and lets it leave after they have ended."""

    def __init__(self, runtime: WorkerRuntime, signals: StopSignals) -> None:
        self._runtime = runtime
        self._signals = signals

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """The process is forked, its threads are not started."""
        # Once more: handlers were imported meanwhile.
        self._signals.take_over()
        worker.worker_timeout = min(worker.worker_timeout, _LOOK_MS)
        try:
            self._runtime.start(broker, worker)
        except AtmError as error:
            # Dramatiq would log another exception and let the worker run half made.
            sys.exit(f"atm worker: {visible(str(error))}")
        except Exception:
            logger.exception("the worker cannot start")
            sys.exit(1)

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """The threads are started. The main process reads what they print from now on."""
        end_boot()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """The threads still run, and end their attempts."""
        self._runtime.drain(broker)

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """The threads have ended."""
        code = self._runtime.stop(broker)
        if code:
            sys.exit(code)
