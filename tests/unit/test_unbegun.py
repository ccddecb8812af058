"""What was claimed and not begun with is still known when the process that claimed it was killed."""

from __future__ import annotations

import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor

from atm.worker.unbegun import SLOTS, Unbegun


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def test_it_outlives_the_process_that_was_killed() -> None:
    unbegun = Unbegun()
    first, second = _ids(2)
    child = os.fork()
    if not child:
        unbegun.add(first, 1)
        unbegun.add(second, 7)
        unbegun.remove(first, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert unbegun.all() == {(second, 7)}
    assert not unbegun.left


def test_of_many_threads_one_takes_it() -> None:
    unbegun = Unbegun()
    with ThreadPoolExecutor(8) as pool:
        for task_id in _ids(200):
            assert unbegun.add(task_id, 1)
            assert sum(pool.map(lambda _, task_id=task_id: unbegun.remove(task_id, 1), range(8))) == 1
    assert not unbegun.all()


def test_what_has_no_place_is_refused_and_places_are_used_again() -> None:
    unbegun = Unbegun()
    ids = _ids(SLOTS + 1)
    assert [unbegun.add(task_id, 1) for task_id in ids] == [True] * SLOTS + [False]
    assert not unbegun.add(ids[0], 1), "it is there already"
    assert not unbegun.add("not a task's id", 1)
    assert unbegun.remove(ids[0], 1)
    assert unbegun.add(ids[-1], 1)
    assert len(unbegun) == SLOTS
    assert unbegun.all() == {(task_id, 1) for task_id in ids[1:]}


def test_a_process_that_leaves_says_so() -> None:
    unbegun = Unbegun()
    unbegun.leave()
    assert unbegun.left
