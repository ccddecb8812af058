"""A worker in the test's own process, between fakes of Redis, SQL, Dramatiq's threads and the clock."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.worker import WorkerThread
from pydantic import TypeAdapter

from atm.batching.reply import Reply
from atm.broker.broker import TaskBroker
from atm.broker.message import FetchedMessage, task_message
from atm.errors import AtmError, BrokerUnavailableError, UnavailableError
from atm.lists import TaskList
from atm.models import now
from atm.service.attempts import AttemptService, Claim, ClaimedTask, End, Report
from atm.service.outcomes import Cancelled, Failed, HandedBack, Outcome, Succeeded, TimedOut
from atm.states import Status
from atm.store.clock import DatabaseClock
from atm.store.database import Database
from atm.store.waiting import Due
from atm.worker.attempt import Attempt, AttemptId, Attempts, State
from atm.worker.claim_ledger import ClaimLedger
from atm.worker.claims import Claims
from atm.worker.completer import Commits, Completer
from atm.worker.consumer import AttemptConsumer, AttemptMessage
from atm.worker.execution import Execution
from atm.worker.executors import Executor
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.thread import ThreadExecutor
from atm.worker.handlers import HandlerRegistry, HandlerSpec
from atm.worker.middleware.cancel import Cancel
from atm.worker.middleware.retries import Retries
from atm.worker.prefetcher import Prefetcher
from atm.worker.runtime import WorkerRuntime
from atm.worker.sources import Sources

_NUMBERS = itertools.count(1)


def task_id() -> str:
    """The id of a task that no other test has."""
    return f"{next(_NUMBERS):036d}"


def fetched(task: str = "", attempt: int = 1, *, cancelled: bool = False) -> FetchedMessage:
    """A message as Redis gives it out."""
    return FetchedMessage(task_message(task or task_id(), attempt, TaskList("work", 0)), cancelled)


def claimed(
    task: str,
    attempt: int = 1,
    *,
    task_type: str = "work",
    timeout_ms: int = 0,
    payload: Mapping[str, str] | None = None,
    started_at: datetime | None = None,
) -> ClaimedTask:
    """What SQL answers to a claim."""
    return ClaimedTask(
        *(task, task_type, attempt, 0, 3, 0, timeout_ms),
        payload=payload or {},
        started_at=started_at or now(),
    )


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @classmethod
    def of(cls, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
        """A clock that these modules go by."""
        made = cls()
        for module in modules:
            monkeypatch.setattr(module, "time", made)
        return made


class FakeBroker:
    """Redis, with these messages in it."""

    def __init__(self, waiting: Iterable[FetchedMessage] = ()) -> None:
        self.waiting = deque(waiting)
        self.wanted: list[int] = []
        self.requeued: list[FetchedMessage] = []
        self.acknowledged: list[FetchedMessage] = []
        self.ended: list[str] = []
        self.is_away = self.is_full = False

    def fetch(self, lists: Sequence[TaskList], wanted: int, streak: int) -> tuple[int, list[FetchedMessage]]:
        self._answer()
        self.wanted.append(wanted)
        return streak, [self.waiting.popleft() for _ in range(min(wanted, len(self.waiting)))]

    def wait(self, lists: Sequence[TaskList], seconds: float) -> None:
        self._answer()

    def requeue(self, messages: Sequence[FetchedMessage], *, last: bool = False) -> None:
        self._answer()
        self.requeued += messages
        if last:
            self.waiting.extend(messages)
        else:
            self.waiting.extendleft(reversed(messages))

    def acknowledge_later(self, fetched: FetchedMessage, *, ended: bool = False) -> None:
        self.acknowledged.append(fetched)
        if ended:
            self.ended.append(str(fetched.message.args[0]))

    def probe(self) -> None:
        self._answer()
        if self.is_full:
            raise BrokerUnavailableError("full")

    def _answer(self) -> None:
        if self.is_away:
            raise BrokerUnavailableError("away")


class FakeDueTasks:
    """SQL, with these tasks due in it; raises `error`."""

    def __init__(self) -> None:
        self.due: list[Due] = []
        self.error: Exception | None = None
        self.clock = DatabaseClock()

    def read(self, look: Callable[[Any], Any]) -> list[Due]:
        if self.error is not None:
            raise self.error
        return list(self.due)


class FakeCommits:
    """Group commit: keeps what was submitted, and answers when it is told to, or at once with `answer`."""

    def __init__(self, answer: Callable[[Any], Any] | None = None) -> None:
        self.submitted: list[tuple[Any, Reply[Any]]] = []
        self.answer = answer
        #: What is raised for whatever comes.
        self.refusal: AtmError | None = None

    def __len__(self) -> int:
        return 0

    def submit(self, item: Any, reply: Reply[Any]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append((item, reply))
        if self.answer is not None:
            reply.set_result(self.answer(item))

    def ask(self, items: Sequence[Any]) -> list[Reply[Any]]:
        replies: list[Reply[Any]] = [Reply() for _ in items]
        for item, reply in zip(items, replies, strict=True):
            self.submit(item, reply)
        return replies

    @property
    def items(self) -> list[Any]:
        """What was submitted."""
        return [item for item, _ in self.submitted]

    def commit(self, result: Any = None) -> None:
        """Answers everything that has no answer yet."""
        for _, reply in self.submitted:
            if not reply.answered:
                if isinstance(result, Exception):
                    reply.set_exception(result)
                else:
                    reply.set_result(result)


def status_of(end: End) -> Status:
    """The state that a task without a retry gets by this end."""
    match end.outcome:
        case Succeeded():
            return Status.SUCCESS
        case TimedOut():
            return Status.TIMEOUT
        case Cancelled():
            return Status.CANCELLED
        case HandedBack():
            return Status.PENDING
        case _:
            return Status.FAILED


class FakeService:
    """Attempts in SQL: keeps what it was told; raises `error`, where it is set."""

    worker_id = "worker-1"

    def __init__(self) -> None:
        self.finished: list[End] = []
        self.reports: list[tuple[str, int, Report]] = []
        self.error: Exception | None = None

    def finish(
        self, task_id: str, attempt: int, outcome: Outcome, report: Report | None = None
    ) -> Status | None:
        if self.error is not None:
            raise self.error
        self.finished.append(End(task_id, attempt, outcome, report or Report()))
        return status_of(self.finished[-1])

    def report(self, task_id: str, attempt: int, report: Report) -> bool:
        if self.error is not None:
            raise self.error
        self.reports.append((task_id, attempt, report))
        return True

    @property
    def lines(self) -> list[str]:
        """Every line that was stored, in its order."""
        return [line.message for _, _, report in self.reports for line in report.lines]


AWAY = UnavailableError("SQL is away")


def attempt_of(message: FetchedMessage) -> Attempt:
    """The attempt that a message asks for."""
    return Attempt(AttemptId(*message.message.args), message)


class FakeWorker:
    """All of a worker but its roles. SQL answers at once, or, with `waits`, when the test has it commit."""

    def __init__(
        self,
        waiting: Iterable[FetchedMessage] = (),
        *,
        threads: int = 4,
        waits: bool = False,
        claims_ahead: bool = True,
        executors: Mapping[str, Executor] | None = None,
        payload: Mapping[str, str] | None = None,
    ) -> None:
        self.broker = FakeBroker(waiting)
        self.payload = payload
        #: What SQL answers to a claim; see `claimed`.
        self.claimed: Callable[[Claim], Any] = lambda claim: claimed(*claim, payload=self.payload)
        self.starts = FakeCommits(None if waits else lambda claim: self.claimed(claim))
        self.ends = FakeCommits(None if waits else status_of)
        self.service = FakeService()
        self.ledger = ClaimLedger()
        self.attempts = Attempts(self.ledger)
        self.registry = HandlerRegistry()
        broker, starts = cast(TaskBroker, self.broker), cast(Commits, self.starts)
        ends, service = cast(Commits, self.ends), cast(AttemptService, self.service)
        self.completer = Completer(self.attempts, ends, service, broker)
        #: What SQL says of a claim that is old, and whether it answers at all.
        self.is_ours, self.is_cut_off = True, False
        self.claims = Claims(
            self.attempts,
            starts,
            self.completer,
            too_old=4,
            is_ours=lambda _: self.is_ours,
            now=now,
        )
        self._executors = executors or {"thread": ThreadExecutor(), "async": CoroutineExecutor()}
        self.execution = Execution(self.claims, self.completer, self.registry, self._executors)
        ahead = self.claims if claims_ahead else cast(Claims, _NoClaims())
        self.due_tasks = FakeDueTasks()
        self.sources = Sources(broker, cast(Database, self.due_tasks), self.attempts, ["work"])
        self.prefetcher = Prefetcher(
            self.sources, self.attempts, ahead, self.completer, threads, lambda: self.is_cut_off
        )
        self.consumer = AttemptConsumer("normal", self.prefetcher, self.completer)
        self._dramatiq = self._threads()

    def _threads(self) -> WorkerThread:
        """One of Dramatiq's worker threads, not started: the test is the thread."""
        runtime = cast(WorkerRuntime, SimpleNamespace(completer=self.completer))
        broker = StubBroker(middleware=[Cancel(), Retries(runtime)])
        dramatiq.actor(self.execution.run, actor_name="run_normal", queue_name="normal", broker=broker)
        queue = SimpleNamespace(task_done=lambda: None)
        ends = SimpleNamespace(post_process_message=self.consumer.ack)
        return WorkerThread(
            broker=broker,
            consumers=cast(Any, {"normal": ends}),
            work_queue=cast(Any, queue),
            worker_timeout=1000,
        )

    def handle(self, function: Callable[..., Any], **options: Any) -> None:
        """The handler of every task, in the place of the one before it."""
        if options.get("payload_model") is not None:
            options["payload_model"] = TypeAdapter(options["payload_model"])
        self.registry._specs.clear()
        self.registry.add(HandlerSpec("work", function, **options))

    def attempt(self, message: FetchedMessage | None = None) -> Attempt:
        """A new attempt, fetched and handed out to a thread."""
        made = attempt_of(message or fetched())
        assert self.attempts.add([made]) == [made]
        assert self.attempts.hand_out() is made
        return made

    def running(self, task: ClaimedTask | None = None) -> Attempt:
        """An attempt whose handler is being called."""
        task = task or claimed(task_id())
        made = self.attempt(fetched(task.task_id, task.attempt))
        assert self.attempts.step(made, State.RUNNING)
        made.prepare(task)
        return made

    def process(self, attempt: Attempt) -> None:
        """What a thread of Dramatiq does with an attempt that was handed out to it, its own code included."""
        try:
            self._dramatiq.process_message(AttemptMessage(attempt))
        except BaseException as error:
            died = type.__repr__(type(error))
        else:
            return
        # Not from the error: pytest would look at it.
        raise AssertionError(f"the thread died: {died}")

    def run(self, message: FetchedMessage | None = None) -> Attempt:
        """An attempt that was processed from its message to its end."""
        made = self.attempt(message)
        self.process(made)
        return made

    def outcome(self) -> Outcome:
        """How the one attempt that has ended did."""
        (end,) = self.ends.items
        assert isinstance(end, End)
        return end.outcome

    def failure(self) -> Failed:
        """The same, where it failed."""
        outcome = self.outcome()
        assert isinstance(outcome, Failed), outcome
        return outcome

    def is_empty(self) -> bool:
        """Whether nothing is left of any attempt."""
        left = (self.attempts.held(), self.attempts.unbegun(), self.attempts.unstored(), self.ledger.all())
        return not any(left) and not self.attempts.load and not self.attempts.out_count

    def close(self) -> None:
        """Ends its threads."""
        for executor in self._executors.values():
            executor.close()


