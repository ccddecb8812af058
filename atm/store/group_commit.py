"""Group commit: what several callers want to write at the same time shares one transaction.

A commit that is durable costs a millisecond of waiting for the disk, whether
it holds one row or two hundred. What is handed over while a commit runs makes
up the next one, so that a busy process commits as often as a quiet one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy.engine import Connection

from atm.errors import ExhaustedError, UnavailableError
from atm.gathering import Gathering

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)

#: Items of one transaction. More would make those wait that come first, for
#: little: at 200 rows a commit the database is near its best.
MOST = 200
#: A commit waits for those who took part in the last one for twice as long as
#: that one took, up to this. A process that is busy takes longer for a commit,
#: and fuller ones leave it more time for everything else.
GATHER_SECONDS = 0.02
#: Characters in the items of one transaction. A packet to MariaDB may have 16 MB
#: by default, and a character that has to be quoted twice takes seven bytes.
MOST_CHARACTERS = 2_000_000
#: Items that may wait. At a few thousand a second this is seconds of work:
#: a caller had better come back later.
CAPACITY = 10_000
#: When one that is turned away should come back.
BUSY_SECONDS = 1.0
#: Between two tries to write to an SQL that is out of reach.
_AGAIN_SECONDS = 0.5


class Answer(Protocol[Given]):
    """Where a result goes: a future of threads or of asyncio."""

    def done(self) -> bool: ...
    def set_result(self, result: Given, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


Work = Callable[[Connection, Sequence[Item]], Sequence[Result | Exception]]
#: `Database.write`, or `Database.read` for callers that only want to know.
Transact = Callable[[Callable[[Connection], Any]], Any]


def at_once(deliver: Callable[[], None]) -> None:
    """Delivers in the committing thread."""
    deliver()


class Reply(Generic[Result]):
    """An answer that threads wait for, or that is passed on: a Future at a third of its cost."""

    __slots__ = ("_answered", "_callbacks", "_exception", "_result", "answered")

    def __init__(self) -> None:
        self._answered = threading.Lock()
        self._answered.acquire()
        #: Whether nobody has to wait any more.
        self.answered = False
        self._result: Result
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Reply[Result]], None]] = []

    def done(self) -> bool:
        """False: its caller never goes away."""
        return False

    def set_result(self, result: Result, /) -> None:
        self._result = result
        self._release()

    def set_exception(self, exception: BaseException, /) -> None:
        self._exception = exception
        self._release()

    def wait(self, seconds: float = -1) -> bool:
        """Waits for it, but not for longer than this, if given; whether it is answered."""
        if not self._answered.acquire(timeout=seconds):
            return False
        self._answered.release()
        return True

    def result(self) -> Result:
        """Waits for the answer; raises it if it is an exception."""
        self.wait()
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        """Waits for the answer; what it raises, if it does."""
        self.wait()
        return self._exception

    def add_done_callback(self, callback: Callable[[Reply[Result]], None], /) -> None:
        """Calls it when there is an answer: in the thread that answers, or here and now."""
        self._callbacks.append(callback)
        if self.answered:
            self._call_back()

    def _release(self) -> None:
        self.answered = True
        self._answered.release()
        self._call_back()

    def _call_back(self) -> None:
        # Popping is one step: of two threads, one calls it.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            try:
                callback(self)
            except Exception:
                # The thread that answers has others to answer.
                logger.exception("what waited for a commit failed")


class GroupCommit(Generic[Item, Result]):
    """One thread that commits what is submitted.

    `work` gets a transaction and some items, and returns a result for each; an
    exception among them is raised for that caller. It runs again, with fewer
    items, when the transaction was undone: one that fails fails alone.
    `alone`, if given, is asked what to answer for an item whose transaction of
    its own failed; it raises what is no answer. `committed` is told the
    results of a commit before any caller is. `deliver` is given one call that
    answers all callers of a commit (`at_once`, or a loop's
    call_soon_threadsafe). With `insist`, SQL that is out of reach is waited
    for, until `hurry` or `close`; otherwise the answer is an UnavailableError.
    `gather` is the longest that a commit waits for more, in seconds; `size`
    tells how many characters an item has, where they can be many.
    """

    def __init__(
        self,
        transact: Transact,
        work: Work[Item, Result],
        *,
        name: str,
        alone: Callable[[Item, Exception], Result] | None = None,
        committed: Callable[[Sequence[Result | Exception]], None] | None = None,
        deliver: Callable[[Callable[[], None]], Any] = at_once,
        insist: bool = False,
        capacity: int = CAPACITY,
        gather: float = GATHER_SECONDS,
        size: Callable[[Item], int] = lambda item: 0,
    ) -> None:
        self._transact = transact
        self._work = work
        self._alone = alone
        self._committed = committed
        self._deliver = deliver
        self._insist = insist
        self._capacity = capacity
        self._gather = gather
        self._size = size
        self._waiting: Gathering[tuple[Item, Answer[Result]]] = Gathering(MOST)
        self._leaving = threading.Event()
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """From now on an SQL that is away is not waited for, in spite of `insist`."""
        self._hurried.set()

    def close(self) -> None:
        """Commits what was submitted, without waiting for an SQL that is away, and ends the thread."""
        self._leaving.set()
        self._hurried.set()
        self._waiting.close()
        if self._thread.is_alive():
            self._thread.join()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def submit(self, item: Item, answer: Answer[Result]) -> None:
        """The answer gets the result once it is committed.

        Raises ExhaustedError when too many wait, and UnavailableError after `close`.
        """
        self._check()
        self._waiting.put((item, answer))

    def call(self, item: Item) -> Result:
        """The committed result, for a thread that waits for it. Raises what `work` raises."""
        return self.ask([item])[0].result()

    def ask(self, items: Sequence[Item]) -> list[Reply[Result]]:
        """The same for a thread that waits later: a reply for each, in one commit if they fit."""
        self._check()
        replies: list[Reply[Result]] = [Reply() for _ in items]
        self._waiting.extend(zip(items, replies, strict=True))
        return replies

    def _check(self) -> None:
        if self._leaving.is_set():
            raise UnavailableError("this process stops", reason="STOPPING", retry_after=BUSY_SECONDS)
        if len(self._waiting) >= self._capacity:
            raise ExhaustedError(
                "more is waiting to be stored than can be stored in time: come back later",
                reason="TOO_BUSY",
                retry_after=BUSY_SECONDS,
            )

    def _run(self) -> None:
        took = 0.0
        while taken := self._waiting.take(min(2 * took, self._gather)):
            began = time.monotonic()
            # The caller of some may have gone: nobody was promised anything.
            wanted = [(item, answer) for item, answer in taken if not answer.done()]
            try:
                for batch in self._portions(wanted):
                    self._settle([item for item, _ in batch], [answer for _, answer in batch])
            except Exception:
                # The thread must live: without it nothing is committed any more.
                logger.exception("answers to a commit were not delivered")
            took = time.monotonic() - began

    def _portions(
        self, entries: list[tuple[Item, Answer[Result]]]
    ) -> Iterator[list[tuple[Item, Answer[Result]]]]:
        """These, in as few transactions as have no more than MOST_CHARACTERS, or one item."""
        portion: list[tuple[Item, Answer[Result]]] = []
        held = 0
        for entry in entries:
            size = self._size(entry[0])
            if portion and held + size > MOST_CHARACTERS:
                yield portion
                portion, held = [], 0
            portion.append(entry)
            held += size
        if portion:
            yield portion

    def _settle(self, items: Sequence[Item], answers: Sequence[Answer[Result]]) -> None:
        try:
            results = self._commit(items)
        except Exception as defect:
            logger.exception("a commit failed in a way that was not thought of")
            results = [defect] * len(items)
        self._deliver(lambda: _answer(answers, results))

    def _commit(self, items: Sequence[Item]) -> list[Result | Exception]:
        while True:
            try:
                results = list(self._transact(lambda connection: self._work(connection, items)))
            except UnavailableError as error:
                if not self._insist:
                    return [error] * len(items)
                logger.warning("%s; trying again", error)
                if self._hurried.wait(_AGAIN_SECONDS):
                    return [error] * len(items)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail the others
                return self._apart(items, error)
            else:
                if self._committed is not None:
                    self._committed(results)
                return results

    def _apart(self, items: Sequence[Item], error: Exception) -> list[Result | Exception]:
        """One of these cannot be written: by halves, until it is alone."""
        if len(items) > 1:
            middle = len(items) // 2
            return self._commit(items[:middle]) + self._commit(items[middle:])
        if self._alone is None:
            return [error]
        try:
            return [self._alone(items[0], error)]
        except Exception as final:  # noqa: BLE001 - that is the answer
            return [final]


def _answer(answers: Sequence[Answer[Result]], results: Sequence[Result | Exception]) -> None:
    for answer, result in zip(answers, results, strict=True):
        if answer.done():
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
