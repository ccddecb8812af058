"""Group commit: what several callers want to write at the same time shares one transaction.

A commit that is durable costs a millisecond of waiting for the disk, whether
it holds one row or two hundred. What is handed over while a commit runs makes
up the next one, so that a busy process commits as often as a quiet one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from atm.batching.batch_queue import BatchQueue
from atm.batching.reply import Promise, Reply
from atm.errors import ExhaustedError, UnavailableError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Taken = TypeVar("Taken", contravariant=True)
Made = TypeVar("Made", covariant=True)

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
#: When a caller that is turned away should come back.
BUSY_SECONDS = 1.0
#: Between two tries to write to an SQL that is out of reach.
_AGAIN_SECONDS = 0.5

Entry = tuple[Item, Promise[Result]]
#: `Database.write`, or `Database.read` for callers that only want to know.
Transact = Callable[[Callable[[Any], Any]], Any]


class Work(Protocol[Taken, Made]):
    """What is done in a transaction: a result for each item, or an exception for its caller."""

    def __call__(self, transaction: Any, /, *, items: Sequence[Taken]) -> Sequence[Made | Exception]: ...


def at_once(answer: Callable[[], None]) -> None:
    """Answers callers in the committing thread."""
    answer()


def never() -> bool:
    """SQL that is out of reach is not waited for."""
    return False


class GroupCommit(Generic[Item, Result]):
    """One thread that commits what is submitted, in groups.

    `work` runs again, with fewer items, when its transaction was undone: an
    item that fails fails alone. `alone`, if given, is asked what to answer for
    an item whose transaction of its own failed; it raises what is no answer.
    `committed` is told the results of a commit before any caller is.
    `deliver` is given one call that answers all callers of a commit
    (`at_once`, or a loop's call_soon_threadsafe). While `insist` says so, SQL
    that is out of reach is waited for, until `hurry` or `close`; otherwise the
    answer is an UnavailableError. `gather` is the longest that a commit waits for
    more items, in seconds; `size` tells how many characters an item has, where
    they can be many.
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
        insist: Callable[[], bool] = never,
        capacity: int = CAPACITY,
        gather: float = GATHER_SECONDS,
        size: Callable[[Item], int] | None = None,
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
        self._queue: BatchQueue[Entry[Item, Result]] = BatchQueue(MOST)
        self._closed = False
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """From now on an SQL that is out of reach is not waited for, in spite of `insist`."""
        self._hurried.set()

    def close(self) -> None:
        """Commits what was submitted, if SQL can be reached, and ends the thread."""
        self._closed = True
        self._hurried.set()
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join()
        # Who was let in while it was closed is answered, too.
        while late := self._queue.take(0):
            self._settle(late)

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._queue)

    def submit(self, item: Item, promise: Promise[Result]) -> None:
        """Commits the item soon; the promise gets the result then.

        Raises ExhaustedError when too many items wait, and UnavailableError after `close`.
        """
        if self._closed or len(self._queue) >= self._capacity:
            raise self._refusal()
        self._queue.add([(item, promise)])

    def call(self, item: Item) -> Result:
        """The committed result, for a thread that waits for it. Raises what `work` raises."""
        return self.ask([item])[0].result()

    def ask(self, items: Sequence[Item]) -> list[Reply[Result]]:
        """Commits the items soon, in one transaction if they fit; a reply for each. Raises like `submit`."""
        if self._closed or len(self._queue) >= self._capacity:
            raise self._refusal()
        replies: list[Reply[Result]] = [Reply() for _ in items]
        self._queue.add(zip(items, replies, strict=True))
        return replies

    def _refusal(self) -> Exception:
        if self._closed:
            return UnavailableError("this process stops", reason="STOPPING", retry_after=BUSY_SECONDS)
        return ExhaustedError(
            "more is waiting to be stored than can be stored in time: come back later",
            reason="TOO_BUSY",
            retry_after=BUSY_SECONDS,
        )

    def _run(self) -> None:
        took = 0.0
        while taken := self._queue.take(min(2 * took, self._gather)):
            began = time.monotonic()
            # A caller may be gone by now: nothing was promised to it.
            if entries := [entry for entry in taken if not entry[1].done()]:
                self._settle(entries)
            took = time.monotonic() - began

    def _settle(self, entries: list[Entry[Item, Result]]) -> None:
        """Commits these together, or by halves where they cannot be, and answers their callers."""
        results: list[Result | Exception] | None
        try:
            results = self._commit([item for item, _ in entries])
        except Exception as defect:
            logger.exception("%s: a commit failed in a way that was not foreseen", self._thread.name)
            results = [defect] * len(entries)
        if results is None:
            middle = len(entries) // 2
            self._settle(entries[:middle])
            self._settle(entries[middle:])
            return
        try:
            self._deliver(partial(_answer, entries, results))
        except Exception:
            # The thread must live: without it nothing is committed any more.
            logger.exception("%s: answers to a commit were not delivered", self._thread.name)

    def _commit(self, items: Sequence[Item]) -> list[Result | Exception] | None:
        """The results of a transaction; None where several are too much for one, or one of them fails."""
        while True:
            try:
                if len(items) > 1 and self._size and sum(map(self._size, items)) > MOST_CHARACTERS:
                    return None
                results = list(self._transact(partial(self._work, items=items)))
            except UnavailableError as error:
                if not self._insist():
                    return [error] * len(items)
                if self._hurried.wait(_AGAIN_SECONDS):
                    return [error] * len(items)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail the other items
                return None if len(items) > 1 else [self._answer_alone(items[0], error)]
            else:
                if self._committed is not None:
                    self._committed(results)
                return results

    def _answer_alone(self, item: Item, error: Exception) -> Result | Exception:
        try:
            return error if self._alone is None else self._alone(item, error)
        except Exception as final:  # noqa: BLE001 - that is the answer
            return final


def _answer(entries: Sequence[Entry[Item, Result]], results: Sequence[Result | Exception]) -> None:
    for (_, promise), result in zip(entries, results, strict=True):
        if promise.done():
            continue
        if isinstance(result, Exception):
            promise.set_exception(result)
        else:
            promise.set_result(result)
