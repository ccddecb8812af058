"""Everything that one worker process has, and the order in which it starts and stops."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dramatiq import Worker as DramatiqWorker

from atm._version import __version__
from atm.batching.group_commit import GATHER_SECONDS, GroupCommit
from atm.broker.broker import TaskBroker
from atm.broker.cancel_flags import CancelFlags
from atm.errors import UnavailableError
from atm.models import Worker, now
from atm.processes import settle
from atm.service.attempts import Attempts, size_of
from atm.service.outcomes import HandedBack
from atm.settings import Settings
from atm.store import types
from atm.store.database import Database
from atm.worker.claims import Claims, Commits
from atm.worker.execution import Execution, unstorable
from atm.worker.executors import Executor
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.process import ProcessExecutor
from atm.worker.executors.thread import ThreadExecutor
from atm.worker.handlers import Registry
from atm.worker.heartbeat import fork_heartbeat
from atm.worker.interruption import Kind
from atm.worker.reporter import Reporter
from atm.worker.running import RunningAttempts
from atm.worker.unbegun import Unbegun
from atm.worker.watcher import Watcher

logger = logging.getLogger(__name__)

#: How long handlers that were told that the worker stops may take to end.
STOP_SECONDS = 2.0
#: A process whose parent is gone does not wait for its handlers: nobody would
#: stop it, and its database and Redis may be going too.
ORPHAN_DRAIN_SECONDS = 0.2
#: ... and is gone after this long, whatever it is doing.
ORPHAN_EXIT_SECONDS = 6.0
#: How long a worker that stops still begins with what it has claimed: five times
#: what a dispenser looks ahead.
AHEAD_DRAIN_SECONDS = 0.2
_ORPHAN_LOOK_SECONDS = 0.5
#: One each for starts, ends, watcher, reporter, and what is handed back at the end.
_CONNECTIONS = 5


class WorkerRuntime:
    """Built when `atm.actors` is imported, started in the worker process: nothing is opened before a fork."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.worker_id = f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.running = RunningAttempts()
        self._registry = registry
        self._parent = os.getppid()
        self._stopped = threading.Event()
        self._executors: dict[str, Executor] = {
            "thread": ThreadExecutor(),
            "async": CoroutineExecutor(),
            "process": ProcessExecutor(),
        }

    def start(self, broker: TaskBroker, worker: DramatiqWorker) -> None:
        """Opens the database and announces the worker and its types.

        Raises SchemaBehindError and UnavailableError.
        """
        self._unbegun = Unbegun()
        fork_heartbeat(self.settings, self.worker_id, self._unbegun)
        try:
            self._start(broker, worker)
        except BaseException:
            # There is nothing that the heartbeat's process would have to end.
            self._unbegun.leave()
            raise

    def _start(self, broker: TaskBroker, worker: DramatiqWorker) -> None:
        # Alembic, which it imports, speaks when it is imported: after the log is set up.
        from atm.store import schema

        threads = worker.worker_threads
        self._database = Database(self.settings.sql_url, pool_size=_CONNECTIONS)
        schema.require(self._database)
        for spec in self._registry.specs():
            types.announce(self._database, spec.task_type, spec.defaults())
        self.attempts = Attempts(self._database, self.worker_id)
        # Two: while one waits for the database, the other's statements are made.
        self._starts = self._commits("atm-start", 0.0)  # what was fetched together comes together
        self._ends = self._commits("atm-end", GATHER_SECONDS)
        claims = Claims(
            self._starts,
            self._ends,
            self._unbegun,
            broker.acknowledge_later,
            # Not heard of for the lease, a worker is given up on.
            too_old=self.settings.worker_lease_seconds / 2,
        )
        self.execution = Execution(self._ends, claims, self._registry, self.running, self._executors)
        flags = CancelFlags(broker.client, broker.namespace)
        self._watcher = Watcher(self.running, flags, self.attempts)
        self._reporter = Reporter(
            self._database,
            self.attempts,
            self.running,
            self._unbegun,
            self._row(threads),
            self.settings.heartbeat_seconds,
        )
        self._reporter.start()
        self._watcher.start()
        threading.Thread(target=self._look_for_parent, name="atm-parent", daemon=True).start()
        self._starts.start()
        self._ends.start()
        broker.acknowledger.start()
        broker.dispenser.claim = claims.ask
        broker.dispenser.hand_back = claims.hand_back
        broker.dispenser.capacity = threads
        settle()
        logger.info("worker %s takes tasks, %d at a time", self.worker_id, threads)

    def _commits(self, name: str, gather: float) -> Commits:
        return GroupCommit(
            self._database.write,
            self.attempts.settle,
            name=name,
            alone=lambda change, error: self.attempts.finish_all([unstorable(change, error)])[0],
            insist=True,
            gather=gather,
            size=size_of,
        )

    def drain(self, broker: TaskBroker) -> None:
        """Takes no more tasks. What runs may go on for the drain time, and is handed back then."""
        broker.dispenser.stop()
        broker.wake()
        # What is claimed ahead is short work, as far as is known: it is done rather than handed back.
        self._none_within(AHEAD_DRAIN_SECONDS, lambda: len(self._unbegun))
        broker.give_back()
        self._reporter.drain()
        threading.Thread(target=self._hand_back, args=(broker,), name="atm-drain", daemon=True).start()

    def stop(self, broker: TaskBroker) -> None:
        """Nothing runs any more: commits what is left, leaves the registry and closes everything."""
        self._stopped.set()
        # In this order: what was claimed last is still ended.
        self._starts.close()
        self._ends.close()
        self._leave()
        broker.acknowledger.close()
        self._watcher.stop()
        self._reporter.stop()
        for executor in self._executors.values():
            executor.close()
        self._database.close()
        logger.info("worker %s has left", self.worker_id)

    def _leave(self) -> None:
        """Ends what is still held and got no thread. Without SQL the heartbeat's process does it."""
        with suppress(UnavailableError):
            released = self.attempts.release(self._unbegun.all())
            if released:
                logger.warning("%d attempts were still held: they are ended", released)
            self._unbegun.leave()

    def _row(self, threads: int) -> Worker:
        at = now()
        return Worker(
            worker_id=self.worker_id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            capacity=threads,
            task_types=[spec.task_type for spec in self._registry.specs()],
            version=__version__,
            started_at=at,
            last_heartbeat_at=at,
        )

    @property
    def _orphaned(self) -> bool:
        return os.getppid() != self._parent

    def _hand_back(self, broker: TaskBroker) -> None:
        """Ends what still runs when the drain time is over; the task goes to another worker."""
        drain = ORPHAN_DRAIN_SECONDS if self._orphaned else self.settings.drain_seconds
        # What begins, what runs, and what ends but is not stored yet.
        done = self._none_within(drain, lambda: len(self._unbegun) + len(self.running.held()))
        # Threads that wait for an SQL that is away wait no longer.
        self._starts.hurry()
        self._ends.hurry()
        if done:
            return
        for attempt in self.running.all():
            attempt.interrupt(Kind.DRAIN)
        if self._none_within(STOP_SECONDS, lambda: len(self.running)):
            return
        for attempt in self.running.all():
            task = attempt.task
            logger.warning("task %s (%s) does not stop; it is handed back", task.task_id, task.task_type)
            try:
                with attempt.journal.writing:
                    outcome = HandedBack("its worker stops; the handler did not react")
                    self.attempts.finish(task.task_id, task.attempt, outcome, attempt.journal.take())
            except UnavailableError:
                logger.warning("it is not: the database cannot be reached; it is missed later")
        # Threads that do not end would keep the process; their tasks are someone else's now.
        self.stop(broker)
        os._exit(0)

    def _none_within(self, seconds: float, count: Callable[[], int]) -> bool:
        end = time.monotonic() + seconds
        while count() and time.monotonic() < end:
            if self._stopped.wait(0.01):
                return True
        return not count()

    def _look_for_parent(self) -> None:
        while not self._stopped.wait(_ORPHAN_LOOK_SECONDS):
            if self._orphaned:
                logger.warning("the process that started this worker is gone: it stops")
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(ORPHAN_EXIT_SECONDS)
                os._exit(1)
