"""Stores what handlers have said while they run."""

from __future__ import annotations

import logging

from atm.errors import UnavailableError
from atm.service.attempts import AttemptService
from atm.worker.attempt import Attempt, Attempts

logger = logging.getLogger(__name__)


class LogFlusher:
    """A role that writes the lines and the progress of running attempts to SQL."""

    #: How long a line waits for others before it is stored.
    interval = 0.2

    def __init__(self, attempts: Attempts, service: AttemptService) -> None:
        self._attempts = attempts
        self._service = service

    def run_once(self) -> bool:
        """Writes what there is to write. Raises UnavailableError; what was said is kept then."""
        for attempt in self._attempts.running():
            self._flush(attempt)
        return False

    def _flush(self, attempt: Attempt) -> None:
        with attempt.log.writing:
            report = attempt.log.take()
            if not report:
                return
            try:
                self._service.report(*attempt.id, report)
            except UnavailableError:
                attempt.log.put_back(report)
                raise
            except Exception:
                # It is not insisted on, so that it does not keep what others have said.
                logger.exception("task %s: what its handler said cannot be stored", attempt.id.task_id)
