"""A server serves on a machine without IPv6, in one process and in several."""

from __future__ import annotations

import sys

import pytest
from fix_system import TESTS, System, wait_until_serving
from ports import free_port

from atm.client import Client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be made to refuse IPv6")


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("host", ["[::]", "::"])
def test_every_interface_is_every_interface_of_ipv4(lone_system: System, processes: int, host: str) -> None:
    ports = free_port(), free_port()
    server = lone_system._start(
        [
            *(sys.executable, str(TESTS / "without_ipv6.py"), sys.executable, "-m", "atm_cli", "server"),
            *("--grpc-port", str(ports[0]), "--worker-port", str(ports[1]), "--processes", str(processes)),
        ],
        {"ATM_HOST": host},
        "server.log",
    )
    for port in ports:
        wait_until_serving(f"127.0.0.1:{port}", server)
        with Client(f"127.0.0.1:{port}") as client:
            assert client.create_task("example_task").task_id
    assert "no IPv6: listening on 0.0.0.0" in server.output()
    assert server.terminate() == 0
