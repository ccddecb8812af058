"""The queue that one thread empties by the batch: nothing is lost, doubled or waited for in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from atm.batching.batch_queue import BatchQueue


def _take_all(queue: BatchQueue[tuple[int, int]], patience: float) -> list[list[tuple[int, int]]]:
    batches = []
    while batch := queue.take(patience):
        batches.append(batch)
    return batches


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 5), max_size=30), min_size=1, max_size=6),
    st.integers(1, 10),
    st.sampled_from([0.0, 0.001]),
)
def test_whatever_threads_put_is_taken_once_and_in_their_order(
    threads: list[list[int]], most: int, patience: float
) -> None:
    queue: BatchQueue[tuple[int, int]] = BatchQueue(most)
    batches: list[list[tuple[int, int]]] = []
    taker = threading.Thread(target=lambda: batches.extend(_take_all(queue, patience)))
    taker.start()

    def put(thread: int, sizes: list[int]) -> None:
        number = 0
        for size in sizes:
            items = [(thread, number + n) for n in range(size)]
            number += size
            queue.add(items)

    putters = [threading.Thread(target=put, args=(n, sizes)) for n, sizes in enumerate(threads)]
    for putter in putters:
        putter.start()
    for putter in putters:
        putter.join(10)
    queue.close()
    taker.join(10)
    assert not taker.is_alive()
    assert all(len(batch) <= most for batch in batches)
    taken = [item for batch in batches for item in batch]
    for thread, sizes in enumerate(threads):
        assert [item for item in taken if item[0] == thread] == [(thread, n) for n in range(sum(sizes))]
    assert len(taken) == sum(map(sum, threads))


@contextmanager
def _when_it_waits(queue: BatchQueue[int], then: Callable[[], None]) -> Iterator[list[float]]:
    """Does `then` at the moment when `take` begins to wait; for how long it was ready to wait, each time."""
    bell: Any = queue._bell
    waited: list[float] = []

    class Bell:
        release = bell.release

        def acquire(self, timeout: float) -> bool:
            waited.append(timeout)
            then()
            return bool(bell.acquire(timeout=timeout))

    queue._bell = Bell()  # type: ignore[assignment]
    yield waited
    queue._bell = bell


def test_those_who_put_the_last_batch_are_waited_for_and_one_that_was_alone_is_not() -> None:
    queue: BatchQueue[int] = BatchQueue(100)
    queue.add(range(3))
    assert queue.take(60) == [0, 1, 2]
    queue.add([3])
    with _when_it_waits(queue, lambda: queue.add([4, 5])) as waited:
        # For all three.
        assert queue.take(60) == [3, 4, 5]
    assert waited == [60]
    for number in range(6, 12):
        # They do not come again: less and less is expected.
        queue.add([number])
        assert queue.take(0.001) == [number]
    queue.add([12])
    with _when_it_waits(queue, lambda: None) as waited:
        assert queue.take(60) == [12]
    assert waited == []


def test_closing_ends_the_waiting() -> None:
    queue: BatchQueue[int] = BatchQueue(100)
    queue.add(range(5))
    assert queue.take(60) == [0, 1, 2, 3, 4]
    queue.add([5])
    with _when_it_waits(queue, queue.close) as waited:
        assert queue.take(60) == [5]
        assert queue.take(60) == []
    assert waited == [60]
