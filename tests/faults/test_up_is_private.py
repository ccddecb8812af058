"""What `atm up` starts is for this machine and this user, and runs nobody else's code."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from fix_system import Process, eventually, wait_until_serving
from ports import free_port

from atm.client import Client


@contextmanager
def _up(folder: Path, here: Path, environment: dict[str, str], *flags: str) -> Iterator[tuple[Process, str]]:
    """`atm up` with its data in `folder`, run in the current folder `here`; where it serves."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "atm_cli", "up", "--data-dir", str(folder), "--workers", "1"]
    command += ["--grpc-port", str(port), "--worker-port", str(free_port()), *flags]
    # Process takes the environment's folder from its shell, so that `here` is it.
    shell = ["sh", "-c", 'cd "$HERE" && exec "$@"', "sh", *command]
    process = Process(shell, {**environment, "HERE": str(here)}, here / "up.log")
    try:
        wait_until_serving(f"127.0.0.1:{port}", process)
        yield process, f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.kill()


def _listening(process: Process) -> set[str]:
    return {
        # gRPC has IPv4 in sockets of IPv6.
        each.laddr.ip.removeprefix("::ffff:")
        for each in psutil.Process(process.pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }


@pytest.fixture(autouse=True)
def _no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATM_HOST", raising=False)


def test_it_listens_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    with _up(tmp_path / "one", tmp_path, {}) as (process, _):
        assert _listening(process) == {"127.0.0.1"}
    with _up(tmp_path / "one", tmp_path, {"ATM_HOST": "0.0.0.0"}) as (process, _):
        assert _listening(process) <= {"0.0.0.0", "::"}
    with _up(tmp_path / "one", tmp_path, {"ATM_HOST": "127.0.0.2"}, "--host", "0.0.0.0") as (process, _):
        assert _listening(process) <= {"0.0.0.0", "::"}


def test_its_files_are_for_its_user_alone_in_a_shared_folder_too(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    # As an older ATM left it.
    (shared / "atm.db").touch()
    (shared / "atm.db").chmod(0o644)
    with _up(shared, tmp_path, {"TMPDIR": str(shared)}) as (process, _):
        sockets = [
            Path(connection.laddr)
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for connection in one.net_connections("unix")
            if str(connection.laddr).startswith(str(shared))
        ]
        assert sockets
        # Nobody else can put anything where they are.
        assert {stat.S_IMODE(path.parent.stat().st_mode) for path in sockets} == {0o700}
        assert not any(path.parent == shared for path in sockets)
        files = [path for path in shared.rglob("*") if path.is_file() and path.name != "lock"]
        assert {"atm.db", "atm.db-wal", "atm.db-shm"} <= {path.name for path in files}
        readable = [path for path in files if path.stat().st_mode & 0o077]
        assert readable == []
    assert list(shared.glob("atm-*")) == []


def test_nothing_in_the_current_folder_is_imported_but_handlers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import helper\nfrom atm import handler\n\n"
        "@handler('mine')\ndef mine(c, p):\n    return helper.answer\n\n"
        "@handler('mine_apart', isolation='process')\ndef mine_apart(c, p):\n    return helper.answer\n"
    )
    (tmp_path / "helper.py").write_text("answer = {'from': 'here'}\n")
    strangers = ("dramatiq", "atm", "atm_cli", "redis", "grpc", "logging", "json", "typer", "pydantic")
    for name in strangers:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n")
    with (
        _up(tmp_path / "data", tmp_path, {"ATM_HANDLERS": "mine"}) as (_, address),
        Client(address) as client,
    ):
        eventually(client.list_workers)
        for task_type in ("mine", "mine_apart"):
            task = client.wait_for_task(client.create_task(task_type).task_id, 60)
            assert (task.status, task.result) == ("SUCCESS", {"from": "here"})
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()
