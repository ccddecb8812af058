"""`atm up` as PID 1, as in a container without an init: no zombies, and it stops when it is told to."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from fix_system import PATIENCE_SECONDS, StartProcess, eventually, wait_until_serving
from ports import free_port

from atm.client import Client

_UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
_HANDLERS = """
import subprocess
from atm import handler
@handler("leave", max_retry=0)
def leave(context, payload):
    subprocess.Popen(["sleep", "0.1"])  # nobody waits for it
    # Its parent ends before it does.
    return subprocess.check_output(["sh", "-c", "sleep 0.2 >/dev/null & echo $!"], text=True).strip()
"""


def _may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*_UNSHARE, "true"], check=False).returncode == 0
    )


@pytest.mark.skipif(not _may_unshare(), reason="needs the right to make a PID namespace")
def test_nothing_that_handlers_leave_behind_stays_a_zombie(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "leaving_handlers.py").write_text(_HANDLERS)
    port = free_port()
    ports = ["--grpc-port", str(port), "--worker-port", str(free_port())]
    arguments = ["-m", "atm_cli", "up", "--data-dir", str(tmp_path / "data"), "--workers", "1", *ports]
    environment = {"ATM_HANDLERS": "leaving_handlers", "PYTHONPATH": str(tmp_path), "ATM_HOST": "127.0.0.1"}
    process = start_process([*_UNSHARE, sys.executable, *arguments], environment)
    wait_until_serving(f"127.0.0.1:{port}", process)
    outside = psutil.Process(process.pid)
    with Client(f"127.0.0.1:{port}") as client:
        eventually(client.list_workers)
        for _ in range(5):
            task = client.wait_for_task(client.create_task("leave").task_id, PATIENCE_SECONDS)
            assert task.status == "SUCCESS"

    def names() -> set[str]:
        found = set()
        for child in outside.children(recursive=True):
            # It may be reaped in this moment.
            with contextlib.suppress(psutil.NoSuchProcess):
                found.add(child.name())
        return found

    eventually(lambda: "sleep" not in names(), what="they are zombies")
    (init,) = outside.children()
    init.terminate()
    assert process.popen.wait(PATIENCE_SECONDS) == 0
