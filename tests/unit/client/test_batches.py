"""Many tasks in parts that a server takes: by number and by bytes, in their order, none left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atm.client.requests import MAX_BATCH, MAX_BATCH_BYTES, batches, create_tasks

MIB = 1 << 20


def task(size: int, text: str = "x") -> dict[str, Any]:
    return {"task_type": "send", "payload": {"v": text * (size // len(text.encode()))}}


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.sampled_from([0, 10, 200_000, MIB, 2 * MIB]), max_size=12), text=st.sampled_from("x😀")
)
def test_each_part_fits_and_all_together_are_the_tasks(sizes: list[int], text: str) -> None:
    tasks = [task(size, text) for size in sizes]
    parts = list(batches(tasks))
    assert [one for part in parts for one in part] == tasks
    assert all(part for part in parts)
    assert all(create_tasks(part).ByteSize() <= MAX_BATCH_BYTES for part in parts)


def test_small_tasks_go_by_the_thousand() -> None:
    assert [len(part) for part in batches([task(1)] * 2500)] == [MAX_BATCH, MAX_BATCH, 500]


def test_one_that_is_larger_stands_alone() -> None:
    assert [len(part) for part in batches([task(1), task(5 * MIB), task(1), task(1)])] == [1, 1, 2]


@pytest.mark.parametrize("wrong", [{}, {"task_type": "a", "unknown": 1}])
def test_what_cannot_be_sent_stays_in_its_place(wrong: dict[str, Any]) -> None:
    assert list(batches([task(1), wrong])) == [[task(1), wrong]]
