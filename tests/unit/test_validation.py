"""What a request may hold, at the edge of each limit."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm.errors import InvalidArgumentError, TaskNotFoundError
from atm.service import validation
from atm.service.validation import Listing, NewTask

texts = st.text(max_size=200)
numbers = st.integers(-(2**31), 2**31 - 1)


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (NewTask(""), "task_type"),
        (NewTask("x" * 129), "task_type"),
        (NewTask("a b"), "task_type"),
        (NewTask("a\n"), "task_type"),
        (NewTask("a", priority=2), "priority"),
        (NewTask("a", priority=-1), "priority"),
        (NewTask("a", payload={"k": "v" * 2**20}), "payload"),
        (NewTask("a", payload={str(n): "" for n in range(257)}), "payload"),
        (NewTask("a", payload={"": "v"}), "payload"),
        (NewTask("a", payload={"k" * 256: "v"}), "payload"),
        (NewTask("a", max_retry=-1), "max_retry"),
        (NewTask("a", max_retry=1001), "max_retry"),
        (NewTask("a", timeout_ms=-1), "timeout_ms"),
        (NewTask("a", retry_strategy="LINEAR"), "retry.strategy"),
        (NewTask("a", retry_backoff_rate=float("nan")), "retry.backoff_rate"),
        (NewTask("a", retry_backoff_rate=float("inf")), "retry.backoff_rate"),
        (NewTask("a", retry_delay_ms=-1), "retry.delay_ms"),
        (NewTask("a", delay_ms=-1), "delay_ms"),
        (NewTask("a", request_id="x y"), "request_id"),
    ],
)
def test_the_field_that_is_wrong_is_named(new: NewTask, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        validation.check_new_task(new)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_what_is_just_within_the_limits_is_taken() -> None:
    payload = {"k" * 255: "v" * (2**20 - 255)}
    validation.check_new_task(
        NewTask("x" * 128, 1, payload, max_retry=1000, timeout_ms=0, retry_backoff_rate=100)
    )


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        validation.check_new_task(NewTask("", priority=9, max_retry=-1))
    assert {violation.field for violation in caught.value.violations} == {
        "task_type",
        "priority",
        "max_retry",
    }


@given(st.builds(NewTask, texts, numbers, st.dictionaries(texts, texts, max_size=5), numbers, numbers, texts))
def test_a_new_task_is_taken_or_refused_and_nothing_else(new: NewTask) -> None:
    with contextlib.suppress(InvalidArgumentError):
        validation.check_new_task(new)


@given(st.builds(Listing, texts, numbers, texts, numbers, numbers), texts)
def test_a_page_or_an_id_is_taken_or_refused_and_nothing_else(listing: Listing, task_id: str) -> None:
    with contextlib.suppress(InvalidArgumentError):
        validation.check_listing(listing)
    with contextlib.suppress(InvalidArgumentError, TaskNotFoundError):
        validation.check_task_id(task_id)


def test_the_digest_of_a_request_is_that_of_its_content() -> None:
    one, two = (
        NewTask("a", payload={"x": "1"}, request_id="1"),
        NewTask("a", payload={"x": "1"}, request_id="2"),
    )
    assert one.digest() == two.digest() != NewTask("a", payload={"x": "2"}).digest()
