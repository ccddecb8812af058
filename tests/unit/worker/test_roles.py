"""What a worker does beside its tasks, one look at a time: logs, heartbeats, reconciling, its parent."""

from __future__ import annotations

import logging
import signal
import subprocess
import warnings
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from fake_worker import AWAY, FakeDatabase, FakeWorker, claimed, task_id
from fix_system import eventually

from atm.errors import UnavailableError
from atm.models import Worker, now
from atm.processes import Parent
from atm.service.attempts import AttemptService
from atm.service.outcomes import HandedBack, Succeeded, WorkerLost
from atm.states import Status, WorkerStatus
from atm.store.database import Database
from atm.worker import heartbeat as heartbeat_module
from atm.worker import orphan_watch as orphan_module
from atm.worker import reconciler as reconciler_module
from atm.worker.attempt import Attempt, AttemptId, State
from atm.worker.heartbeat import Heartbeat
from atm.worker.interruption import Kind
from atm.worker.log_flusher import LogFlusher
from atm.worker.orphan_watch import EXIT_SECONDS, OrphanWatch
from atm.worker.reconciler import Reconciler


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(waits=True)


@pytest.fixture
def service(worker: FakeWorker) -> AttemptService:
    return cast(AttemptService, worker.service)


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


# -- logs ----------------------------------------------------------------------


@pytest.fixture
def flusher(worker: FakeWorker, service: AttemptService) -> LogFlusher:
    return LogFlusher(worker.attempts, service)


def test_what_handlers_say_is_stored_while_they_run(worker: FakeWorker, flusher: LogFlusher) -> None:
    first, silent, last = (worker.running() for _ in range(3))
    first.log.line("one")
    last.log.progress(0.5, "half")
    flusher.run_once()
    assert [(task, number) for task, number, _ in worker.service.reports] == [first.id, last.id]
    flusher.run_once()
    assert len(worker.service.reports) == 2, "said once"
    assert not silent.log.take()


def test_without_sql_nothing_is_lost_and_the_order_kept(worker: FakeWorker, flusher: LogFlusher) -> None:
    attempts = [worker.running(), worker.running()]
    for attempt in attempts:
        attempt.log.line("1")
    attempts[0].log.progress(0.1, "old")
    worker.service.error = AWAY
    for number in (2, 3):
        with pytest.raises(UnavailableError):
            flusher.run_once()
        for attempt in attempts:
            attempt.log.line(str(number))
    attempts[0].log.progress(0.3, "new")
    worker.service.error = None
    flusher.run_once()
    assert worker.service.lines == ["1", "2", "3"] * 2
    progress = worker.service.reports[0][2].progress
    assert progress is not None
    assert progress.message == "new"


