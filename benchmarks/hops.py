"""The way of one task: `python -m benchmarks.hops` lists the functions of ATM that it enters, in their order.

A server and a worker run with a profiler that notes each function of ATM when
it is entered. One task is created, run and acknowledged while everything else
is idle; what threads of background roles do meanwhile is not on its way.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
_ATM = f"{ROOT}{os.sep}atm{os.sep}"
#: What is entered inside of a function and is no function of its own.
_PARTS = {"<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>"}
#: The threads that a task goes through, by how their names begin; the others belong to background roles.
_THREADS = (
    *("MainThread", "Thread-", "atm-create", "atm-call", "atm-send"),
    *("atm-start", "atm-end", "atm-acknowledge"),
)

Entry = tuple[float, str, str, str, bool]


class Recorder:
    """Writes each function of ATM to a file of its process when it is entered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, IO[str]] = {}
        self._names: dict[int, tuple[str, str]] = {}

    def install(self) -> None:
        """Profiles this thread and those that start later, also in processes that are forked."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_ATM) or code.co_name in _PARTS:
            return
        caller = frame.f_back.f_code if frame.f_back is not None else None
        while caller is not None and caller.co_name in _PARTS and frame.f_back is not None:
            frame = frame.f_back
            caller = frame.f_back.f_code if frame.f_back is not None else None
        crosses = caller is None or caller.co_filename != code.co_filename
        entry = (
            time.time(),
            threading.current_thread().name,
            code.co_filename.removeprefix(_ATM),
            code.co_qualname,
            crosses,
        )
        file = self._files.get(os.getpid())
        if file is None:
            file = self._files[os.getpid()] = (self._folder / f"{os.getpid()}.jsonl").open("a", buffering=1)
        file.write(json.dumps(entry) + "\n")


def _serve() -> None:
    """Inside of the server's process."""
    Recorder(Path(os.environ["HOPS_FOLDER"])).install()
    sys.argv = ["atm", *sys.argv[2:]]
    runpy.run_module("atm_cli", run_name="__main__")


def _measure() -> list[Entry]:
    from fix_system import eventually, wait_until_serving
    from ports import free_port

    from atm.client import Client
    from benchmarks.installation import PATHS, Atm, Installation

    with tempfile.TemporaryDirectory(prefix="atm-hops-") as name:
        folder = Path(name)
        installation = Installation(folder)
        installation.start()
        atm = Atm(installation)
        records = folder / "records"
        records.mkdir()
        environment = atm.environment | {
            "HOPS_FOLDER": str(records),
            "ATM_HANDLERS": "benchmarks.hops,benchmarks.handlers",
            "PYTHONPATH": PATHS,
        }
        port, worker_port = free_port(), free_port()
        try:
            flags = ["--grpc-port", str(port), "--worker-port", str(worker_port)]
            server = installation.run(
                ["-m", "benchmarks.hops", "--serve", "server", *flags], environment, "server"
            )
            wait_until_serving(f"127.0.0.1:{port}", server)
            worker = installation.run(
                ["-m", "dramatiq", "atm.actors", "-p", "1", "-t", "1"], environment, "worker"
            )
            with Client(f"127.0.0.1:{port}") as client:
                # The first one meets caches that are empty.
                client.wait_for_task(client.create_task("bench").task_id, 30)
                time.sleep(0.3)
                began = time.time()
                task = client.create_task("bench")
                eventually(lambda: atm.count(task_id=task.task_id, status="SUCCESS") == 1)
                time.sleep(0.1)
                ended = time.time()
            for process in (server, worker):
                process.terminate()
        finally:
            atm.stop()
            installation.stop()
        found = [tuple(entry) for file in records.glob("*.jsonl") for entry in map(json.loads, file.open())]
    return sorted(entry for entry in found if began <= entry[0] <= ended and entry[1].startswith(_THREADS))


def main() -> None:
    """Prints each function on the way once, in the order in which they are first entered."""
    parser = argparse.ArgumentParser(prog="benchmarks.hops")
    parser.add_argument("--json", action="store_true", help="file and function of each, for a table")
    options = parser.parse_args()
    way: dict[tuple[str, str], str] = {}
    for _, thread, where, function, crosses in _measure():
        way.setdefault((where, function), thread + (" *" if crosses else ""))
    if options.json:
        print(
            json.dumps(
                [{"file": where, "function": name, "thread": thread} for (where, name), thread in way.items()]
            )
        )
        return
    for (where, name), thread in way.items():
        print(f"{thread:28} {where:32} {name}")
    files = Counter(where for where, _ in way)
    print(f"\n{len(way)} functions in {len(files)} files")


if __name__ == "__main__" and sys.argv[1:2] == ["--serve"]:
    _serve()
elif __name__ == "__main__":
    main()
elif "HOPS_FOLDER" in os.environ:
    # A worker imports it as a module of handlers, before it forks.
    Recorder(Path(os.environ["HOPS_FOLDER"])).install()
