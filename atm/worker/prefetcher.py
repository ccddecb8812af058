"""The prefetcher: which messages a worker process fetches, how far ahead, and what it hands to its threads.

Dramatiq runs a consumer thread per queue and prefetches a number of messages
for each. Here one of these threads takes for all queues, and looks ahead by
time, not by number: as many messages as the process's threads will start
within AHEAD_SECONDS, going by how long the last tasks took and the running
ones have taken. Tasks of a millisecond are fetched by the dozen, tasks of a
second one by one. So nothing waits here for long while a thread elsewhere is
free, and a High task that arrives is soon next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from atm.errors import BrokerUnavailableError
from atm.worker.attempt import Attempt, Attempts
from atm.worker.claims import Claims
from atm.worker.completer import Completer
from atm.worker.sources import Sources

logger = logging.getLogger(__name__)

#: The longest that a consumer blocks: shorter than connection.ANSWER_SECONDS.
#: It bounds how often an idle process speaks; one that stops is woken.
BLOCK_SECONDS = 1.0
#: How much work a process may hold beyond what its threads do, in seconds.
AHEAD_SECONDS = 0.04
#: ... and in messages. HANDED_AHEAD of them for each thread are handed out
#: already, so that a thread that is free need not wait for another thread to
#: bring it the next one.
MOST_AHEAD = 128
HANDED_AHEAD = 4
#: An attempt that waits here for this long, because the tasks before it turned
#: out to be long, is left to other workers.
STALE_SECONDS = 0.25
#: The weight of a task that was shorter than those before, in how long tasks take.
_SHORTER = 0.03
#: How often a consumer of a worker that stops asks whether it shall end.
_STOPPING_SECONDS = 0.01
#: A process whose threads are all busy tells Redis at least this often that it lives.
_SIGN_OF_LIFE_SECONDS = 1.0


class Prefetcher:
    """Fetches, has claimed, and hands out. `capacity` is the number of the process's threads.

    While `is_cut_off` says that SQL does not answer this process, others may
    have what waits here, and nothing is fetched.
    """

    def __init__(
        self,
        sources: Sources,
        attempts: Attempts,
        claims: Claims,
        completer: Completer,
        capacity: int,
        is_cut_off: Callable[[], bool],
    ) -> None:
        self._sources = sources
        #: From now on attempts of a queue are fetched, too; see `Sources.add_queue`.
        self.add_queue = sources.add_queue
        self._attempts = attempts
        self._claims = claims
        self._completer = completer
        self._capacity = capacity
        self._is_cut_off = is_cut_off
        self._was_cut_off = False
        # How long a task takes, in seconds.
        self._took = 1.0
        # How many are fetched ahead of the threads, and how many of these are handed out already.
        self._ahead = self._handed_ahead = 0
        self._looked_at = 0.0
        self._stopped = threading.Event()
        # Held by the consumer that takes, and by whoever hands things back.
        self._turn = threading.Lock()

    def stop(self) -> None:
        """Nothing is fetched from now on; what is here is still handed out."""
        self._stopped.set()
        self._attempts.wake()

    def wait_for_stop(self, seconds: float) -> None:
        """Returns after `seconds`, or soon after it is told to stop, or was told before."""
        if self._stopped.wait(seconds):
            time.sleep(_STOPPING_SECONDS)

    def take(self) -> Attempt | None:
        """The next attempt, or None when there was none for a while."""
        if not self._turn.acquire(timeout=BLOCK_SECONDS):
            return None
        try:
            attempts = self._attempts
            if self._stopped.is_set() and not attempts.ready_count:
                # A consumer thread asks again until it is told to end.
                time.sleep(_STOPPING_SECONDS)
                return None
            if self._leave_to_others():
                time.sleep(STALE_SECONDS)
                return None
            if time.monotonic() - self._looked_at >= STALE_SECONDS:
                self._hand_back_stale()
            ahead = self._handed_ahead
            patience = STALE_SECONDS if attempts.ready_count or ahead else _SIGN_OF_LIFE_SECONDS
            if not attempts.wait_for_thread(self._capacity + ahead, patience, self._stopped.is_set):
                self._look_after_what_waits()
                return None
            if attempts.ready_count <= self._ahead // 2 and not self._stopped.is_set():
                self._refill()
            if ahead and not self._first_is_claimed():
                self._look_after_what_waits()
                return None
            return attempts.hand_out()
        finally:
            self._turn.release()

    def thread_is_free(self, attempt: Attempt) -> None:
        """The thread that got this attempt is free."""
        if attempt.begun_at:
            took = time.monotonic() - attempt.begun_at
            # Up at once, down slowly: among tasks of which some are long, nothing is taken ahead.
            self._took = max(took, self._took + _SHORTER * (took - self._took))
        # The consumer is woken for several at a time, where several are handed out ahead.
        ahead = self._handed_ahead
        self._attempts.thread_is_free(attempt, enough=self._capacity + ahead - ahead // 2 - 1)

    def hand_back_all(self) -> None:
        """Leaves to other workers what no thread has begun with: the process stops.

        What Redis cannot be told is put back by `TaskBroker.recover`.
        """
        with self._turn:
            self._hand_back(self._attempts.unbegun(), "its worker stopped before it began")

    def _leave_to_others(self) -> bool:
        """Whether this process is cut off from SQL; then what it has not begun with is requeued."""
        is_cut_off = self._is_cut_off()
        if is_cut_off != self._was_cut_off:
            self._was_cut_off = is_cut_off
            if is_cut_off:
                logger.warning("SQL does not answer: what is not begun is left to others, no more is taken")
            else:
                logger.info("SQL answers again: tasks are taken again")
        if is_cut_off:
            self._hand_back(self._attempts.unbegun(), "its worker was cut off from SQL", unanswered=True)
            # What runs here goes on.
            self._say_that_it_lives()
        return is_cut_off

    def _hand_back_stale(self) -> None:
        """Leaves to other workers what has waited for long behind tasks that turned out to be long."""
        self._looked_at = time.monotonic()
        self._estimate()
        stale = self._attempts.unbegun(self._looked_at - STALE_SECONDS)
        self._hand_back(stale, "the threads of its worker were busy")

    def _hand_back(self, attempts: list[Attempt], why: str, *, unanswered: bool = False) -> None:
        if attempts:
            try:
                self._completer.hand_back(attempts, why, unanswered=unanswered)
            except BrokerUnavailableError as error:
                # Those that are not claimed stay.
                self._sources.watch.lost(error)
            finally:
                self._attempts.forget_begun()

    def _say_that_it_lives(self) -> None:
        if self._sources.watch.gives:
            try:
                self._sources.say_that_it_lives()
            except BrokerUnavailableError as error:
                self._sources.watch.lost(error)

    def _look_after_what_waits(self) -> None:
        """No thread is free."""
        self._hand_back_stale()
        self._say_that_it_lives()

    def _first_is_claimed(self) -> bool:
        """Waits until SQL has answered the claim of the next attempt; whether it has.

        The consumer waits here, so that the commit wakes one thread instead of every worker thread.
        """
        first = self._attempts.first_ready()
        return first is None or first.claim is None or first.claim.wait(STALE_SECONDS)

    def _estimate(self) -> None:
        """Sets `_ahead`: how many tasks the threads will start within AHEAD_SECONDS; and `_handed_ahead`.

        A thread counts as slow as the average, or as its current task if that
        is slower; only whole tasks count. So where tasks take longer than
        AHEAD_SECONDS, nothing is fetched ahead.
        """
        now = time.monotonic()
        busy = [now - begun_at for begun_at in self._attempts.begun_at()]
        took = max(self._took, 1e-6)
        free = max(0, self._capacity - len(busy))
        starts = free * int(AHEAD_SECONDS / took) + sum(int(AHEAD_SECONDS / max(took, t)) for t in busy)
        self._ahead = min(MOST_AHEAD, starts)
        self._handed_ahead = min(HANDED_AHEAD * self._capacity, self._ahead)

    def _refill(self) -> None:
        """Has as many claimed as the threads can use soon; waits for one if there is none."""
        self._estimate()
        ready = self._attempts.ready_count
        free = max(0, self._capacity - self._attempts.out_count)
        wanted = free + self._ahead - ready
        if wanted <= 0 and ready:
            return
        if found := self._sources.take(max(1, wanted)):
            self._claims.ask(self._attempts.add(found))
        elif not ready:
            self._sources.wait(STALE_SECONDS if self._attempts.unbegun() else BLOCK_SECONDS)
