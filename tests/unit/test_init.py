"""PID 1 of a container reaps orphans, passes signals on, and ends as the command does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from atm.supervisor.init import split_from_init

#: A process that believes to be PID 1. As a subreaper it gets orphans, as that would.
_AS_INIT = """
import ctypes, os, signal, subprocess, sys, time
from atm.supervisor.init import split_from_init
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
os.getpid = lambda: 1
split_from_init()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")


def _start(command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _AS_INIT + command], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_orphans_are_reaped_and_the_commands_own_children_are_not() -> None:
    process = _start("""
own = subprocess.Popen(["sh", "-c", "exit 3"])
orphan = int(subprocess.check_output(["sh", "-c", "sleep 0.1 >/dev/null & echo $!"]))
end = time.monotonic() + 60
while os.path.exists(f"/proc/{orphan}") and time.monotonic() < end:
    time.sleep(0.01)
print("orphan", "left" if os.path.exists(f"/proc/{orphan}") else "reaped", "own", own.wait())
sys.exit(7)
""")
    said, _ = process.communicate(timeout=90)
    assert (said, process.returncode) == ("orphan reaped own 3\n", 7)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    process = _start("""
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: sys.exit(100 + number))
print("ready", flush=True)
while True:
    signal.pause()
""")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 100 + number


def test_a_command_that_dies_of_a_signal_is_told_as_a_shell_does() -> None:
    process = _start("os.kill(os.getpgrp(), 9)")
    process.communicate(timeout=60)
    assert process.returncode == 128 + 9


def test_another_process_than_pid_1_goes_on_as_it_is() -> None:
    before = os.getpid()
    split_from_init()
    assert os.getpid() == before
