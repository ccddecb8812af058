"""Group commit: shared, bounded, answered after the commit, and nobody fails for another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

import pytest
from fix_system import eventually
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from atm.batching.group_commit import MOST, GroupCommit
from atm.errors import ExhaustedError, UnavailableError
from atm.models import TaskConfig, now
from atm.store.database import Database, DuplicateError
from atm.store.types import CONFIG


class _Rows:
    """Adds types by name; remembers how many came together. While `gate` is down, it waits inside."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, connection: Connection, items: Sequence[str]) -> list[str]:
        self.batches.append(len(items))
        self.entered.set()
        assert self.gate.wait(10)
        for name in items:
            connection.execute(insert(CONFIG), TaskConfig(task_type=name, updated_at=now()).model_dump())
        return list(items)


Make = Callable[..., GroupCommit[str, str]]


@pytest.fixture
def rows() -> _Rows:
    return _Rows()


@pytest.fixture
def make(database: Database, rows: _Rows) -> Iterator[Make]:
    made: list[GroupCommit[str, str]] = []

    def build(**options: Any) -> GroupCommit[str, str]:
        transact = options.pop("transact", database.write)
        made.append(GroupCommit(transact, rows, name="test", **options))
        made[-1].start()
        return made[-1]

    yield build
    rows.gate.set()
    for commits in made:
        commits.close()


def _names(database: Database) -> set[str]:
    return set(database.read(lambda c: c.execute(select(CONFIG.c.task_type)).scalars().all()))


def _submit(commits: GroupCommit[str, str], *names: str) -> list[Future[str]]:
    futures: list[Future[str]] = [Future() for _ in names]
    for name, future in zip(names, futures, strict=True):
        commits.submit(name, future)
    return futures


def test_what_arrives_during_a_commit_shares_the_next_one(
    make: Make, rows: _Rows, database: Database
) -> None:
    commits = make()
    rows.gate.clear()
    first = _submit(commits, "first")
    assert rows.entered.wait(10)
    others = _submit(commits, *(f"n{n}" for n in range(MOST + 10)))
    assert not any(future.done() for future in first + others)
    rows.gate.set()
    wait(first + others, 20)
    assert rows.batches == [1, MOST, 10]
    assert {future.result() for future in others} <= _names(database)


def test_nothing_is_answered_before_its_commit(make: Make, rows: _Rows, database: Database) -> None:
    seen: list[bool] = []
    commits = make(committed=lambda results: seen.append(set(results) <= _names(database)))
    future = _submit(commits, "a")[0]
    future.add_done_callback(lambda _: seen.append(True))
    assert future.result(10) == "a"
    assert seen == [True, True]


def test_one_that_fails_fails_alone(make: Make, database: Database) -> None:
    commits = make()
    _submit(commits, "there")[0].result(10)
    futures = _submit(commits, *(f"m{n}" for n in range(30)), "there", *(f"k{n}" for n in range(30)))
    wait(futures, 20)
    assert [isinstance(future.exception(), DuplicateError) for future in futures].count(True) == 1
    assert isinstance(futures[30].exception(), DuplicateError)
    assert {f"m{n}" for n in range(30)} | {f"k{n}" for n in range(30)} <= _names(database)


def test_one_that_fails_may_be_answered_otherwise(make: Make) -> None:
    commits = make(alone=lambda name, error: f"{name}: {type(error).__name__}")
    assert [f.result(10) for f in _submit(commits, "x", "x")] == ["x", "x: DuplicateError"]


def test_when_too_many_wait_the_next_is_turned_away(make: Make, rows: _Rows) -> None:
    commits = make(capacity=5)
    rows.gate.clear()
    _submit(commits, "first")
    assert rows.entered.wait(10)
    _submit(commits, *(f"n{n}" for n in range(5)))
    with pytest.raises(ExhaustedError) as caught:
        _submit(commits, "one too many")
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "TOO_BUSY")
    assert caught.value.retry_after == 1.0


def test_a_caller_that_has_gone_gets_nothing_written(make: Make, rows: _Rows, database: Database) -> None:
    commits = make()
    rows.gate.clear()
    _submit(commits, "first")
    assert rows.entered.wait(10)
    gone, stays = _submit(commits, "gone", "stays")
    gone.cancel()
    rows.gate.set()
    stays.result(10)
    assert "gone" not in _names(database)


def test_a_database_that_is_away_is_said_or_waited_for(make: Make, database: Database) -> None:
    away = threading.Event()
    away.set()

    def transact(work: Callable[[Connection], Any]) -> Any:
        if away.is_set():
            raise UnavailableError("away", reason="DATABASE_UNAVAILABLE")
        return database.write(work)

    with pytest.raises(UnavailableError):
        _submit(make(transact=transact), "impatient")[0].result(10)
    patient = _submit(make(transact=transact, insist=lambda: True), "patient")[0]
    assert not wait([patient], 0.7).done
    away.clear()
    assert patient.result(10) == "patient"


def test_a_caller_that_fails_on_its_answer_fails_alone(make: Make) -> None:
    commits = make()

    def fail(_reply: Any) -> None:
        raise ValueError("a caller's own mistake")

    replies = commits.ask(["a", "b"])
    replies[0].add_done_callback(fail)
    assert [reply.result() for reply in replies] == ["a", "b"]
    assert commits.call("c") == "c"


def test_who_hurries_does_not_wait_for_a_database_that_is_away(make: Make) -> None:
    def away(work: Callable[[Connection], Any]) -> Any:
        raise UnavailableError("away", reason="DATABASE_UNAVAILABLE")

    commits = make(transact=away, insist=lambda: True)
    patient = _submit(commits, "patient")[0]
    assert not wait([patient], 0.2).done
    commits.hurry()
    assert isinstance(patient.exception(10), UnavailableError)


def test_closing_commits_what_was_submitted(make: Make, rows: _Rows, database: Database) -> None:
    commits = make()
    rows.gate.clear()
    futures = _submit(commits, *(f"n{n}" for n in range(20)))
    closing = threading.Thread(target=commits.close)
    closing.start()
    rows.gate.set()
    closing.join(10)
    assert {future.result(0) for future in futures} <= _names(database)
    with pytest.raises(UnavailableError):
        _submit(commits, "too late")


def test_many_threads_all_get_their_own_answer(make: Make, rows: _Rows, database: Database) -> None:
    commits = make()
    answers: dict[str, str] = {}

    def work(thread: int) -> None:
        for n in range(25):
            name = f"t{thread}-{n}"
            answers[name] = commits.call(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 400
    assert all(name == answer for name, answer in answers.items())
    assert set(answers) <= _names(database)
    eventually(lambda: len(rows.batches) < 400)
