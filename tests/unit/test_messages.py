"""The messages that are put together from a template are Dramatiq's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st

from atm.broker import keys
from atm.broker.broker import TaskBroker, task_message


class _Sent(TaskBroker):
    """Notes what would be sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def _enqueue(self, messages: Any) -> int:
        self.sent = list(zip(*[iter(messages)] * 3, strict=True))
        return len(self.sent)


@given(
    st.lists(
        st.tuples(
            st.uuids().map(str) | st.just(str(UUID("98765432-1098-7654-3219-876543211234"))),
            st.integers(1, 10**9),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_sent_is_what_dramatiq_would_encode(tasks: list[tuple[str, int, int]]) -> None:
    broker = _Sent()
    assert broker.send(tasks) == len(tasks)
    for task, (number, name, text) in zip(tasks, broker.sent, strict=True):
        sent, wanted = Message.decode(text.encode()), task_message(*task)
        assert sent == replace(wanted, message_timestamp=sent.message_timestamp)
        assert text.encode() == sent.encode()
        assert (keys.QUEUES_BY_URGENCY[number], name) == (wanted.queue_name, wanted.message_id)
