"""What was claimed and not begun with is still known when the process that claimed it was killed."""

from __future__ import annotations

import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from atm.worker.claim_ledger import SLOTS, ClaimLedger


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def test_it_outlives_the_process_that_was_killed() -> None:
    ledger = ClaimLedger()
    first, second = _ids(2)
    child = os.fork()
    if not child:
        ledger.add(first, 1)
        ledger.add(second, 7)
        ledger.remove(first, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert ledger.all() == {(second, 7)}
    assert not ledger.closed


def test_of_many_threads_one_takes_it() -> None:
    ledger = ClaimLedger()
    with ThreadPoolExecutor(8) as pool:
        for task_id in _ids(200):
            assert ledger.add(task_id, 1)
            assert sum(pool.map(lambda _, task_id=task_id: ledger.remove(task_id, 1), range(8))) == 1
    assert not ledger.all()


@given(st.integers() | st.sampled_from([-(2**31), 2**32, -(2**63), 2**63 - 1]), st.text(max_size=40))
def test_numbers_and_ids_of_others_are_kept_or_refused_and_hold_up_nothing(
    attempt: int, task_id: str
) -> None:
    ledger = ClaimLedger()
    (own,) = _ids(1)
    assert ledger.add(own, attempt) == (-(2**63) <= attempt < 2**63)
    ledger.remove(own, attempt)
    if ledger.add(task_id, attempt):
        ledger.remove(task_id, attempt)
    assert ledger.add(own, 1)
    assert ledger.all() == {(own, 1)}


def test_what_has_no_place_is_refused_and_places_are_used_again() -> None:
    ledger = ClaimLedger()
    ids = _ids(SLOTS + 1)
    assert [ledger.add(task_id, 1) for task_id in ids] == [True] * SLOTS + [False]
    assert not ledger.add(ids[0], 1), "it is there already"
    assert not ledger.add("not a task's id", 1)
    assert ledger.remove(ids[0], 1)
    assert ledger.add(ids[-1], 1)
    assert len(ledger) == SLOTS
    assert ledger.all() == {(task_id, 1) for task_id in ids[1:]}


def test_a_process_that_leaves_says_so() -> None:
    ledger = ClaimLedger()
    ledger.close()
    assert ledger.closed
