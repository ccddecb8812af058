"""A small TaskService in memory, behind a real gRPC server on a free port.

A task moves one state each time it is read: PENDING, PROCESSING, then the end
that its type asks for (`fails`, `times_out`, `stuck`, anything else succeeds).
"""

# ruff: noqa: N802 - the methods have the names of the RPCs

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from atm.rpc import task_service_pb2 as pb
from atm.rpc import task_service_pb2_grpc

STATUSES = ("PENDING", "PROCESSING", "SUCCESS", "FAILED", "CANCELLED", "TIMEOUT")
FINAL = STATUSES[2:]
_ENDS = {"fails": "FAILED", "times_out": "TIMEOUT", "stuck": "PROCESSING", "is_cancelled": "CANCELLED"}


def rich_status(code: grpc.StatusCode, message: str, *details: Any) -> Any:
    """A google.rpc.Status for `abort_with_status`."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def info(reason: str, domain: str = "atm", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def violations(**fields: str) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for field, description in fields.items():
        request.field_violations.add(field=field, description=description)
    return request


def retry_in(milliseconds: int) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=milliseconds * 1_000_000))


class FakeTaskService(task_service_pb2_grpc.TaskServiceServicer):
    """`requests` holds what came in; each of `answers` is taken for one call instead of serving it."""

    def __init__(self) -> None:
        self.tasks: dict[str, pb.Task] = {}
        self.logs: dict[str, list[pb.TaskLog]] = {}
        self.requests: list[Any] = []
        self.answers: list[Any] = []
        self.workers = [
            pb.Worker(
                worker_id="w-1",
                host="box",
                pid=7,
                capacity=8,
                load=1,
                task_types=["a", "b"],
                status="RUNNING",
            )
        ]

    def CreateTask(
        self, request: pb.CreateTaskRequest, context: grpc.ServicerContext
    ) -> pb.CreateTaskResponse:
        self._enter(request, context)
        task = pb.Task(
            task_id=f"task-{len(self.tasks) + 1}",
            task_type=request.task_type,
            status="PENDING",
            priority=request.priority,
            payload=request.payload,
            max_retry=request.max_retry,
            timeout_ms=request.timeout_ms,
        )
        task.created_at.FromJsonString("2026-01-31T12:00:00.123456Z")
        self.tasks[task.task_id] = task
        self.logs[task.task_id] = []
        self._log(task, "", "PENDING")
        return pb.CreateTaskResponse(task=task)

    def GetTask(self, request: pb.GetTaskRequest, context: grpc.ServicerContext) -> pb.GetTaskResponse:
        self._enter(request, context)
        task = self._find(request.task_id, context)
        answer = pb.GetTaskResponse(task=task)
        self._advance(task)
        return answer

    def WaitTask(self, request: pb.WaitTaskRequest, context: grpc.ServicerContext) -> pb.WaitTaskResponse:
        self._enter(request, context)
        task = self._find(request.task_id, context)
        if task.task_type == "stuck":
            time.sleep(request.timeout_ms / 1000)
        answer = pb.WaitTaskResponse(task=task)
        self._advance(task)
        return answer

    def BatchCreateTasks(
        self, request: pb.BatchCreateTasksRequest, context: grpc.ServicerContext
    ) -> pb.BatchCreateTasksResponse:
        made = [self.CreateTask(task, context).task for task in request.tasks]
        self.requests.append(request)
        return pb.BatchCreateTasksResponse(tasks=made)

    def CancelTask(
        self, request: pb.CancelTaskRequest, context: grpc.ServicerContext
    ) -> pb.CancelTaskResponse:
        self._enter(request, context)
        task = self._find(request.task_id, context)
        if task.status in FINAL:
            return pb.CancelTaskResponse(success=False, message=f"task is already {task.status}")
        self._move(task, "CANCELLED")
        return pb.CancelTaskResponse(success=True, message="cancelled")

    def GetTaskLogs(
        self, request: pb.GetTaskLogsRequest, context: grpc.ServicerContext
    ) -> pb.GetTaskLogsResponse:
        self._enter(request, context)
        self._find(request.task_id, context)
        return pb.GetTaskLogsResponse(logs=self.logs[request.task_id])

    def ListTasks(self, request: pb.ListTasksRequest, context: grpc.ServicerContext) -> pb.ListTasksResponse:
        self._enter(request, context)
        found = [
            task
            for task in reversed(self.tasks.values())
            if request.status in ("", task.status)
            and request.priority in (-1, task.priority)
            and request.task_type in ("", task.task_type)
        ]
        start = (request.page - 1) * request.page_size
        return pb.ListTasksResponse(tasks=found[start : start + request.page_size], total=len(found))

    def ListWorkers(
        self, request: pb.ListWorkersRequest, context: grpc.ServicerContext
    ) -> pb.ListWorkersResponse:
        self._enter(request, context)
        return pb.ListWorkersResponse(workers=self.workers)

    def GetStatistics(
        self, request: pb.GetStatisticsRequest, context: grpc.ServicerContext
    ) -> pb.GetStatisticsResponse:
        self._enter(request, context)
        counted = Counter(task.status for task in self.tasks.values())
        return pb.GetStatisticsResponse(
            tasks_by_status={status: counted[status] for status in STATUSES},
            tasks_by_type=Counter(task.task_type for task in self.tasks.values()),
            workers=len(self.workers),
            capacity=8,
            load=1,
        )

    def received(self, kind: type) -> list[Any]:
        """The requests of one kind, in order."""
        return [request for request in self.requests if isinstance(request, kind)]

    def _enter(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, f"answered {answer.name}")
            elif callable(answer):
                answer(context)
            else:
                context.abort_with_status(answer)

    def _find(self, task_id: str, context: grpc.ServicerContext) -> pb.Task:
        if task_id not in self.tasks:
            detail = info("TASK_NOT_FOUND", task_id=task_id)
            context.abort_with_status(rich_status(grpc.StatusCode.NOT_FOUND, f"no task {task_id!r}", detail))
        return self.tasks[task_id]

    def _advance(self, task: pb.Task) -> None:
        if task.status == "PENDING":
            self._move(task, "PROCESSING")
            task.progress, task.progress_message, task.worker_id = 0.5, "half way", "w-1"
            task.started_at.FromJsonString("2026-01-31T12:00:01Z")
        elif task.status == "PROCESSING" and task.task_type != "stuck":
            task.result["n"] = "1"
            task.completed_at.FromJsonString("2026-01-31T12:00:03.5Z")
            if task.task_type in ("fails", "times_out"):
                task.error_message, task.error_reason = "it broke\nbadly", "HANDLER_ERROR"
            self._move(task, _ENDS.get(task.task_type, "SUCCESS"))

    def _move(self, task: pb.Task, status: str) -> None:
        self._log(task, task.status, status)
        task.status = status

    def _log(self, task: pb.Task, before: str, after: str) -> None:
        rows = self.logs[task.task_id]
        rows.append(
            pb.TaskLog(
                log_id=str(len(rows) + 1),
                task_id=task.task_id,
                log_type="STATE_CHANGE",
                from_status=before,
                to_status=after,
                message=f"now {after}",
            )
        )


@contextmanager
def serving(service: FakeTaskService, port: int = 0) -> Iterator[str]:
    """The address of a server that offers `service` until the block ends."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        server.stop(grace=None).wait()
