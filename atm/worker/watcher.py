"""Stops what shall not go on: cancelled tasks, and attempts that are out of time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import redis

from atm.broker.cancel_flags import CancelFlags
from atm.errors import UnavailableError
from atm.service.attempts import Attempts
from atm.service.outcomes import TimedOut
from atm.worker.interruption import Kind
from atm.worker.running import RunningAttempt, RunningAttempts

logger = logging.getLogger(__name__)

#: How often deadlines are looked at and stubborn handlers pressed.
TICK_SECONDS = 0.05
#: How often the flags of all running tasks are read: what a lost message of the
#: channel costs. Being told takes 300 ms at the most.
FLAGS_SECONDS = 0.2
#: Between two tries to reach a Redis that is gone. SQL is looked at anyway.
RECONNECT_SECONDS = 1.0
#: How long after its deadline an attempt that does not react is given up on in SQL.
GIVE_UP_SECONDS = 2.0


class Watcher:
    """One thread that watches every running attempt of the process."""

    def __init__(self, running: RunningAttempts, flags: CancelFlags, attempts: Attempts) -> None:
        self._running = running
        self._flags = flags
        self._attempts = attempts
        self._stopping = threading.Event()
        self._subscription: redis.client.PubSub | None = None
        self._flags_at = 0.0
        self._redis_at = 0.0
        self._thread = threading.Thread(target=self._run, name="atm-watcher", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except Exception:
                logger.exception("the watcher failed; it goes on")
                self._stopping.wait(RECONNECT_SECONDS)

    def run_once(self) -> None:
        """Waits up to a tick for news, then looks at every attempt."""
        self._with_redis(self._listen)
        now = time.monotonic()
        if now - self._flags_at >= FLAGS_SECONDS:
            self._flags_at = now
            self._with_redis(self._read_flags)
        for attempt in self._running.all():
            if attempt.deadline is not None and now >= attempt.deadline:
                attempt.interrupt(Kind.TIMEOUT)
            attempt.press()
            self._give_up_if_stuck(attempt, now)

    def _with_redis(self, use: Callable[[], None]) -> None:
        if time.monotonic() < self._redis_at:
            self._stopping.wait(TICK_SECONDS)
            return
        try:
            use()
        except redis.RedisError as error:
            logger.warning("cancel flags cannot be read (%s); SQL is looked at instead", error)
            self._redis_at = time.monotonic() + RECONNECT_SECONDS
            self._subscription = None

    def _listen(self) -> None:
        if self._subscription is None:
            self._subscription = self._flags.subscribe()
        message = self._subscription.get_message(timeout=TICK_SECONDS)
        if message is not None and self._running.get(str(message["data"], "utf-8")) is not None:
            self._read_flags()

    def _read_flags(self) -> None:
        watched = [attempt for attempt in self._running.all() if attempt.interruption is None]
        raised = self._flags.of([attempt.task.task_id for attempt in watched])
        for attempt in watched:
            if attempt.task.task_id in raised:
                attempt.interrupt(Kind.CANCEL, raised[attempt.task.task_id])

    def _give_up_if_stuck(self, attempt: RunningAttempt, now: float) -> None:
        """Lets SQL know that the time is over, when the handler cannot be stopped: its thread stays."""
        interruption = attempt.interruption
        if attempt.given_up or interruption is None or interruption.kind is not Kind.TIMEOUT:
            return
        if now - interruption.at < GIVE_UP_SECONDS:
            return
        task = attempt.task
        outcome = TimedOut("it did not react, and still occupies a thread of its worker")
        try:
            with attempt.journal.writing:
                self._attempts.finish(task.task_id, task.attempt, outcome, attempt.journal.take())
        except UnavailableError:
            return  # at the next tick
        attempt.given_up = True
        logger.warning("task %s (%s) is over its time and does not stop", task.task_id, task.task_type)
