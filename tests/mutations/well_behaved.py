"""`python -m mutations.well_behaved ADDRESS`: calls until its input ends, and says how they went."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from atm.client import Client

_TESTS = Path(__file__).parents[1]
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True)
class Behaviour:
    """How its calls went: seconds each, in order of length, and what went wrong."""

    seconds: list[float]
    failures: list[str]

    def milliseconds(self, share: float) -> float:
        """The quantile."""
        return self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * share))] * 1000


class WellBehaved:
    """The client as a process of its own, so that only the server is shared. `result` is there at the end."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.result = Behaviour([], [])

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "mutations.well_behaved", self._address]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=_TESTS)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"begun\n"
        return self

    def __exit__(self, *_: object) -> None:
        output, _ = self._process.communicate()
        self.result = Behaviour(**json.loads(output))


def _main() -> None:
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    seconds, failures = [], []
    with Client(sys.argv[1], retries=False) as client:
        print("begun", flush=True)
        while True:
            begun = time.perf_counter()
            try:
                task = client.create_task("echo", {"a": "1"}, delay=3600)
                assert client.get_task(task.task_id).payload == {"a": "1"}
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
            # Two calls.
            seconds.append((time.perf_counter() - begun) / 2)
            if ended.wait(_PAUSE_SECONDS):
                break
    print(json.dumps({"seconds": sorted(seconds), "failures": failures}))


if __name__ == "__main__":
    _main()
