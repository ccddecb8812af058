"""A server whose event loop does not turn any more leaves, and whoever started it starts it again."""

from __future__ import annotations

from pathlib import Path

import grpc
from fix_system import PATIENCE_SECONDS, Process, System, eventually, wait_until_serving

from atm.client import Client, Server
from atm.errors import UnavailableError
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceStub

#: Imported by every Python process that finds it: servers block their loop for the task with the id "block".
SITECUSTOMIZE = """
import os, sys, time
if os.environ.get("BLOCKS") == "true" and "atm_cli" in " ".join(sys.orig_argv):
    from atm.server.servicer import Servicer
    get = Servicer.GetTask
    def GetTask(self, request, context):
        if request.task_id == "block":
            time.sleep(600)
        return get(self, request, context)
    async def call(self, request, context):
        return await GetTask(self, request, context)
    Servicer.GetTask = call
"""


def _block(address: str, server: Process) -> None:
    """Asks for the task that blocks the server, or one of its processes, until it says that it is stuck."""
    with grpc.insecure_channel(address) as channel:
        # Held, or it would be cancelled.
        call = TaskServiceStub(channel).GetTask.future(pb.GetTaskRequest(task_id="block"), timeout=600)
        eventually(lambda: "this server does not answer any more" in server.output())
        call.cancel()


def _blocking(system: System, folder: Path) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"BLOCKS": "true", "PYTHONPATH": f"{folder}:{system.environment['PYTHONPATH']}"}


def _servers(client: Client) -> list[Server]:
    try:
        return client.list_servers()
    except UnavailableError:
        return []


def test_a_stuck_server_hands_over_and_ends_with_its_code(new_system: System, tmp_path: Path) -> None:
    stuck = new_system.start_server("--id", "stuck", environment=_blocking(new_system, tmp_path))
    first = new_system.client()
    eventually(lambda: [server.leader for server in first.list_servers()] == [True])
    new_system.start_server("--id", "well")
    second = new_system.client()
    assert len(second.list_servers()) == 2
    _block(stuck.address, stuck)
    assert stuck.popen.wait(PATIENCE_SECONDS) == 1
    # Gone, not missed: it has taken itself out.
    assert [server.server_id for server in second.list_servers()] == ["well"]
    eventually(lambda: [server.leader for server in second.list_servers()] == [True])


def test_a_stuck_process_among_several_is_started_again(new_system: System, tmp_path: Path) -> None:
    server = new_system.start_server(
        "--processes", "2", "--id", "many", environment=_blocking(new_system, tmp_path)
    )
    client = new_system.client()
    eventually(lambda: len(_servers(client)) == 2)
    before = {one.pid for one in client.list_servers()}
    _block(server.address, server)

    def replaced() -> bool:
        with Client(server.address) as each:
            now = {one.pid for one in _servers(each) if one.status == "RUNNING"}
        return len(now) == 2 and len(now - before) == 1

    eventually(replaced)
    wait_until_serving(server.address, server)
    assert server.terminate() == 0
