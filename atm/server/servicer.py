"""The calls of the contract: decode, ask the service, encode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import unquote

from atm.models import Task
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceServicer
from atm.server import convert, fitting
from atm.server.admission import Memory
from atm.server.waiting import Waiting
from atm.service.answers import Reserve
from atm.service.task_service import TaskService
from atm.service.validation import check_wait

R = TypeVar("R")


class Servicer(TaskServiceServicer):
    """One method for each call. The pool's size bounds how many use SQL at a time."""

    def __init__(
        self,
        service: TaskService,
        waiting: Waiting,
        pool: ThreadPoolExecutor,
        memory: Memory,
    ) -> None:
        self._service = service
        self._memory = memory
        self._waiting = waiting
        self._pool = pool

    async def _in_thread(self, work: Callable[[], R]) -> R:
        # When the caller has gone before a thread is free, the work is dropped with the call.
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def CreateTask(self, request: pb.CreateTaskRequest, context: Any) -> pb.CreateTaskResponse:
        """Accepts a task. The answer means that it is committed."""
        new = convert.new_task(request)
        answer: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        if not self._service.create_at_once(new, answer):
            await self._in_thread(lambda: self._service.submit(new, answer))
        response = pb.CreateTaskResponse()
        convert.task(await answer, response.task)
        return response

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        """A task as it is now."""
        answer: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        self._service.get(request.task_id, answer)
        task = await answer
        if task.unread:
            task = await self._whole(task, context)
        response = pb.GetTaskResponse()
        fitting.one_task(convert.task(task, response.task))
        return response

    async def _whole(self, task: Task, context: Any) -> Task:
        """The task with its values, however large: memory for them is held until the answer has been sent."""
        reserve = self._reserve(context)
        return await self._in_thread(lambda: self._service.whole(task, reserve))

    def _reserve(self, context: Any) -> Reserve:
        return self._memory.holder(context, asyncio.get_running_loop())

    async def BatchCreateTasks(
        self, request: pb.BatchCreateTasksRequest, context: Any
    ) -> pb.BatchCreateTasksResponse:
        """Accepts all tasks or none."""

        def work() -> pb.BatchCreateTasksResponse:
            made = self._service.create_all([convert.new_task(item) for item in request.tasks])
            return pb.BatchCreateTasksResponse(tasks=fitting.tasks([convert.task(task) for task in made]))

        return await self._in_thread(work)

    async def WaitTask(self, request: pb.WaitTaskRequest, context: Any) -> pb.WaitTaskResponse:
        """A task once it has ended, or as it is when the time is up."""
        milliseconds = check_wait(request.timeout_ms)
        task = await self._waiting.wait(request.task_id, milliseconds / 1000)
        if task.unread:
            task = await self._whole(task, context)
        return pb.WaitTaskResponse(task=fitting.one_task(convert.task(task)))

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Any) -> pb.CancelTaskResponse:
        """Ends a task that waits, asks a running one to end."""
        requested_by = request.requested_by or unquote(context.peer())
        answer = await self._in_thread(lambda: self._service.cancel(request.task_id, requested_by))
        return pb.CancelTaskResponse(success=answer.success, message=answer.message)

    async def GetTaskLogs(self, request: pb.GetTaskLogsRequest, context: Any) -> pb.GetTaskLogsResponse:
        """The history of a task, or a page of it."""
        listing, reserve = convert.log_listing(request), self._reserve(context)
        page = await self._in_thread(lambda: self._service.logs(listing, reserve))
        return pb.GetTaskLogsResponse(
            logs=[convert.task_log(row) for row in page.rows], next_page_token=page.next_token
        )

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """One page of tasks."""
        listing, reserve = convert.listing(request), self._reserve(context)
        page = await self._in_thread(lambda: self._service.page(listing, reserve))
        return pb.ListTasksResponse(
            tasks=fitting.tasks([convert.task(task) for task in page.tasks]),
            total=convert.total(page.total),
            next_page_token=page.next_token,
        )

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Any) -> pb.ListWorkersResponse:
        """Every worker."""
        found = await self._in_thread(self._service.workers)
        return fitting.workers([convert.worker(worker) for worker in found])

    async def ListServers(self, request: pb.ListServersRequest, context: Any) -> pb.ListServersResponse:
        """Every server, and which one leads."""
        found, leader = await self._in_thread(self._service.servers)
        return fitting.servers([convert.server(server, leader) for server in found])

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: Any) -> pb.GetStatisticsResponse:
        """Counts."""
        return fitting.statistics(convert.statistics(await self._in_thread(self._service.statistics)))