def test_what_cannot_be_stored_keeps_nobody_elses_lines(
    worker: FakeWorker, flusher: LogFlusher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd, beside = worker.running(), worker.running()
    odd.log.line("what SQL refuses")
    beside.log.line("mine")
    store = worker.service.report

    def refuse(task: str, number: int, report: Any) -> bool:
        if task == odd.id.task_id:
            raise ValueError("cannot be stored")
        return store(task, number, report)

    monkeypatch.setattr(worker.service, "report", refuse)
    flusher.run_once()
    assert worker.service.lines == ["mine"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    flusher.run_once()
    assert len(caplog.records) == 1, "it is not insisted on"


def test_what_is_said_last_is_stored_last_though_the_end_comes_meanwhile(
    worker: FakeWorker, flusher: LogFlusher
) -> None:
    attempt = worker.running()
    attempt.log.line("first")
    flusher.run_once()
    attempt.log.line("last")
    worker.completer.complete(attempt, Succeeded({}))
    flusher.run_once()
    assert worker.service.lines == ["first"]
    assert [line.message for line in worker.ends.items[0].report.lines] == ["last"]


# -- the registry --------------------------------------------------------------


class _Registry:
    """The statements on `worker`."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, WorkerStatus]] = {}

    def register(self, connection: Any, row: Worker) -> None:
        assert row.worker_id not in self.rows
        self.rows[row.worker_id] = (row.load, WorkerStatus(row.status))

    def beat(self, connection: Any, row: Worker) -> bool:
        if row.worker_id not in self.rows:
            return False
        self.rows[row.worker_id] = (row.load, WorkerStatus(row.status))
        return True

    def remove(self, connection: Any, worker_id: str) -> bool:
        return self.rows.pop(worker_id, None) is not None


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> _Registry:
    made = _Registry()
    monkeypatch.setattr(heartbeat_module, "workers", made)
    return made


@pytest.fixture
def heartbeat(worker: FakeWorker, database: FakeDatabase, registry: _Registry) -> Heartbeat:
    at = now()
    row = Worker(
        worker_id="w",
        host="h",
        pid=1,
        capacity=8,
        task_types=[],
        version="1",
        started_at=at,
        last_heartbeat_at=at,
    )
    return Heartbeat(cast(Database, database), worker.attempts, row, 2.0)


def test_a_worker_is_in_the_registry_from_its_start_to_its_end(
    worker: FakeWorker, heartbeat: Heartbeat, registry: _Registry
) -> None:
    heartbeat.start()
    worker.running()
    worker.running()
    heartbeat.run_once()
    assert registry.rows == {"w": (2, WorkerStatus.RUNNING)}
    usual = heartbeat.interval
    heartbeat.drain()
    # Nobody is kept from stopping by a database that hangs: the next heartbeat says so, and comes soon.
    assert heartbeat.interval < usual
    heartbeat.run_once()
    assert registry.rows == {"w": (2, WorkerStatus.DRAINING)}
    heartbeat.stop()
    assert not registry.rows


def test_a_worker_that_was_given_up_on_registers_again(heartbeat: Heartbeat, registry: _Registry) -> None:
    heartbeat.start()
    registry.rows.clear()
    heartbeat.run_once()
    assert registry.rows == {"w": (0, WorkerStatus.RUNNING)}


def test_without_sql_a_heartbeat_says_so_and_a_worker_leaves_nevertheless(
    heartbeat: Heartbeat, database: FakeDatabase, registry: _Registry, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat.start()
    database.error = AWAY
    with pytest.raises(UnavailableError):
        heartbeat.run_once()
    heartbeat.drain()
    heartbeat.stop()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    database.error = None
    heartbeat.run_once()
    assert registry.rows == {"w": (0, WorkerStatus.DRAINING)}


# -- reconciling ---------------------------------------------------------------


class _Tasks:
    """The statements on `task`: what SQL says of those that run here."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}

    def put(self, attempt_id: AttemptId, status: Status = Status.PROCESSING, cancelled_by: str = "") -> None:
        self.rows[attempt_id.task_id] = SimpleNamespace(
            task_id=attempt_id.task_id,
            status=status,
            attempt=attempt_id.number,
            cancel_requested_at=now() if cancelled_by else None,
            cancel_requested_by=cancelled_by,
        )

    def states(self, connection: Any, ids: list[str]) -> dict[str, Any]:
        return {task: self.rows[task] for task in ids if task in self.rows}

    def held_by(self, connection: Any, worker_id: str, most: int) -> list[Any]:
        assert worker_id == "worker-1"
        return [row for row in self.rows.values() if row.status is Status.PROCESSING][:most]


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> _Tasks:
    made = _Tasks()
    monkeypatch.setattr(reconciler_module, "tasks", made)
    return made


@pytest.fixture
def reconciler(
    worker: FakeWorker, database: FakeDatabase, service: AttemptService, tasks: _Tasks
) -> Reconciler:
    return Reconciler(cast(Database, database), worker.attempts, service, 2.0)


def _kind(attempt: Attempt) -> Kind | None:
    return attempt.interruption and attempt.interruption.kind


def test_what_holds_its_task_goes_on(worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks) -> None:
    attempt = worker.running()
    tasks.put(attempt.id)
    for _ in range(20):
        reconciler.run_once()
    assert attempt.interruption is None
    assert not worker.service.finished


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PROCESSING])
def test_what_holds_its_task_no_longer_is_revoked(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks, status: Status
) -> None:
    attempt = worker.running()
    tasks.put(attempt.id, status)
    reconciler.run_once()
    assert _kind(attempt) is Kind.REVOKED


