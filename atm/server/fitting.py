"""Answers of several things, measured as they are sent: what does not fit is left out, and marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from atm.rpc import task_service_pb2 as pb
from atm.service.answers import ANSWER_BYTES, TASK_ANSWER_BYTES

M = TypeVar("M", bound=Message)
#: What a message within a list costs beside its own bytes.
_FRAME = 8
#: An error's text is cut to so many characters where even without values not all tasks fit.
_SHORT = 160


def one_task(message: pb.Task) -> pb.Task:
    """The task, without its result if it is too large for any answer."""
    if message.ByteSize() > TASK_ANSWER_BYTES:
        message.ClearField("result")
        message.values_omitted = True
    return message


def tasks(messages: Sequence[pb.Task]) -> Sequence[pb.Task]:
    """All of these tasks, the largest ones without payload and result as far as it takes to fit."""
    if not _empty_largest(messages, _without_values):
        for message in messages:
            if len(message.error_message) > _SHORT:
                message.error_message = f"{message.error_message[:_SHORT]}…"
    return messages


def _without_values(message: pb.Task) -> None:
    if message.payload or message.result:
        message.ClearField("payload")
        message.ClearField("result")
        message.values_omitted = True


def workers(messages: Sequence[pb.Worker]) -> pb.ListWorkersResponse:
    """These workers, the largest without their lists as far as it takes to fit; and how many are left out."""
    _empty_largest(messages, _without_lists)
    count = _beginning([message.ByteSize() for message in messages])
    return pb.ListWorkersResponse(workers=messages[:count], left_out=len(messages) - count)


def _without_lists(message: pb.Worker) -> None:
    message.ClearField("task_types")
    message.ClearField("stuck_tasks")
    message.lists_omitted = True


def _empty_largest(messages: Sequence[M], empty: Callable[[M], None]) -> bool:
    """Empties the largest of these until they fit into an answer; whether they do."""
    sizes = [message.ByteSize() + _FRAME for message in messages]
    excess = sum(sizes) - ANSWER_BYTES
    for place in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        empty(messages[place])
        excess -= sizes[place] - messages[place].ByteSize() - _FRAME
    return excess <= 0


def servers(messages: Sequence[pb.Server]) -> pb.ListServersResponse:
    """The first of these servers, and how many are left out."""
    count = _beginning([message.ByteSize() for message in messages])
    return pb.ListServersResponse(servers=messages[:count], left_out=len(messages) - count)


def statistics(message: pb.GetStatisticsResponse) -> pb.GetStatisticsResponse:
    """The counts, without those of the rarest types as far as it takes to fit."""
    if message.ByteSize() <= ANSWER_BYTES:
        return message
    by_count = sorted(message.tasks_by_type.items(), key=lambda item: -item[1])
    count = _beginning([len(name.encode()) + 2 * _FRAME for name, _ in by_count])
    message.ClearField("tasks_by_type")
    for name, number in by_count[:count]:
        message.tasks_by_type[name] = number
    message.types_left_out = len(by_count) - count
    return message


def _beginning(sizes: Sequence[int]) -> int:
    """How many of the first of so many bytes each fit."""
    room = ANSWER_BYTES
    for place, size in enumerate(sizes):
        room -= size + _FRAME
        if room < 0:
            return place
    return len(sizes)
