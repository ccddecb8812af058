"""Who gives a server up, and who does not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atm.server import self_check as module
from atm.server.self_check import SelfCheck


class _Health(health_pb2_grpc.HealthServicer):
    """Answers with `code`."""

    code = grpc.StatusCode.OK

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, "no")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def health() -> _Health:
    return _Health()


@pytest.fixture
def address(health: _Health, tmp_path: Path) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    address = f"unix:{tmp_path}/s"
    server.add_insecure_port(address)
    server.start()
    yield address
    server.stop(0).wait()


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_answers_anything_is_kept(health: _Health, address: str, code: grpc.StatusCode) -> None:
    health.code = code
    given_up: list[bool] = []
    SelfCheck(lambda: address, lambda: given_up.append(True)).run_once()
    assert given_up == []


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.1)
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    given_up: list[bool] = []
    SelfCheck(lambda: f"unix:{tmp_path}/nobody", lambda: given_up.append(True)).run_once()
    assert given_up == [True]


def test_one_silence_is_forgiven(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As after the whole process was stopped, or when the server was just replaced."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LAST_SECONDS", 60.0)
    addresses = iter([f"unix:{tmp_path}/nobody", address])
    given_up: list[bool] = []
    SelfCheck(lambda: next(addresses), lambda: given_up.append(True)).run_once()
    assert given_up == []


@pytest.mark.parametrize(("busy", "kept"), [(True, True), (False, False)])
def test_one_that_works_hard_gets_longer_than_one_that_stands_still(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, busy: bool, kept: bool
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.1)
    monkeypatch.setattr(module, "BUSY_SECONDS", 60.0)
    times = iter([5.0, 1000.0 if busy else 5.0])
    monkeypatch.setattr(module.time, "process_time", lambda: next(times))
    addresses = iter([f"unix:{tmp_path}/nobody", f"unix:{tmp_path}/nobody", address])
    given_up: list[bool] = []
    SelfCheck(lambda: next(addresses), lambda: given_up.append(True)).run_once()
    assert (given_up == []) is kept


def test_a_server_without_a_socket_of_its_own_is_kept() -> None:
    given_up: list[bool] = []
    SelfCheck(lambda: "", lambda: given_up.append(True)).run_once()
    assert given_up == []
