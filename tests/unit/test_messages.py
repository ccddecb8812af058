"""The messages that are put together from a template are Dramatiq's own."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st

from atm.broker.message import encoded, task_message
from atm.lists import TaskList


@given(
    st.uuids().map(str) | st.just(str(UUID("98765432-1098-7654-3219-876543211234"))),
    st.integers(1, 10**9),
    st.builds(
        TaskList, st.text() | st.sampled_from(["the-type", "the-task", "987654321", '"']), st.integers(0, 1)
    ),
    st.integers(1, 10**13),
)
def test_what_is_sent_is_what_dramatiq_would_encode(task_id: str, number: int, of: TaskList, at: int) -> None:
    text = encoded(task_id, number, of, str(at)).encode()
    wanted = replace(task_message(task_id, number, of), message_timestamp=at)
    assert Message.decode(text) == wanted
    assert text == wanted.encode()
