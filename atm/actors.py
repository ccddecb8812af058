"""What `dramatiq atm.actors` runs: one actor for each priority.

Importing it reads the settings from the environment and imports the handlers.
"""

from __future__ import annotations

import logging

import dramatiq
from dramatiq.middleware import CurrentMessage

from atm.batching.reply import Reply
from atm.broker import keys
from atm.broker.broker import TaskBroker
from atm.errors import AtmError
from atm.service.attempts import Answer
from atm.settings import Settings
from atm.worker.execution import AttemptFailed
from atm.worker.handlers import load
from atm.worker.middleware.cancel import Cancel
from atm.worker.middleware.lifecycle import Lifecycle
from atm.worker.middleware.retries import Retries
from atm.worker.runtime import WorkerRuntime

try:
    _settings = Settings.load()
    _runtime = WorkerRuntime(_settings, load(_settings.handlers))
except AtmError as error:
    raise SystemExit(f"atm worker: {error}") from error

logging.getLogger("atm").setLevel(_settings.log_level)
logging.getLogger("alembic").setLevel(logging.WARNING)

broker = TaskBroker(
    _settings.redis_url,
    prefix=_settings.redis_prefix,
    middleware=[CurrentMessage(), Lifecycle(_runtime), Cancel(), Retries(_runtime)],
    consumer_timeout=_settings.worker_lease_seconds,
)
dramatiq.set_broker(broker)


def _claim() -> Reply[Answer] | None:
    """What was asked for when the message was fetched."""
    return getattr(CurrentMessage.get_current_message(), "claim", None)


# A failed attempt is in the task's history; in the worker's log one line is enough.
@dramatiq.actor(
    actor_name=keys.actor_of(keys.HIGH_QUEUE), queue_name=keys.HIGH_QUEUE, throws=(AttemptFailed,)
)
def run_high(task_id: str, attempt: int) -> None:
    """Runs one attempt of a High task."""
    _runtime.execution.run(task_id, attempt, _claim())


@dramatiq.actor(
    actor_name=keys.actor_of(keys.NORMAL_QUEUE), queue_name=keys.NORMAL_QUEUE, throws=(AttemptFailed,)
)
def run_normal(task_id: str, attempt: int) -> None:
    """Runs one attempt of a Normal task."""
    _runtime.execution.run(task_id, attempt, _claim())
