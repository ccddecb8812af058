"""Signals to stop, in the process that gets them: a process for each test, because they are its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_BEGIN = """
import os, signal, subprocess, sys, time, multiprocessing
from atm.worker.signals import StopSignals, held_back, ignore_stops
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_DFL)  # whatever nohup did
told = []
def termhandler(number, frame):
    told.append(number)
    if len(told) > 1:
        sys.exit(1)
termhandler.__module__ = "dramatiq.cli"
def send(number, times=1):
    for _ in range(times):
        os.kill(os.getpid(), number)
"""


def _run(code: str) -> str:
    """What a process says that has come to its end."""
    done = subprocess.run([sys.executable, "-c", _BEGIN + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_dramatiq_hears_of_the_first_signal_alone() -> None:
    assert (
        _run("""
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, termhandler)
StopSignals().take_over()
send(signal.SIGTERM, 3); send(signal.SIGHUP, 2)
print([int(n) for n in told])
""")
        == f"[{int(signal.SIGTERM)}]"
    )


def test_a_worker_that_was_told_before_goes_on_stopping() -> None:
    assert (
        _run("""
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, termhandler)
send(signal.SIGTERM)
StopSignals().take_over()
send(signal.SIGTERM, 2)
print("still here")
""")
        == "still here"
    )


def test_other_programs_keep_their_handlers() -> None:
    assert (
        _run("""
own = lambda number, frame: None
signal.signal(signal.SIGTERM, own)
StopSignals().take_over()
print(signal.getsignal(signal.SIGTERM) is own, signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)
""")
        == "True True"
    )


def test_a_module_of_handlers_does_not_take_the_signal_away() -> None:
    assert (
        _run("""
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, termhandler)
signals = StopSignals()
signals.take_over()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signals.take_over()
send(signal.SIGTERM)
print(len(told))
""")
        == "1"
    )


@pytest.mark.parametrize("how", ["take_over", "ignore"])
def test_what_such_a_process_forks_or_starts_stops_as_usual(how: str) -> None:
    assert (
        _run(
            f"how = {how!r}\n"
            """
if how == "ignore":
    ignore_stops()
else:
    for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, termhandler)
    StopSignals().take_over()
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
ready, say = os.pipe()
forked = multiprocessing.get_context("fork").Process(target=lambda: (os.write(say, b"."), time.sleep(60)))
forked.start()
program = subprocess.Popen(["sleep", "60"])
os.read(ready, 1)
forked.terminate(); program.terminate()
forked.join()
os.set_blocking(reader, False)
try:
    heard = os.read(reader, 10)
except BlockingIOError:
    heard = b""
# What comes to them is not told as if it had come to this one.
print(forked.exitcode, program.wait(), signal.SIGTERM in heard, len(told))
"""
        )
        == "-15 -15 False 0"
    )


def test_a_process_is_not_hit_before_it_can_say_that_it_takes_no_notice() -> None:
    code = """
from atm.worker.signals import ignore_stops
ignore_stops()
print("still here", flush=True)
"""
    began = f"""
with held_back():
    started = subprocess.Popen([sys.executable, "-c", {code!r}], stdout=subprocess.PIPE)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    started.send_signal(number)
print(started.communicate()[0].decode().strip(), signal.pthread_sigmask(signal.SIG_BLOCK, []) == set())
"""
    assert _run(began) == "still here True"
