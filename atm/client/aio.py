"""The client for asyncio: the methods of `Client` as coroutines, for use on one event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from atm.client import decode, requests
from atm.client.channel import DEFAULT_ADDRESS, channel_options, target_of
from atm.client.errors import translate
from atm.client.polling import Polling
from atm.client.requests import DEFAULT_DEADLINE_SECONDS, Priority, RetryLike
from atm.client.results import CancelResult, Server, Statistics, Task, TaskLog, TaskPage, Worker
from atm.errors import ServiceError
from atm.rpc import task_service_pb2 as pb
from atm.rpc import task_service_pb2_grpc

Request = TypeVar("Request")
Response = TypeVar("Response")


class AsyncClient:
    """`atm.client.Client` for coroutines: the same arguments, results and errors.

    It belongs to the event loop on which it is first used. Closing it, or
    leaving its `async with`, ends the calls that are open.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, retries: bool = True) -> None:
        self.address = address
        self._target = target_of(address)
        self._retries = retries
        self._channel: grpc.aio.Channel | None = None
        self._lazy_stub: task_service_pb2_grpc.TaskServiceAsyncStub | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and the calls that are on it."""
        channel, self._channel, self._lazy_stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    async def create_task(
        self,
        task_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        priority: Priority = "normal",
        max_retry: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the task's, not this call's
        retry: RetryLike | None = None,
        delay: float = 0.0,
        request_id: str | None = None,
        deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> Task:
        """Hands over a task; once this returns, the task is committed. See `Client.create_task`."""
        request = requests.create_task(
            task_type,
            payload,
            priority=priority,
            max_retry=max_retry,
            timeout=timeout,
            retry=retry,
            delay=delay,
            request_id=request_id,
        )
        return decode.task((await self._call(self._stub().CreateTask, request, deadline)).task)

    async def create_tasks(
        self, tasks: Sequence[Mapping[str, Any]], *, deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> list[Task]:
        """Hands over up to 1000 tasks in one transaction, all or none. See `Client.create_tasks`."""
        request = requests.create_tasks(tasks)
        response = await self._call(self._stub().BatchCreateTasks, request, deadline)
        return [decode.task(task) for task in response.tasks]

    async def get_task(self, task_id: str, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> Task:
        """The task as it is now. Raises TaskNotFoundError."""
        return decode.task(
            (await self._call(self._stub().GetTask, requests.get_task(task_id), deadline)).task
        )

    async def cancel_task(
        self, task_id: str, *, requested_by: str = "", deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> CancelResult:
        """Cancels a pending task, or asks a running one to stop. See `Client.cancel_task`."""
        request = requests.cancel_task(task_id, requested_by)
        return decode.cancel_result(task_id, await self._call(self._stub().CancelTask, request, deadline))

    async def get_task_logs(
        self, task_id: str, *, deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> list[TaskLog]:
        """The task's history, oldest first. Raises TaskNotFoundError."""
        return decode.logs(
            await self._call(self._stub().GetTaskLogs, requests.get_task_logs(task_id), deadline)
        )

    async def list_tasks(
        self,
        status: str | None = None,
        priority: Priority | None = None,
        task_type: str | None = None,
        *,
        page: int = 1,
        page_size: int = 20,
        page_token: str = "",
        deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> TaskPage:
        """One page (from 1) of the tasks that match, newest first; None matches any.

        `page_token` is the `next_page_token` of the page before: then `page`
        is not looked at, and a page far in is as quick as the first.
        """
        request = requests.list_tasks(
            status=status,
            priority=priority,
            task_type=task_type,
            page=page,
            page_size=page_size,
            page_token=page_token,
        )
        return decode.page(request, await self._call(self._stub().ListTasks, request, deadline))

    async def wait_for_task(
        self,
        task_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - it ends in WaitTimeoutError, as in Client
        on_change: Callable[[Task], Awaitable[object] | object] | None = None,
        *,
        deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> Task:
        """The task once it has ended, however it ended. See `Client.wait_for_task`.

        `on_change` may be a plain function or a coroutine function.
        """
        polling = Polling(task_id, timeout=timeout, call_deadline=deadline, watch=on_change is not None)
        task: Task | None = None
        while task is None or not task.is_final:
            try:
                if task is None:
                    task = await self.get_task(task_id, deadline=polling.deadline())
                else:
                    task = await self._wait(task_id, polling)
            except ServiceError as error:
                polling.failed(error)
                await asyncio.sleep(polling.pause())
                continue
            if polling.saw(task) and on_change is not None:
                outcome = on_change(task)
                if inspect.isawaitable(outcome):
                    await outcome
        return task

    async def _wait(self, task_id: str, polling: Polling) -> Task:
        hold_ms = polling.hold_ms()
        request = requests.wait_task(task_id, hold_ms)
        response = await self._call(self._stub().WaitTask, request, polling.deadline(hold_ms))
        return decode.task(response.task)

    async def list_workers(self, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> list[Worker]:
        """The worker processes that the server knows."""
        return decode.workers(await self._call(self._stub().ListWorkers, pb.ListWorkersRequest(), deadline))

    async def list_servers(self, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> list[Server]:
        """The servers, and which one leads them."""
        return decode.servers(await self._call(self._stub().ListServers, pb.ListServersRequest(), deadline))

    async def get_statistics(self, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> Statistics:
        """How many tasks and workers there are."""
        return decode.statistics(
            await self._call(self._stub().GetStatistics, pb.GetStatisticsRequest(), deadline)
        )

    async def _call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, deadline: float
    ) -> Response:
        try:
            return await method(request, timeout=deadline)
        except grpc.RpcError as error:
            raise translate(error, task_id=getattr(request, "task_id", "")) from error

    def _stub(self) -> task_service_pb2_grpc.TaskServiceAsyncStub:
        # Not in the constructor: a channel of grpc.aio takes the loop it is made on.
        if self._lazy_stub is None:
            options = channel_options(self._target, retries=self._retries)
            self._channel = grpc.aio.insecure_channel(self._target, options=options)
            self._lazy_stub = task_service_pb2_grpc.TaskServiceStub(self._channel)
        return self._lazy_stub
