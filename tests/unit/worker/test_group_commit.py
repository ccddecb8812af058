"""Group commit answers every caller once, whatever becomes of the items beside theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from atm.batching import group_commit as module
from atm.batching.batcher import Batcher
from atm.batching.group_commit import GroupCommit
from atm.batching.reply import Reply
from atm.errors import ExhaustedError, UnavailableError


class _Sql:
    """A database that keeps what is committed: all of a transaction or nothing."""

    def __init__(self) -> None:
        self.commits: list[list[Any]] = []
        self.tries = 0
        self.error: Exception | None = None
        self.tried = threading.Event()
        #: Clear it to hold every transaction up.
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def transact(self, work: Callable[[Any], Any]) -> Any:
        self.tries += 1
        self.tried.set()
        assert self.may_go_on.wait(60)
        if self.error is not None:
            raise self.error
        transaction: list[Any] = []
        result = work(transaction)
        self.commits.append(transaction)
        return result

    def work(self, transaction: list[Any], items: Sequence[Any]) -> list[Any]:
        for item in items:
            if item == "poison":
                raise ValueError("cannot be stored")
            transaction.append(item)
        return [ValueError(item) if item == "refused" else f"{item}!" for item in items]

    @property
    def stored(self) -> list[Any]:
        return [item for commit in self.commits for item in commit]


@pytest.fixture
def sql() -> _Sql:
    return _Sql()


@pytest.fixture
def make(sql: _Sql) -> Iterator[Callable[..., GroupCommit[Any, Any]]]:
    made = []

    def start(**options: Any) -> GroupCommit[Any, Any]:
        commits: GroupCommit[Any, Any] = GroupCommit(sql.transact, sql.work, name="test", **options)
        made.append(commits)
        return commits

    yield start
    sql.may_go_on.set()
    for commits in made:
        commits.close()


def _answers(replies: Sequence[Reply[Any]]) -> list[Any]:
    for reply in replies:
        assert reply.wait(60)
    return [reply.exception() or reply.result() for reply in replies]


def test_what_is_asked_together_is_committed_together(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    commits = make()
    replies = commits.ask(["a", "b", "c"])
    assert len(commits) == 3
    commits.start()
    assert _answers(replies) == ["a!", "b!", "c!"]
    assert sql.commits == [["a", "b", "c"]]
    assert commits.call("d") == "d!"
    assert not len(commits)


@pytest.mark.parametrize("place", range(7))
def test_an_item_that_fails_fails_alone(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql, place: int
) -> None:
    items = list("abcdef")
    items.insert(place, "poison")
    commits = make()
    replies = commits.ask(items)
    commits.start()
    answers = _answers(replies)
    assert isinstance(answers.pop(place), ValueError)
    assert answers == [f"{item}!" for item in "abcdef"]
    assert sql.stored == list("abcdef")


def test_an_item_may_be_refused_within_a_commit(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    commits = make()
    replies = commits.ask(["a", "refused"])
    commits.start()
    first, second = _answers(replies)
    assert first == "a!"
    assert isinstance(second, ValueError)


def test_what_fails_alone_may_have_another_answer(make: Callable[..., GroupCommit[Any, Any]]) -> None:
    commits = make(alone=lambda item, error: f"instead of {item}: {error}")
    replies = commits.ask(["a", "poison"])
    commits.start()
    assert _answers(replies) == ["a!", "instead of poison: cannot be stored"]

    def no(item: Any, error: Exception) -> Any:
        raise KeyError(item)

    other = make(alone=no)
    other.start()
    with pytest.raises(KeyError):
        other.call("poison")


def test_large_items_are_committed_apart(make: Callable[..., GroupCommit[Any, Any]], sql: _Sql) -> None:
    commits = make(size=lambda item: module.MOST_CHARACTERS // 2 if item.isupper() else 1)
    replies = commits.ask(["A", "b", "C", "D", "E"])
    commits.start()
    _answers(replies)
    assert sql.commits == [["A", "b"], ["C"], ["D", "E"]]


def test_an_item_whose_size_cannot_be_told_hurts_nobody_beside_it(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    sizes = {"a": 1, "b": 1}
    commits = make(size=lambda item: sizes[item])
    replies = commits.ask(["a", "odd", "b"])
    commits.start()
    assert _answers(replies) == ["a!", "odd!", "b!"]
    assert sql.commits == [["a"], ["odd"], ["b"]]


def test_without_sql_callers_are_told(make: Callable[..., GroupCommit[Any, Any]], sql: _Sql) -> None:
    commits = make()
    commits.start()
    sql.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        commits.call("a")
    sql.error = None
    assert commits.call("b") == "b!"


def test_who_insists_waits_for_sql(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.001)
    sql.error = UnavailableError("away")
    commits = make(insist=lambda: True)
    replies = commits.ask(["a"])
    commits.start()
    assert sql.tried.wait(60)
    sql.error = None
    assert _answers(replies) == ["a!"]


@pytest.mark.parametrize("how", ["hurry", "close"])
def test_a_process_that_stops_insists_no_longer(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql, how: str
) -> None:
    sql.error = UnavailableError("away")
    commits = make(insist=lambda: True)
    replies = commits.ask(["a"])
    commits.start()
    assert sql.tried.wait(60)
    getattr(commits, how)()
    (answer,) = _answers(replies)
    assert isinstance(answer, UnavailableError)


def test_closing_commits_what_was_submitted_and_takes_no_more(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    commits = make()
    replies = commits.ask(list("abc"))
    commits.start()
    commits.close()
    assert all(reply.answered for reply in replies)
    for refused in (lambda: commits.ask(["d"]), lambda: commits.submit("d", Reply())):
        with pytest.raises(UnavailableError) as raised:
            refused()
        assert raised.value.reason == "STOPPING"


def test_who_comes_while_it_is_closed_is_answered_too(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    commits = make()
    commits.start()
    # The thread has seen that it is over; the caller has not.
    commits._queue.close()
    commits._thread.join(60)
    late = commits.ask(["late"])
    commits.close()
    assert [reply.result() for reply in late] == ["late!"]
    assert sql.stored == ["late"]


def test_more_than_can_wait_is_turned_away(make: Callable[..., GroupCommit[Any, Any]]) -> None:
    commits = make(capacity=2)
    commits.ask(["a", "b"])
    with pytest.raises(ExhaustedError) as raised:
        commits.submit("c", Reply())
    assert raised.value.reason == "TOO_BUSY"
    with pytest.raises(ExhaustedError):
        commits.ask(["c"])


def test_a_caller_that_is_gone_is_promised_nothing(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    commits = make()
    gone: Future[Any] = Future()
    gone.cancel()
    commits.submit("gone", gone)
    here: Future[Any] = Future()
    commits.submit("here", here)
    commits.start()
    assert here.result(60) == "here!"
    assert sql.stored == ["here"]


def test_a_defect_in_the_answering_ends_no_thread(
    make: Callable[..., GroupCommit[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: Callable[[], None]) -> None:
        raise ZeroDivisionError("the loop is closed")

    commits = make(deliver=fail)
    commits.start()
    commits.ask(["a"])
    commits.close()
    assert "the loop is closed" in caplog.text


def test_a_defect_after_the_commit_is_told_to_the_callers(
    make: Callable[..., GroupCommit[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(results: Sequence[Any]) -> None:
        raise ZeroDivisionError("a defect")

    commits = make(committed=fail)
    commits.start()
    with pytest.raises(ZeroDivisionError):
        commits.call("a")
    with pytest.raises(ZeroDivisionError):
        commits.call("b")


def test_what_comes_from_many_threads_is_committed_once(
    make: Callable[..., GroupCommit[Any, Any]], sql: _Sql
) -> None:
    commits = make(gather=module.GATHER_SECONDS)
    commits.start()
    items = [str(number) for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(commits.call, items)) == [f"{item}!" for item in items]
    assert sorted(sql.stored) == sorted(items)


# -- replies -------------------------------------------------------------------


def test_a_reply_is_waited_for_and_passed_on() -> None:
    reply: Reply[int] = Reply()
    assert not reply.wait(0.001)
    assert not reply.done()
    heard: list[int] = []
    reply.add_done_callback(lambda reply: heard.append(reply.result()))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(reply.result) for _ in range(4)]
        reply.set_result(5)
        assert [one.result(60) for one in waiting] == [5] * 4
    reply.add_done_callback(lambda reply: heard.append(reply.result() + 1))
    assert heard == [5, 6]
    assert reply.exception() is None
    assert reply.wait(0)


def test_a_reply_may_be_an_error() -> None:
    reply: Reply[int] = Reply()
    error = ValueError("no")
    heard: list[Any] = []
    reply.add_done_callback(lambda reply: heard.append(reply.exception()))
    reply.set_exception(error)
    with pytest.raises(ValueError, match="no"):
        reply.result()
    assert heard == [reply.exception()] == [error]


def test_a_callback_that_fails_keeps_no_other_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    reply: Reply[int] = Reply()
    heard: list[int] = []
    reply.add_done_callback(lambda reply: heard.append(1))
    reply.add_done_callback(lambda reply: heard.append(1 // 0))
    reply.set_result(5)
    assert heard == [1]
    assert len(caplog.records) == 1


def test_a_callback_that_is_added_while_the_answer_comes_is_called_once() -> None:
    gate = threading.Barrier(2)
    heard: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        for number in range(200):
            reply: Reply[int] = Reply()

            def answer(reply: Reply[int] = reply, number: int = number) -> None:
                gate.wait()
                reply.set_result(number)

            def add(reply: Reply[int] = reply) -> None:
                gate.wait()
                reply.add_done_callback(lambda reply: heard.append(reply.result()))

            for one in [pool.submit(answer), pool.submit(add)]:
                one.result(60)
    assert heard == list(range(200))


# -- batches -------------------------------------------------------------------


def test_a_batch_that_fails_is_told_and_the_next_is_used(caplog: pytest.LogCaptureFixture) -> None:
    used: list[int] = []

    def use(batch: list[int]) -> None:
        if 0 in batch:
            raise ZeroDivisionError("a defect")
        used.extend(batch)

    batcher = Batcher(use, name="test")
    batcher.add([0])
    batcher.start()
    batcher.close()
    assert "lost a batch of 1" in caplog.text
    other = Batcher(use, name="test")
    other.start()
    other.add([1, 2])
    other.close()
    assert used == [1, 2]
    Batcher(use, name="not started").close()
