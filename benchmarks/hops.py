"""The way of one task: `python -m benchmarks.hops` lists the functions of ATM that it enters, in their order.

A server and a worker run with a profiler that notes each function of ATM when
it is entered. One task is created, run and acknowledged while everything else
is idle; what threads of background roles do meanwhile is not on its way.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import runpy
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parent.parent
_ATM = f"{ROOT}{os.sep}atm{os.sep}"
#: What is entered inside of a function and is no function of its own.
_PARTS = {"<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>"}
#: The threads that a task goes through, by how their names begin; the others belong to background roles.
_THREADS = (
    *("MainThread", "Thread-", "atm-create", "atm-call", "atm-send"),
    *("atm-start", "atm-end", "atm-acknowledge"),
)

Entry = tuple[float, str, str, str, list[str]]
#: What stands in the payload of the task that is followed: its id is not known before it has one.
MARK = "followed-task"
_ID = re.compile(rf"{MARK}|[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}")
_THREAD_NUMBER = re.compile(r"[-_]?\d+( \(.*\))?$")
_DEPTH = 4
_WIDTH = 64


def carried(value: Any, depth: int = 0) -> set[str]:
    """The ids and the mark that a value holds: in its text, its items, or its attributes."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return set(_ID.findall(value))
    if isinstance(value, Message):
        return set(_ID.findall(str(value)))
    if depth == _DEPTH or value is None or isinstance(value, type | int | float):
        return set()
    if isinstance(value, Mapping):
        inner: list[Any] = [*value, *value.values()]
    elif isinstance(value, Sequence | set | deque):
        inner = list(value)
    else:
        inner = [*getattr(value, "__dict__", {}).values()]
        inner += [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
        # What holds many tasks is a place that they pass through, not one of them.
        inner = [item for item in inner if not isinstance(item, dict | set | deque) or depth == 0]
    return set().union(*(carried(item, depth + 1) for item in inner[:_WIDTH]))


class Recorder:
    """Writes each function of ATM that is entered with a task to a file of its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, IO[str]] = {}

    def install(self) -> None:
        """Profiles this thread and those that start later, also in processes that are forked."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _carried_by(self, name: str, value: Any) -> set[str]:
        try:
            # Of objects with methods only those that are one task's: `self` is mostly a place.
            if name == "self" and not {"task_id", "id", "_task"} & {
                *getattr(value, "__dict__", {}),
                *dir(type(value)),
            }:
                return set()
            return carried(value)
        except Exception:
            # It is not made yet, or does not like to be looked at.
            return set()

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_ATM) or code.co_name in _PARTS:
            return
        found: set[str] = set()
        for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
            found |= self._carried_by(name, frame.f_locals.get(name))
        for name in code.co_freevars:
            found |= self._carried_by(name, frame.f_locals.get(name))
        where = code.co_filename.removeprefix(_ATM)
        entry = (time.time(), threading.current_thread().name, where, code.co_qualname, sorted(found))
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
                # The first ones meet caches that are empty.
                for _ in range(2):
                    client.wait_for_task(client.create_task("bench").task_id, 30)
                task = client.create_task("bench", {"n": MARK})
                eventually(lambda: atm.count(task_id=task.task_id, status="SUCCESS") == 1)
                # Until its message is acknowledged, too.
                time.sleep(0.2)
            for process in (server, worker):
                process.terminate()
        finally:
            atm.stop()
            installation.stop()
        found = [tuple(entry) for file in records.glob("*.jsonl") for entry in map(json.loads, file.open())]
    ids = {task.task_id, MARK}
    return sorted(entry for entry in found if ids & set(entry[4]) and entry[1].startswith(_THREADS))


def main() -> None:
    """Prints each function on the way once, in the order in which they are first entered."""
    parser = argparse.ArgumentParser(prog="benchmarks.hops")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/architecture.md")
    options = parser.parse_args()
    way: dict[tuple[str, str], str] = {}
    for _, thread, where, function, _ in _measure():
        way.setdefault((where, function), _THREAD_NUMBER.sub("", thread))
    if options.markdown:
        print("| thread | file | functions |\n|---|---|---|")
        for (thread, where), hops in itertools.groupby(way, lambda hop: (way[hop], hop[0])):
            names = ", ".join(f"`{name.replace('.<locals>', '')}`" for _, name in hops)
            print(f"| {thread} | `{where}` | {names} |")
    else:
        for (where, name), thread in way.items():
            print(f"{thread:20} {where:32} {name}")
    print(f"\n{len(way)} functions in {len({where for where, _ in way})} files")


if __name__ == "__main__" and sys.argv[1:2] == ["--serve"]:
    _serve()
elif __name__ == "__main__":
    main()
elif "HOPS_FOLDER" in os.environ:
    # A worker imports it as a module of handlers, before it forks.
    Recorder(Path(os.environ["HOPS_FOLDER"])).install()
