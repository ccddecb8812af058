"""No request ends a server, and none disturbs the calls of others."""

from __future__ import annotations

import sys
import threading
from typing import Self

import pytest
from fix_system import System, eventually, wait_until_serving
from ports import free_port
from raw_http2 import BAD_PATHS, RawConnection

from atm.client import Client
from atm.errors import UnavailableError

ROUNDS = 5
#: A server whose gRPC ends its own loop for such a path, like versions of it that cannot tell them apart.
UNPROTECTED = """
import sys
from atm.server import call_loop
call_loop._CAN_TAKE_CALLS = False
from atm_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class _Caller:
    """A client that creates a task and asks for it, again and again, and counts what went wrong."""

    def __init__(self, address: str, *, retries: bool) -> None:
        self._client = Client(address, retries=retries)
        self._done = threading.Event()
        self.failures: list[Exception] = []
        self.calls = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                task = self._client.create_task("example_task", delay=3600)
                assert self._client.get_task(task.task_id).status == "PENDING"
            except Exception as error:
                self.failures.append(error)
            self.calls += 1


def _attack(address: str) -> int:
    """Sends each of the bad paths ROUNDS times; how many were answered."""
    answered = 0
    for _ in range(ROUNDS):
        for path in BAD_PATHS:
            with RawConnection(address) as connection:
                answered += connection.call(path)
    return answered


@pytest.mark.parametrize("flags", [(), ("--processes", "2")], ids=["alone", "processes"])
def test_bad_paths_are_refused_while_other_calls_go_on(new_system: System, flags: tuple[str, ...]) -> None:
    server = new_system.start_server(*flags)
    client = new_system.client()
    count = 2 if flags else 1
    eventually(lambda: len(client.list_servers()) == count)
    before = {server.instance_id for server in client.list_servers()}
    waiting = client.create_task("example_task", delay=3600)
    waits: list[str] = []

    def wait() -> None:
        with Client(new_system.address, retries=False) as waiter:
            waits.append(waiter.wait_for_task(waiting.task_id, 60).status)

    waiter = threading.Thread(target=wait)
    waiter.start()
    with _Caller(new_system.address, retries=False) as other:
        assert _attack(new_system.address) == ROUNDS * len(BAD_PATHS)
        calls = other.calls
        eventually(lambda: other.calls > calls + 10)
    assert other.failures == []
    client.cancel_task(waiting.task_id)
    waiter.join()
    assert waits == ["CANCELLED"]
    assert {server.instance_id for server in client.list_servers()} == before
    # One line for all of them, with who it was.
    lines = [line for line in server.output().splitlines() if "methods that do not exist" in line]
    assert 1 <= len(lines) <= count
    assert "ipv4:127.0.0.1:" in lines[0]


def test_a_server_that_such_a_path_ends_is_replaced_in_place(new_system: System) -> None:
    port = free_port()
    arguments = [sys.executable, "-c", UNPROTECTED, "server", "--grpc-port", str(port)]
    arguments += ["--worker-port", str(free_port())]
    server = new_system._start(arguments, {}, "unprotected.log")
    new_system.address = f"127.0.0.1:{port}"
    wait_until_serving(new_system.address, server)
    client = new_system.client()
    before = client.list_servers()
    waiting = client.create_task("example_task", delay=3600)
    waits: list[str] = []
    looked = threading.Event()

    def wait() -> None:
        waits.append(client.wait_for_task(waiting.task_id, 60, on_change=lambda _: looked.set()).status)

    waiter = threading.Thread(target=wait)
    waiter.start()
    # One that has never been answered is told that there is no server.
    assert looked.wait(60)
    with _Caller(new_system.address, retries=True) as other:
        for path in BAD_PATHS:
            with RawConnection(new_system.address) as connection:
                connection.call(path)
            # Before the next: the server is there again.
            wait_until_serving(new_system.address, server)
    # What came in the moment between the two servers may be tried again; nothing else happened to any call.
    assert all(isinstance(error, UnavailableError) for error in other.failures), other.failures
    assert other.calls > len(other.failures)
    client.cancel_task(waiting.task_id)
    waiter.join()
    assert waits == ["CANCELLED"]
    assert [one.instance_id for one in client.list_servers()] == [one.instance_id for one in before]
    # Once in a minute, however often it was.
    assert server.output().count("the gRPC server ended and is replaced") == 1
    assert server.terminate() == 0
