# Made from aio.py by tools/sync_client.py: change that one, and run `nox -s client`.
"""The client for threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import grpc

from atm.client import decode, requests
from atm.client.channel import Connection
from atm.client.errors import translate
from atm.client.polling import Polling
from atm.client.requests import DEFAULT_DEADLINE_SECONDS, Priority, RetryLike, View
from atm.client.results import CancelResult, Server, Statistics, Task, TaskLog, TaskPage, Worker
from atm.client.tries import Tries
from atm.errors import ServiceError
from atm.host_port import DEFAULT_ADDRESS
from atm.rpc import task_service_pb2 as pb

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """Calls to one server of ATM. It may be shared by threads, not across a fork.

    `address` is `host:port` (9090 without a port). `retries=False` turns off
    the four further tries of a call that ends UNAVAILABLE, and those of one
    that the server had no room for. Connecting begins with the first call.
    Every method takes `deadline`, the seconds that one call may take with all
    its tries, and raises the errors of `atm.errors`: a ServiceError for any
    answer other than OK. The constructor raises SettingsError for an address
    that cannot be read.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, retries: bool = True) -> None:
        self.address = address
        self._retries = retries
        self._connection = Connection(address, retries=retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, and the calls that are on it. The client is not for use afterwards."""
        self._connection.close()

    def create_task(
        self,
        task_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        priority: Priority = "normal",
        max_retry: int | None = None,
        timeout: float | None = None,
        retry: RetryLike | None = None,
        delay: float = 0.0,
        request_id: str | None = None,
        deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> Task:
        """Hands over a task; once this returns, the task is committed.

        Values of `payload` that are not strings travel as JSON. `timeout` is
        the seconds that one attempt may run (0: no limit), `retry` an
        `atm.Retry`; what is None comes from the type's configuration.
        `delay` is the seconds that it waits before it may start. A second call
        with the same `request_id` and content gives the same task; None makes
        one up, so that a call that is retried never makes two tasks.
        Raises InvalidArgumentError, PreconditionError for a type that is
        unknown or disabled, and RequestReusedError.
        """
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
        response = self._call(self._connection.stub.CreateTask, request, deadline)
        return decode.task(response.task)

    def create_tasks(
        self, tasks: Sequence[Mapping[str, Any]], *, deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> list[Task]:
        """Hands over up to 1000 tasks in one transaction: all are accepted, or none.

        Each is a mapping of `create_task`'s arguments: `task_type`, and any of
        `payload`, `priority`, `max_retry`, `timeout`, `retry`, `delay` and
        `request_id`. Raises what `create_task` raises; an
        InvalidArgumentError names the task, as in `tasks[3].payload`. Together
        they may have 4 MiB; of tasks whose values do not fit into the answer
        `values_omitted` is set.
        """
        request = requests.create_tasks(tasks)
        response = self._call(self._connection.stub.BatchCreateTasks, request, deadline)
        return [decode.task(task) for task in response.tasks]

    def get_task(self, task_id: str, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> Task:
        """The task as it is now. Raises TaskNotFoundError."""
        response = self._call(self._connection.stub.GetTask, requests.get_task(task_id), deadline)
        return decode.task(response.task)

    def cancel_task(
        self, task_id: str, *, requested_by: str = "", deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> CancelResult:
        """Cancels a pending task, or asks a running one to stop.

        `requested_by` goes into the task's history (empty: the address of this
        client). A task that has ended gives `success=False`. Raises
        TaskNotFoundError.
        """
        request = requests.cancel_task(task_id, requested_by)
        response = self._call(self._connection.stub.CancelTask, request, deadline)
        return decode.cancel_result(task_id, response)

    def get_task_logs(self, task_id: str, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> list[TaskLog]:
        """The task's whole history, oldest first. `deadline` is for each page. Raises TaskNotFoundError."""
        rows: list[TaskLog] = []
        token = ""
        while True:
            request = requests.get_task_logs(task_id, token)
            response = self._call(self._connection.stub.GetTaskLogs, request, deadline)
            rows += decode.logs(response)
            if not (token := response.next_page_token):
                return rows

    def list_tasks(
        self,
        status: str | None = None,
        priority: Priority | None = None,
        task_type: str | None = None,
        *,
        page: int = 1,
        page_size: int = 20,
        page_token: str = "",
        view: View = "full",
        deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> TaskPage:
        """One page (from 1) of the tasks that match, newest first; None matches any.

        `page_token` is the `next_page_token` of the page before: then `page`
        is not looked at, and a page far in is as quick as the first. With the
        view "basic" tasks come without payload and result.

        An answer has about 3 MiB at most. By token, a page ends early where the
        next task does not fit; by number, tasks whose payload or result does not
        fit have `values_omitted` set, and `get_task` has them.
        """
        request = requests.list_tasks(
            status=status,
            priority=priority,
            task_type=task_type,
            page=page,
            page_size=page_size,
            page_token=page_token,
            view=view,
        )
        response = self._call(self._connection.stub.ListTasks, request, deadline)
        return decode.page(request, response)

    def wait_for_task(
        self,
        task_id: str,
        timeout: float | None = None,
        on_change: Callable[[Task], object] | None = None,
        *,
        deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> Task:
        """The task once it has ended, however it ended.

        `timeout` is the seconds to wait (None: for ever). `on_change` is
        called with the task as first seen and whenever it differs.
        `deadline` is for each poll.
        Raises WaitTimeoutError when the time is up (the task goes on),
        TaskNotFoundError, and UnavailableError when the server is not there or
        stays away for 30 seconds.
        """
        polling = Polling(task_id, timeout=timeout, call_deadline=deadline, watch=on_change is not None)
        task: Task | None = None
        while task is None or not task.is_final:
            try:
                if polling.looks():
                    task = self.get_task(task_id, deadline=polling.deadline())
                else:
                    task = self._wait(task_id, polling)
            except ServiceError as error:
                polling.failed(error)
                time.sleep(polling.pause())
                continue
            changed = polling.saw(task)
            if changed and on_change is not None:
                on_change(task)
        return task

    def _wait(self, task_id: str, polling: Polling) -> Task:
        hold_ms = polling.hold_ms()
        request = requests.wait_task(task_id, hold_ms)
        with self._connection.for_wait() as stub:
            response = self._call(stub.WaitTask, request, polling.deadline(hold_ms), patient=False)
        return decode.task(response.task)

    def list_workers(self, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> list[Worker]:
        """The worker processes that the server knows."""
        response = self._call(self._connection.stub.ListWorkers, pb.ListWorkersRequest(), deadline)
        return decode.workers(response)

    def list_servers(self, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> list[Server]:
        """The servers, and which one leads them."""
        response = self._call(self._connection.stub.ListServers, pb.ListServersRequest(), deadline)
        return decode.servers(response)

    def get_statistics(self, *, deadline: float = DEFAULT_DEADLINE_SECONDS) -> Statistics:
        """How many tasks and workers there are."""
        response = self._call(self._connection.stub.GetStatistics, pb.GetStatisticsRequest(), deadline)
        return decode.statistics(response)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        deadline: float,
        *,
        patient: bool = True,
    ) -> Response:
        tries = Tries(deadline, patient=patient and self._retries)
        while True:
            try:
                return method(request, timeout=tries.left())
            except grpc.RpcError as error:
                failed = translate(error, task_id=getattr(request, "task_id", ""))
                if not tries.another(failed):
                    raise failed from error
            time.sleep(tries.pause)
