"""Runs a task beside two others, an async and a plain one, which must not notice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fake_worker import FakeWorker, claimed, fetched, task_id

from atm.service.attempts import Report
from atm.service.outcomes import Failed, Outcome, Succeeded
from atm.states import Reason
from atm.worker.attempt import Attempt
from atm.worker.handlers import HandlerSpec

#: For what comes in milliseconds, on a machine that is busy.
PATIENCE = 60.0


class Beside:
    """A worker of three threads. Its tasks are of the type that `attempt` gives them."""

    def __init__(self, **options: Any) -> None:
        self.worker = FakeWorker(**options)
        self.worker.claimed = lambda claim: claimed(
            *claim, task_type=self._types[claim.task_id], payload=self.worker.payload
        )
        self._types: dict[str, str] = {}
        self._release = threading.Event()
        self._begun = threading.Semaphore(0)
        self.handle("beside_async", self._wait_async)
        self.handle("beside_plain", self._wait_plain)
        self.handle("after_async", _after)
        self.handle("after_plain", lambda context, payload: "after")

    def handle(self, task_type: str, function: Callable[..., Any], **options: Any) -> None:
        """The handler of a type."""
        self.worker.registry.add(HandlerSpec(task_type, function, **options))

    def attempt(self, task_type: str) -> Attempt:
        """A new attempt of a task of this type, handed out to a thread."""
        made = task_id()
        self._types[made] = task_type
        return self.worker.attempt(fetched(made))

    def run(self, function: Callable[..., Any], *, task_type: str = "culprit", **options: Any) -> Outcome:
        """How a task ended whose handler this is; nobody beside it, or after it, has noticed."""
        self.handle(task_type, function, **options)
        with ThreadPoolExecutor(3) as pool:
            others = [self.attempt(kind) for kind in ("beside_async", "beside_plain")]
            beside = [pool.submit(self.worker.process, other) for other in others]
            try:
                for _ in others:
                    assert self._begun.acquire(timeout=PATIENCE)
                culprit = self.attempt(task_type)
                pool.submit(self.worker.process, culprit).result(PATIENCE)
            finally:
                self._release.set()
            for processed in beside:
                processed.result(PATIENCE)
        assert [self.outcome(other) for other in others] == [
            Succeeded({"result": "async"}),
            Succeeded({"result": "plain"}),
        ]
        self.check_those_after()
        return self.outcome(culprit)

    def check_those_after(self) -> None:
        """Tasks that come later run, and nothing is left of any."""
        for kind in ("after_async", "after_plain"):
            later = self.attempt(kind)
            self.worker.process(later)
            assert self.outcome(later) == Succeeded({"result": "after"})
        assert self.worker.is_empty(), "its load is 0 again"

    def outcome(self, attempt: Attempt) -> Outcome:
        """How an attempt ended, once."""
        (end,) = [end for end in self.worker.ends.items if end.task_id == attempt.id.task_id]
        outcome: Outcome = end.outcome
        return outcome

    def reports(self, task_type: str) -> list[Report]:
        """What the tasks of a type said last."""
        return [end.report for end in self.worker.ends.items if self._types[end.task_id] == task_type]

    def close(self) -> None:
        """Ends its threads."""
        self.worker.close()

    async def _wait_async(self, context: Any, payload: Any) -> str:
        self._begun.release()
        while not self._release.is_set():
            await asyncio.sleep(0.001)
        return "async"

    def _wait_plain(self, context: Any, payload: Any) -> str:
        self._begun.release()
        assert self._release.wait(PATIENCE)
        return "plain"


async def _after(context: Any, payload: Any) -> str:
    return "after"


async def for_ever() -> None:
    """Ends only when it is cancelled."""
    await asyncio.sleep(600)


def doing(make: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[Any, Any], Coroutine[Any, Any, Any]]:
    """An async handler that does this."""

    async def function(context: Any, payload: Any) -> Any:
        return await make()

    return function


def handlers_error(outcome: Outcome) -> Failed:
    """The outcome, where it is the handler's own failure, which is tried again."""
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason is Reason.HANDLER_ERROR, outcome.error
    assert outcome.retryable, "as an exit of a plain handler"
    return outcome
