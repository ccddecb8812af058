"""Load on a server from a process of its own; prints what it measured as JSON.

`python -m benchmarks.load CALL ADDRESS`, where CALL is create, batch, get or
list. Calls are made for `--seconds`, `--in-flight` of them at a time; the first
second is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceStub

_WARM_UP_SECONDS = 1.0


def _call(stub: Any, options: argparse.Namespace) -> Callable[[], Awaitable[Any]]:
    task = pb.CreateTaskRequest(task_type=options.type, payload={"n": "x" * options.payload})
    match options.call:
        case "create":
            return lambda: stub.CreateTask(task)
        case "batch":
            batch = pb.BatchCreateTasksRequest(tasks=[task] * options.batch)
            return lambda: stub.BatchCreateTasks(batch)
        case "get":
            wanted = pb.GetTaskRequest(task_id=options.task_id)
            return lambda: stub.GetTask(wanted)
        case _:
            page = pb.ListTasksRequest(priority=-1, page_token=options.page_token)
            return lambda: stub.ListTasks(page)


async def _run(options: argparse.Namespace) -> dict[str, float]:
    took: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        calls = []
        for _ in range(options.channels):
            channel = grpc.aio.insecure_channel(options.address, [("grpc.use_local_subchannel_pool", 1)])
            calls.append(_call(TaskServiceStub(await stack.enter_async_context(channel)), options))
        begin = time.perf_counter() + _WARM_UP_SECONDS
        end = begin + options.seconds
        count = 0

        async def one_after_the_other(call: Callable[[], Awaitable[Any]]) -> None:
            nonlocal count
            while (start := time.perf_counter()) < end:
                await call()
                done = time.perf_counter()
                if start >= begin and done <= end:
                    count += 1
                    took.append(done - start)

        await asyncio.gather(*(one_after_the_other(calls[n % len(calls)]) for n in range(options.in_flight)))
    took.sort()
    return {
        "per_second": count / options.seconds,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("call", choices=["create", "batch", "get", "list"])
    parser.add_argument("address")
    parser.add_argument("--type", default="bench")
    parser.add_argument("--task-id", default="")
    parser.add_argument("--page-token", default="")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--channels", type=int, default=1, help="connections")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--payload", type=int, default=10, help="bytes")
    parser.add_argument("--batch", type=int, default=100, help="tasks of one BatchCreateTasks")
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))


if __name__ == "__main__":
    main()