class _NoClaims:
    def ask(self, attempts: Sequence[Attempt]) -> None:
        return None


def messages(count: int) -> Iterator[FetchedMessage]:
    """As many messages, of tasks that are numbered from 0."""
    return (fetched(f"{number:036d}") for number in range(count))


class FakeDatabase:
    """SQL without tables: `work` gets no connection, and finds fakes of the statements. Raises `error`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.clock = DatabaseClock()

    def compare_clocks(self) -> None:
        """Raises `error`."""
        self.write(lambda _: None)

    def write(self, work: Callable[[Any], Any]) -> Any:
        """What `work` returns."""
        if self.error is not None:
            raise self.error
        return work(None)

    read = write


class FakeFlags:
    """Cancel flags, and the channel on which they are told, as `CancelFlags`."""

    def __init__(self) -> None:
        #: Of tasks, with who asked.
        self.raised: dict[str, str] = {}
        #: What the channel gives out; None: nothing, for as long as was waited.
        self.channel: deque[str | None] = deque()
        self.asked: list[Sequence[str]] = []
        self.is_away = False
        self.is_closed = False

    def of(self, task_ids: Sequence[str]) -> dict[str, str]:
        self._answer()
        self.asked.append(task_ids)
        return {task_id: self.raised[task_id] for task_id in task_ids if task_id in self.raised}

    def subscription(self) -> FakeFlags:
        return self

    def next(self, seconds: float) -> str | None:
        self._answer()
        return self.channel.popleft() if self.channel else None

    def close(self) -> None:
        self.is_closed = True

    def _answer(self) -> None:
        if self.is_away:
            raise BrokerUnavailableError("away")
