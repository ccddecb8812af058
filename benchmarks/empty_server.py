"""A grpc.aio server whose handlers do nothing: what no server of this kind can be faster than."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceServicer, add_TaskServiceServicer_to_server


class _Empty(TaskServiceServicer):
    def __init__(self) -> None:
        self._task = pb.Task(task_id="0" * 36, task_type="bench", status="PENDING", payload={"n": "1"})

    async def CreateTask(self, request: pb.CreateTaskRequest, context: Any) -> pb.CreateTaskResponse:
        return pb.CreateTaskResponse(task=self._task)

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        return pb.GetTaskResponse(task=self._task)


async def _serve(port: int) -> None:
    server = grpc.aio.server()
    add_TaskServiceServicer_to_server(_Empty(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    # On the loop that ATM's server runs on, if asked to.
    factory = uvloop.new_event_loop if "--uvloop" in sys.argv else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(int(sys.argv[1])))
