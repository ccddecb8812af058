"""Whatever is stored, each answer fits into the 4 MiB that clients of gRPC take, and says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import psutil
import pytest
from fix_system import Process, System
from sqlalchemy import insert, update

from atm.client import Client
from atm.client.errors import translate
from atm.models import now
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceStub
from atm.states import LogType, Status
from atm.store import logs, workers
from atm.store.logs import NewRow
from atm.store.tasks import TASK

MIB = 1 << 20
SECONDS = 100
#: Large in different ways: as it is, in bytes of UTF-8, and as JSON, which escapes it.
TEXTS = {"plain": "x", "wide": "😀", "escaped": "\x01"}


class Door:
    """A server, and a client with gRPC's defaults."""

    def __init__(self, system: System, server: Process, stub: TaskServiceStub) -> None:
        self.system = system
        self.server = server
        self.stub = stub

    def create(self, count: int, payload: dict[str, str] | None = None, **wanted: Any) -> list[str]:
        """The ids of so many tasks that wait, each made by a call of its own."""
        request = pb.CreateTaskRequest(
            task_type="example_task", payload=payload or {}, delay_ms=3_600_000, **wanted
        )
        return [self.stub.CreateTask(request, timeout=SECONDS).task.task_id for _ in range(count)]

    def change(self, ids: Sequence[str], **values: Any) -> None:
        """Sets columns of these tasks."""
        change = update(TASK).where(TASK.c.task_id.in_(ids)).values(**values)
        self.system.database.write(lambda connection: connection.execute(change))

    def list(self, **asked: Any) -> pb.ListTasksResponse:
        return self.stub.ListTasks(pb.ListTasksRequest(priority=-1, **asked), timeout=SECONDS)

    def by_token(self, **asked: Any) -> Iterator[pb.ListTasksResponse]:
        """Every page but the first, which is asked for by number, and shows one task."""
        token = self.list(page_size=1).next_page_token
        while token:
            page = self.list(page_token=token, **asked)
            token = page.next_page_token
            yield page

    def get(self, task_id: str) -> pb.Task:
        return self.stub.GetTask(pb.GetTaskRequest(task_id=task_id), timeout=SECONDS).task


@pytest.fixture
def door(new_system: System) -> Iterator[Door]:
    server = new_system.start_server()
    with grpc.insecure_channel(new_system.address) as channel:
        yield Door(new_system, server, TaskServiceStub(channel))


def whole(task: pb.Task) -> tuple[dict[str, str], dict[str, str]]:
    return dict(task.payload), dict(task.result)


