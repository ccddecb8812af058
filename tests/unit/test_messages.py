"""The messages that are put together from a template are Dramatiq's own."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st

from atm.broker.message import encoded, task_message


@given(
    st.uuids().map(str) | st.just(str(UUID("98765432-1098-7654-3219-876543211234"))),
    st.integers(1, 10**9),
    st.integers(0, 1),
    st.integers(1, 10**13),
)
def test_what_is_sent_is_what_dramatiq_would_encode(
    task_id: str, number: int, priority: int, at: int
) -> None:
    text = encoded(task_id, number, priority, str(at)).encode()
    wanted = replace(task_message(task_id, number, priority), message_timestamp=at)
    assert Message.decode(text) == wanted
    assert text == wanted.encode()