def test_what_others_try_again_or_was_deleted_is_revoked(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    attempt, deleted = worker.running(), worker.running()
    tasks.put(AttemptId(attempt.id.task_id, 2))
    reconciler.run_once()
    assert _kind(attempt) is _kind(deleted) is Kind.REVOKED


def test_what_was_cancelled_is_interrupted_though_redis_lost_the_flag(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    attempt = worker.running()
    tasks.put(attempt.id, cancelled_by="ann")
    reconciler.run_once()
    assert attempt.interruption is not None
    assert (attempt.interruption.kind, attempt.interruption.requested_by) == (Kind.CANCEL, "ann")


def test_what_runs_nowhere_is_handed_back_after_two_looks(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    lost = AttemptId(task_id(), 1)
    tasks.put(lost)
    reconciler.end_untracked()
    assert not worker.service.finished, "it may just be claimed or ended"
    reconciler.end_untracked()
    (end,) = worker.service.finished
    assert end[:2] == lost
    assert isinstance(end.outcome, HandedBack)


def test_what_is_here_again_at_the_second_look_is_left_alone(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    task = claimed(task_id())
    tasks.put(AttemptId(task.task_id, 1))
    reconciler.end_untracked()
    worker.running(task)
    reconciler.end_untracked()
    reconciler.end_untracked()
    assert not worker.service.finished


@pytest.mark.parametrize("state", [State.CLAIMED, State.RUNNING, State.ENDING])
def test_what_is_on_its_way_is_left_alone(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks, state: State
) -> None:
    attempt = worker.attempt()
    worker.attempts.step(attempt, State.CLAIMED if state is State.CLAIMED else State.RUNNING)
    if state is State.ENDING:
        worker.attempts.step(attempt, state)
    tasks.put(attempt.id)
    for _ in range(3):
        reconciler.end_untracked()
    assert not worker.service.finished


def test_what_could_not_be_stored_is_lost_and_then_forgotten(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    attempt = worker.running()
    tasks.put(attempt.id)
    worker.completer.complete(attempt, Succeeded({}))
    worker.ends.commit(AWAY)
    assert attempt.state is State.UNSTORED
    reconciler.end_untracked()
    reconciler.end_untracked()
    (end,) = worker.service.finished
    assert isinstance(end.outcome, WorkerLost)
    tasks.put(attempt.id, Status.PENDING)
    reconciler.end_untracked()
    assert attempt.state is State.STORED
    assert not worker.attempts.unstored()


def test_what_could_not_be_stored_and_was_taken_by_others_is_forgotten(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    attempt = worker.running()
    worker.completer.complete(attempt, Succeeded({}))
    worker.ends.commit(AWAY)
    reconciler.end_untracked()
    assert attempt.state is State.STORED
    assert not worker.service.finished


def test_without_sql_nothing_is_ended_and_the_looks_are_made_later(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks, database: FakeDatabase
) -> None:
    tasks.put(AttemptId(task_id(), 1))
    reconciler.end_untracked()
    database.error = AWAY
    with pytest.raises(UnavailableError):
        reconciler.run_once()
    database.error = None
    reconciler.end_untracked()
    assert len(worker.service.finished) == 1


def test_untracked_ones_are_looked_for_now_and_then(
    worker: FakeWorker, reconciler: Reconciler, tasks: _Tasks
) -> None:
    tasks.put(AttemptId(task_id(), 1))
    looks = 0
    while not worker.service.finished:
        reconciler.run_once()
        looks += 1
        assert looks <= 2 * reconciler_module._LOOKS
    assert looks == 2 * reconciler_module._LOOKS


# -- the parent ----------------------------------------------------------------


def test_a_worker_whose_parent_lives_goes_on() -> None:
    assert OrphanWatch(Parent()).run_once() is False


def test_a_worker_whose_parent_is_gone_stops_and_ends_for_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = OrphanWatch(cast(Parent, SimpleNamespace(is_gone=True)))
    done: list[Any] = []
    monkeypatch.setattr(
        orphan_module,
        "os",
        SimpleNamespace(
            getpid=lambda: 4711,
            kill=lambda pid, number: done.append((pid, number)),
            _exit=lambda code: done.append(code),
        ),
    )
    monkeypatch.setattr(orphan_module, "time", SimpleNamespace(sleep=done.append))
    watch.run_once()
    assert done == [(4711, signal.SIGTERM), EXIT_SECONDS, 1]


def test_children_that_a_handler_forgot_are_reaped_and_others_are_left_to_who_waits_for_them() -> None:
    kept = subprocess.Popen(["sh", "-c", "exit 3"])
    forgotten = _forget()
    watch = OrphanWatch(Parent())

    def reaped() -> bool:
        watch.run_once()
        return not psutil.pid_exists(forgotten)

    eventually(reaped)
    assert kept.wait() == 3


def _forget() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return subprocess.Popen(["sleep", "0.1"]).pid
