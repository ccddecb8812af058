"""Everything that one worker process has, and the order in which it starts and stops."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dramatiq import Worker as DramatiqWorker

from atm._version import __version__
from atm.background import Runner
from atm.batching.group_commit import GATHER_SECONDS, GroupCommit
from atm.broker.broker import TaskBroker
from atm.broker.cancel_flags import CancelFlags
from atm.errors import BrokerUnavailableError, UnavailableError
from atm.models import Worker
from atm.processes import Parent, freeze_heap, outlive_parent
from atm.service.attempts import AttemptService, size_of
from atm.settings import Settings
from atm.store import schema, types
from atm.store.database import Database
from atm.worker.attempt import AttemptId, Attempts
from atm.worker.claim_ledger import ClaimLedger, ledger_file
from atm.worker.claims import Claims
from atm.worker.completer import Commits, Completer, unstorable
from atm.worker.drain import STOP_SECONDS, Drain
from atm.worker.execution import Execution
from atm.worker.executors import Executor
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.process import ProcessExecutor
from atm.worker.executors.thread import ThreadExecutor
from atm.worker.handlers import HandlerRegistry
from atm.worker.heartbeat import Heartbeat
from atm.worker.heartbeat_keeper import HeartbeatKeeper
from atm.worker.interrupter import CancelListener, Interrupter
from atm.worker.limits import Limits
from atm.worker.log_flusher import LogFlusher
from atm.worker.loop_watchdog import LoopWatchdog
from atm.worker.orphan_watch import OrphanWatch
from atm.worker.prefetcher import Prefetcher
from atm.worker.reconciler import Reconciler
from atm.worker.retirement import Retirement
from atm.worker.sources import Sources
from atm.worker.stuck_threads import StuckThreads

logger = logging.getLogger(__name__)

#: A process whose parent is gone does not wait for its handlers: nobody would
#: stop it, and its database and Redis may be going too.
ORPHAN_DRAIN_SECONDS = 0.2
#: How long a worker that stops still begins with what it has claimed: five times
#: what its prefetcher looks ahead.
AHEAD_DRAIN_SECONDS = 0.2
#: One each for starts, ends, heartbeat, flusher, reconciler, interrupter, what is taken from SQL, and what
#: is handed back at the end.
_CONNECTIONS = 8


class WorkerRuntime:
    """Built when `atm.actors` is imported, started in the worker process: nothing is opened before a fork."""

    prefetcher: Prefetcher
    completer: Completer
    execution: Execution

    def __init__(self, settings: Settings, registry: HandlerRegistry) -> None:
        self.settings = settings
        self.worker_id = f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._registry = registry
        self._parent = Parent()
        self._retirement = Retirement(self._parent)
        self._leaving = threading.Lock()
        self._stopped = threading.Event()
        self._coroutines = CoroutineExecutor()
        self._executors: dict[str, Executor] = {
            "thread": ThreadExecutor(),
            "async": self._coroutines,
            "process": ProcessExecutor(),
        }

    def start(self, broker: TaskBroker, worker: DramatiqWorker) -> None:
        """Opens the database and announces the worker and its types.

        Raises SchemaBehindError and UnavailableError.
        """
        self._ledger = ClaimLedger(ledger_file())
        self._heartbeat_keeper = HeartbeatKeeper(self.settings, self.worker_id, self._ledger, self._parent)
        self._heartbeat_keeper.fork()
        try:
            self._start(broker, worker.worker_threads)
        except BaseException:
            # There is nothing that the heartbeat's process would have to end.
            self._ledger.close()
            raise

    def _start(self, broker: TaskBroker, threads: int) -> None:
        settings = self.settings
        database = self._database = Database(settings.sql_url, pool_size=_CONNECTIONS)
        schema.require(database)
        for spec in self._registry.specs():
            types.announce(database, spec.task_type, spec.defaults())
        service = self._service = AttemptService(database, self.worker_id)
        attempts = self._attempts = Attempts(self._ledger)
        # Two: while one waits for the database, the other's statements are made.
        # What was fetched together comes together; whoever is cut off begins with nothing.
        self._starts = self._commits("atm-start", 0.0, insist=lambda: not self._is_cut_off())
        self._ends = self._commits("atm-end", GATHER_SECONDS, insist=lambda: True)
        self.completer = Completer(attempts, self._ends, service, broker)
        # Not heard of for the lease, a worker is given up on.
        claims = Claims(
            attempts,
            self._starts,
            self.completer,
            too_old=settings.worker_lease_seconds / 2,
            is_ours=self._is_ours,
            now=database.clock.now,
        )
        sources = Sources(broker, database, attempts, [spec.task_type for spec in self._registry.specs()])
        self._redis = sources.watch
        self.prefetcher = Prefetcher(sources, attempts, claims, self.completer, threads, self._is_cut_off)
        self.execution = Execution(
            claims, self.completer, self._registry, self._executors, database.clock.now
        )
        self._heartbeat = Heartbeat(database, attempts, self._row(threads), settings.heartbeat_seconds)
        self._cancel_listener = CancelListener(attempts, CancelFlags(broker.client, broker.namespace))
        self._roles = Runner(
            [
                self._heartbeat,
                self._cancel_listener,
                Interrupter(attempts, self.completer),
                LoopWatchdog(self._coroutines),
                sources.watch,
                LogFlusher(attempts, service),
                Reconciler(database, attempts, service, settings.heartbeat_seconds),
                OrphanWatch(self._parent),
                self._heartbeat_keeper,
                StuckThreads(attempts, self._retirement, threads),
                Limits(attempts, self._retirement, settings.max_tasks, settings.max_memory_mb),
            ]
        )
        self._drain = Drain(attempts, self.completer, self._stopped, self._hurry)
        self._heartbeat.start()
        for part in (self._starts, self._ends, broker, self._roles):
            part.start()
        # From here on the worker looks itself, and stops in order.
        outlive_parent()
        freeze_heap()
        logger.info("worker %s takes tasks, %d at a time", self.worker_id, threads)

    def _is_cut_off(self) -> bool:
        """Whether SQL has not answered for the lease: then others give this worker up."""
        return self._database.silent_for() > self.settings.worker_lease_seconds

    def _is_ours(self, attempt_id: AttemptId) -> bool:
        """Whether SQL says so, and will: after a heartbeat nobody gives this worker up.

        Raises UnavailableError.
        """
        self._heartbeat.run_once()
        return self._service.holds(*attempt_id)

    def _commits(self, name: str, gather: float, insist: Callable[[], bool]) -> Commits:
        return GroupCommit(
            self._database.write,
            self._service.apply,
            name=name,
            alone=lambda change, error: self._service.finish_all([unstorable(change, error)])[0],
            insist=insist,
            gather=gather,
            size=size_of,
        )

    def drain(self, broker: TaskBroker) -> None:
        """Takes no more tasks. What runs may go on for the drain time, and is handed back then."""
        self._retirement.drains()
        self._heartbeat_keeper.stops()
        self.prefetcher.stop()
        # Without Redis nobody waits for it.
        if self._redis.gives:
            with suppress(BrokerUnavailableError):
                broker.wake()
        # What is claimed ahead is short work, as far as is known: it is done rather than handed back.
        self._drain.none_within(AHEAD_DRAIN_SECONDS, self._attempts.claimed_count)
        self.prefetcher.hand_back_all()
        self._heartbeat.drain()
        threading.Thread(target=self._end_drain, args=(broker,), name="atm-drain", daemon=True).start()

    def stop(self, broker: TaskBroker) -> int:
        """Nothing runs any more: commits what is left, leaves the registry and closes everything.

        Returns the process's exit code.
        """
        with self._leaving:
            if not self._stopped.is_set():
                self._leave(broker)
        return self._retirement.leave()

    def _leave(self, broker: TaskBroker) -> None:
        self.prefetcher.hand_back_all()
        self._stopped.set()
        # In this order: what was claimed last is still ended.
        self._starts.close()
        self._ends.close()
        self._end_held()
        self._roles.stop()
        self._cancel_listener.close()
        self._heartbeat.stop()
        for executor in self._executors.values():
            executor.close()
        broker.close()
        self._database.close()
        logger.info("worker %s has left", self.worker_id)

    def _end_held(self) -> None:
        """Ends what is still held and got no thread. Without SQL the heartbeat's process does it."""
        with suppress(UnavailableError):
            ended = self._service.end_abandoned(self._ledger.all())
            if ended:
                logger.warning("%d attempts were still held: they are ended", ended)
            self._ledger.close()

    def _row(self, threads: int) -> Worker:
        at = self._database.clock.now()
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

    def _end_drain(self, broker: TaskBroker) -> None:
        """Ends what still runs when the drain time is over; the task goes to another worker."""
        seconds = ORPHAN_DRAIN_SECONDS if self._parent.is_gone else self.settings.drain_seconds
        end = time.monotonic() + seconds + STOP_SECONDS
        if self._drain.run(seconds):
            # Dramatiq ends the process. Threads that handlers have left behind would keep it.
            time.sleep(max(0.0, end - time.monotonic()))
            os._exit(self._retirement.exit_code)
        # Threads that do not end would keep the process.
        os._exit(self.stop(broker))

    def _hurry(self) -> None:
        """Threads that wait for an SQL that is away wait no longer."""
        self._starts.hurry()
        self._ends.hurry()
