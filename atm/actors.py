"""What `dramatiq atm.actors` runs: one actor for each priority.

Importing it reads the settings from the environment and imports the handlers.
"""

from __future__ import annotations

import logging
import sys

import dramatiq

from atm import logs
from atm.broker import keys
from atm.errors import AtmError
from atm.escape import visible
from atm.processes import UNUSABLE_SETTINGS, Parent, die_with_parent
from atm.settings import Settings
from atm.worker.attempt import Attempt
from atm.worker.consumer import WorkerBroker
from atm.worker.handlers import load
from atm.worker.middleware.cancel import Cancel
from atm.worker.middleware.lifecycle import Lifecycle
from atm.worker.middleware.retries import Retries
from atm.worker.output import use_in_worker
from atm.worker.runtime import WorkerRuntime
from atm.worker.signals import StopSignals

# Before handlers are imported, which may take long: a worker that boots drains, too, and goes with
# its master.
_signals = StopSignals()
_signals.take_over()
if (_parent := Parent()).is_told:
    die_with_parent(parent=_parent.nearest)

# Before the handlers' modules, which may print.
use_in_worker()
# Dramatiq has set the log up before it imports this.
logs.make_visible()
try:
    _settings = Settings.load()
    _runtime = WorkerRuntime(_settings, load(_settings.handlers))
except AtmError as error:
    print(f"atm worker: {visible(str(error))}", file=sys.stderr)
    raise SystemExit(UNUSABLE_SETTINGS) from error

logging.getLogger("atm").setLevel(_settings.log_level)
logging.getLogger("alembic").setLevel(logging.WARNING)

broker = WorkerBroker(
    _settings.redis_url,
    _runtime,
    prefix=_settings.redis_prefix,
    middleware=[Lifecycle(_runtime, _signals), Cancel(), Retries(_runtime)],
    consumer_timeout=_settings.worker_lease_seconds,
)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name=keys.actor_of(keys.HIGH_QUEUE), queue_name=keys.HIGH_QUEUE)
def run_high(attempt: Attempt) -> None:
    """Runs one attempt of a High task."""
    _runtime.execution.run(attempt)


@dramatiq.actor(actor_name=keys.actor_of(keys.NORMAL_QUEUE), queue_name=keys.NORMAL_QUEUE)
def run_normal(attempt: Attempt) -> None:
    """Runs one attempt of a Normal task."""
    _runtime.execution.run(attempt)
