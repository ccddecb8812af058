"""A client in another language creates, waits for and reads a task, from the proto alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

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


def test_a_node_client_made_from_the_proto_runs_a_task(system: System, node: Path) -> None:
    run = subprocess.run(
        ["node", "client.js", system.address, str(ROOT / "proto/task_service.proto")],
        cwd=node,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["created"] == "PENDING"
    assert said["task"]["status"] == "SUCCESS"
    assert said["task"]["result"] == {"from": "node"}
    assert said["states"] == ["PENDING", "PROCESSING", "SUCCESS"]
    assert said["refused"] == "INVALID_ARGUMENT"
