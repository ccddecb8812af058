"""A gRPC server that ends by itself is replaced, and what it had begun is finished."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ports import free_port

from atm.server.listener import Listener

PATIENCE_SECONDS = 60.0


class _Service:
    """A call that waits until it is let go, and one that does not."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.begun.set()
        await self.let_go.wait()
        return b"waited"

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request

    def handler(self) -> Any:
        methods = {
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
        }
        return grpc.method_handlers_generic_handler("test.Service", methods)


@pytest.fixture
def service() -> _Service:
    return _Service()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def listener(service: _Service, port: int) -> AsyncIterator[Listener]:
    """On a plain server, which ends at the first path that is no text."""
    attempts = iter(range(3))

    def make() -> Any:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        server.add_generic_rpc_handlers([service.handler()])
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        return server

    # The ports are busy at first, and tried again.
    made = Listener(make, lambda: next(attempts, None) is None, grace=PATIENCE_SECONDS)
    await made.start()
    yield made
    await made.stop(0)


async def _call(address: str, path: str | bytes, request: bytes = b"") -> bytes:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call: Any = channel.unary_unary(path)  # type: ignore[arg-type]
        answer = await call(request, wait_for_ready=True, timeout=PATIENCE_SECONDS)
        assert isinstance(answer, bytes)
        return answer


async def _end_the_server(address: str) -> None:
    with pytest.raises(grpc.RpcError):
        await _call(address, b"/test.Service/\xff")


async def test_a_server_that_ended_is_replaced_on_its_port_and_its_calls_are_finished(
    listener: Listener, service: _Service, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "atm")
    address = f"127.0.0.1:{port}"
    waiting = asyncio.create_task(_call(address, "/test.Service/Wait"))
    await service.begun.wait()
    own_before = listener.own_address
    for _ in range(3):
        await _end_the_server(address)
        assert await _call(address, "/test.Service/Echo", b"here") == b"here"
    assert listener.own_address != own_before
    assert await _call(listener.own_address, "/test.Service/Echo", b"mine") == b"mine"
    assert not waiting.done()
    service.let_go.set()
    assert await waiting == b"waited"
    told = [record for record in caplog.records if "is replaced" in record.message]
    assert len(told) == 1
    assert "UnicodeDecodeError" in told[0].message


async def test_its_own_socket_is_in_a_folder_for_nobody_else_and_goes_with_it(listener: Listener) -> None:
    folder = Path(listener.own_address.removeprefix("unix:")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    await listener.stop(0)
    assert not folder.exists()


async def test_a_server_without_a_folder_for_its_socket_serves_all_the_same(
    monkeypatch: pytest.MonkeyPatch, service: _Service, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: object) -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    ports: list[int] = []

    def make() -> Any:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([service.handler()])
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        return server

    listener = Listener(make, lambda: True, grace=0)
    await listener.start()
    assert listener.own_address == ""
    assert "cannot check whether it serves" in caplog.text
    assert await _call(f"127.0.0.1:{ports[0]}", "/test.Service/Echo", b"here") == b"here"
    await listener.stop(0)