def newest_first(ids: Sequence[str]) -> list[str]:
    return sorted(ids, reverse=True)


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_large_tasks_are_listed_by_token_whole_and_by_number_all(door: Door, text: str) -> None:
    value = {"v": text * ((MIB - 10) // len(text.encode()))}
    large = door.create(6, value)
    door.change(large, status=Status.SUCCESS, result=value)
    ids = [*large, *door.create(30, {"small": text})]

    listed = [task for page in door.by_token(page_size=20) for task in page.tasks]
    assert [task.task_id for task in listed] == newest_first(ids)[1:]
    assert not any(task.values_omitted for task in listed)
    assert [whole(task) for task in listed if task.task_id in large] == [(value, value)] * 6

    page = door.list(page_size=500)
    assert [task.task_id for task in page.tasks] == newest_first(ids)
    assert page.total == 36
    for task in page.tasks:
        expected = (value, value) if task.task_id in large else ({"small": text}, {})
        assert task.values_omitted == (whole(task) != expected)
        assert whole(task) in (expected, ({}, {}))
        assert whole(door.get(task.task_id)) == expected
    assert any(task.values_omitted for task in page.tasks)

    basic = door.list(page_size=500, view=pb.ListTasksRequest.BASIC)
    assert {(*map(tuple, whole(task)), task.values_omitted) for task in basic.tasks} == {((), (), False)}


def test_small_tasks_come_whole_however_many(door: Door) -> None:
    ids = door.create(1)
    for _ in range(5):
        tasks = [pb.CreateTaskRequest(task_type="example_task", payload={"n": "1"}, delay_ms=9_999_999)] * 100
        made = door.stub.BatchCreateTasks(pb.BatchCreateTasksRequest(tasks=tasks), timeout=SECONDS)
        ids += [task.task_id for task in made.tasks]
    page = door.list(page_size=500)
    assert len(page.tasks) == 500
    assert not any(task.values_omitted for task in page.tasks)
    assert [len(page.tasks) for page in door.by_token(page_size=500)] == [500]


def test_texts_of_errors_and_progress_fit_too(door: Door) -> None:
    request = pb.CreateTaskRequest(task_type="example_task", payload={"k": "v" * 500}, delay_ms=9_999_999)
    made = door.stub.BatchCreateTasks(pb.BatchCreateTasksRequest(tasks=[request] * 500), timeout=SECONDS)
    ids = [task.task_id for task in made.tasks]
    longest = {
        "error_message": "😀" * 2000,
        "progress_message": "😀" * 255,
        "cancel_requested_by": "😀" * 255,
    }
    door.change(ids, status=Status.FAILED, worker_id="😀" * 128, **longest)
    page = door.list(page_size=500)
    assert [task.task_id for task in page.tasks] == newest_first(ids)
    listed = [task for page in door.by_token(page_size=500) for task in page.tasks]
    assert [task.task_id for task in listed] == newest_first(ids)[1:]
    assert {task.error_message for task in listed} == {longest["error_message"]}


def _add_rows(door: Door, task_id: str, count: int, message: str) -> None:
    at = now()
    rows = [NewRow(task_id, LogType.INFO, f"{number} {message}", at, attempt=1) for number in range(count)]
    for start in range(0, count, 500):
        part = rows[start : start + 500]
        door.system.database.write(lambda connection, part=part: logs.add(connection, part))  # type: ignore[misc]


def _end(door: Door, task_id: str) -> None:
    row = NewRow(task_id, LogType.STATE_CHANGE, "over", now(), "PROCESSING", "FAILED", "w", 1)
    door.system.database.write(lambda connection: logs.add(connection, [row]))


@pytest.mark.parametrize(
    ("count", "message"),
    [(6000, "x" * 950), (700, "😀" * 15_990), (30_000, "")],
    ids=["many", "long", "short"],
)
def test_a_long_history_comes_by_pages_and_in_one_answer_with_its_end(
    door: Door, count: int, message: str
) -> None:
    (task_id,) = door.create(1)
    _add_rows(door, task_id, count, message)
    _end(door, task_id)
    _add_rows(door, task_id, 1, "after the end")
    total = count + 3

    rows: list[pb.TaskLog] = []
    token = ""
    while token or not rows:
        request = pb.GetTaskLogsRequest(task_id=task_id, page_size=1000, page_token=token)
        page = door.stub.GetTaskLogs(request, timeout=SECONDS)
        assert page.logs
        rows += page.logs
        token = page.next_page_token
    ids = [int(row.log_id) for row in rows]
    assert ids == sorted(set(ids))
    assert len(rows) == total
    assert {row.message.partition(" ")[2] for row in rows[1:-2]} == {message}

    answer = door.stub.GetTaskLogs(pb.GetTaskLogsRequest(task_id=task_id), timeout=SECONDS)
    assert answer.next_page_token == ""
    *oldest, gap, newest = answer.logs
    assert list(oldest) == rows[: len(oldest)]
    assert (gap.log_type, gap.to_status) == ("INFO", "")
    assert gap.message.startswith(f"{total - len(oldest) - 1} rows are left out here")
    assert int(oldest[-1].log_id) < int(gap.log_id) < int(newest.log_id)
    assert (newest.to_status, newest.message) == ("FAILED", "over")
    with Client(door.system.address) as client:
        assert len(client.get_task_logs(task_id)) == total


def test_a_history_that_fits_comes_whole_without_pages(door: Door) -> None:
    (task_id,) = door.create(1)
    _add_rows(door, task_id, 100, "x" * 1000)
    answer = door.stub.GetTaskLogs(pb.GetTaskLogsRequest(task_id=task_id), timeout=SECONDS)
    assert len(answer.logs) == 101
    assert answer.next_page_token == ""


@pytest.mark.parametrize(
    "wrong", [{"page_size": -1}, {"page_size": 1001}, {"page_token": "x"}, {"page_token": "9" * 30}]
)
def test_a_page_of_a_history_that_cannot_be_is_refused(door: Door, wrong: dict[str, Any]) -> None:
    (task_id,) = door.create(1)
    with pytest.raises(grpc.RpcError) as caught:
        door.stub.GetTaskLogs(pb.GetTaskLogsRequest(task_id=task_id, **wrong), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(wrong)) in (caught.value.details() or "")


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_a_batch_as_large_as_a_request_may_be_is_answered(door: Door, text: str) -> None:
    payload = {"v": text * (4000 // len(text.encode()))}
    requests = [
        pb.CreateTaskRequest(
            task_type="example_task", payload=payload, request_id=f"r{place}", delay_ms=9_999_999
        )
        for place in range(1000)
    ]
    batch = pb.BatchCreateTasksRequest(tasks=requests)
    assert 3.8 * MIB < batch.ByteSize() < 4 * MIB
    made = door.stub.BatchCreateTasks(batch, timeout=SECONDS)
    ids = [task.task_id for task in made.tasks]
    assert len(set(ids)) == 1000
    assert all(dict(task.payload) == payload or task.values_omitted for task in made.tasks)
    # Once more: the same tasks, which have ended meanwhile.
    door.change(ids[:20], status=Status.SUCCESS, result={"v": text * (MIB // len(text.encode()))})
    door.change(ids[20:], status=Status.FAILED, error_message="😀" * 2000)
    again = door.stub.BatchCreateTasks(batch, timeout=SECONDS)
    assert [task.task_id for task in again.tasks] == ids
    for task in again.tasks:
        assert task.values_omitted or task.status == Status.FAILED
        assert task.values_omitted or dict(task.payload) == payload


def test_many_workers_with_many_types_are_listed(door: Door) -> None:
    at = now() + timedelta(hours=1)
    types = [f"{'😀' * 100}{place}" for place in range(100)]
    rows = [
        {
            "worker_id": f"w{place:05}",
            "host": "h" * 255,
            "pid": 1,
            "capacity": 8,
            "load": 0,
            "task_types": types,
            "status": "RUNNING",
            "version": "1",
            "started_at": at,
            "last_heartbeat_at": at,
            "clock_ahead_ms": 0,
            "stuck_tasks": [],
        }
        for place in range(300)
    ]
    door.system.database.write(lambda connection: connection.execute(insert(workers.WORKER), rows))
    answer = door.stub.ListWorkers(pb.ListWorkersRequest(), timeout=SECONDS)
    assert [worker.worker_id for worker in answer.workers] == [row["worker_id"] for row in rows]
    assert answer.left_out == 0
    for worker in answer.workers:
        assert worker.lists_omitted != bool(worker.task_types)
    assert {len(worker.task_types) for worker in answer.workers} == {0, 100}


def test_statistics_of_many_types_keep_those_with_most_tasks(door: Door) -> None:
    ids = door.create(2)
    made = door.stub.BatchCreateTasks(
        pb.BatchCreateTasksRequest(
            tasks=[pb.CreateTaskRequest(task_type="example_task", delay_ms=9_999_999)] * 1000
        ),
        timeout=SECONDS,
    )
    row = door.system.database.read(lambda c: c.execute(TASK.select().limit(1)).mappings().one())
    rows = [
        {**row, "task_id": f"{place:08}-x", "task_type": f"{'😀' * 120}{place}", "request_id": None}
        for place in range(8000)
    ]
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        door.system.database.write(lambda c, part=part: c.execute(insert(TASK), part))  # type: ignore[misc]
    answer = door.stub.GetStatistics(pb.GetStatisticsRequest(), timeout=SECONDS)
    assert answer.tasks_by_type["example_task"] == len(ids) + len(made.tasks)
    assert len(answer.tasks_by_type) + answer.types_left_out == 8001
    assert answer.types_left_out > 0


def _together(count: int, call: Callable[[], Any]) -> list[str]:
    """How so many calls at the same time end: OK, or the reason."""

    def end() -> str:
        try:
            call()
        except grpc.RpcError as error:
            reason = translate(error).reason
            return reason if reason == "TOO_BUSY" else f"{reason}: {error}"
        return "OK"

    with ThreadPoolExecutor(count) as threads:
        return [future.result() for future in [threads.submit(end) for _ in range(count)]]


def test_pages_of_large_tasks_that_are_asked_for_together_take_bounded_memory(door: Door) -> None:
    ids = door.create(60, {"v": "x" * (MIB - 100)})
    door.list(page_size=500)
    memory = psutil.Process(door.server.pid).memory_info
    before = memory().rss
    ends: list[str] = []
    peak = before
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(
            lambda: (
                _together(40, lambda: door.list(page_size=500))
                + _together(40, lambda: door.get(ids[0]))
                + _together(40, lambda: door.list(page_size=500, page=1))
            )
        )
        while not asking.done():
            peak = max(peak, memory().rss)
        ends = asking.result()
    assert set(ends) <= {"OK", "TOO_BUSY"}
    assert ends.count("OK") >= 3
    assert peak - before < 700 * MIB, f"{(peak - before) >> 20} MiB more"
    # Nothing is held for good.
    assert [len(door.list(page_size=500).tasks) for _ in range(30)] == [60] * 30
