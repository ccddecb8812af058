"""A client in another language creates, waits for and reads a task, from the proto alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fix_system import System

ROOT = Path(__file__).parents[2]
MISSING = "npm is not installed (Debian: apt-get install npm), so no client in another language was tried"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and what it needs."""
    if shutil.which("npm") is None:
        if os.environ.get("ATM_REQUIRE_NODE"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(Path(__file__).with_name("node"), folder, dirs_exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        check=True,
        timeout=110,
    )
    return folder


def _run(node: Path, program: str, address: str) -> Any:
    """What a program of the folder says, which is JSON."""
    run = subprocess.run(
        ["node", program, address, str(ROOT / "proto/task_service.proto")],
        cwd=node,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_node_client_with_the_defaults_of_grpc_reads_all_that_may_be_written(
    system: System, node: Path
) -> None:
    said = _run(node, "read_all.js", system.address)
    total = system.client().get_statistics().total - said["batch"]
    assert (said["byNumber"], said["byToken"]) == (total, total)
    assert 0 < said["marked"] < 6
    # The newest, which was asked for by number, is another one.
    assert said["wholeByToken"] == 6
    assert said["pages"] > 3
    # Five attempts of 950 lines, each with its start and its end, and the first row and the whole error.
    assert said["rows"] == said["rowIds"] > 5 * 950
    assert said["logs"] < said["rows"]
    assert said["end"] == "FAILED"
    assert "rows are left out here" in said["said"]
    assert said["batch"] == 900


def test_a_node_client_made_from_the_proto_runs_a_task(system: System, node: Path) -> None:
    said = _run(node, "client.js", system.address)
    assert said["created"] == "PENDING"
    assert said["task"]["status"] == "SUCCESS"
    assert said["task"]["result"] == {"from": "node"}
    assert said["states"] == ["PENDING", "PROCESSING", "SUCCESS"]
    assert said["refused"] == "INVALID_ARGUMENT"
