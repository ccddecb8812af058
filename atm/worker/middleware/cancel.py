"""Skips the messages of tasks whose cancel flag is up."""

from __future__ import annotations

import logging
from typing import Any

import redis
from dramatiq import Middleware
from dramatiq.middleware import SkipMessage

from atm.worker.runtime import WorkerRuntime

logger = logging.getLogger(__name__)


class Cancel(Middleware):
    """A task that was cancelled while it waited never starts. Running ones: see atm.worker.watcher."""

    def __init__(self, runtime: WorkerRuntime) -> None:
        self._runtime = runtime

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Looks for the flag. Without Redis the message goes on: SQL refuses to start a cancelled task."""
        task_id = message.args[0]
        try:
            cancelled = task_id in self._runtime.flags.of([task_id])
        except redis.RedisError as error:
            logger.warning("the cancel flag of %s cannot be read (%s); SQL decides", task_id, error)
            return
        if cancelled:
            raise SkipMessage(f"task {task_id} was cancelled")
