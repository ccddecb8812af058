"""Handlers that print, for the tests of a worker's output; workers import them through ATM_HANDLERS."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading

from atm import Context, handler

print("imported " + "i" * 100_000)


@handler("print_much", max_retry=0)
def print_much(context: Context, payload: dict[str, str]) -> None:
    """Prints `times` lines of a million characters, each in three ways, from two threads."""

    def run(letter: str) -> None:
        for _ in range(int(payload["times"])):
            print(letter * 1_000_000)
            sys.stderr.buffer.write(letter.encode() * 1_000_000 + b"\n")
            logging.getLogger("mine").warning(letter * 1_000_000)

    other = threading.Thread(target=run, args=(payload["letter"].upper(),))
    other.start()
    run(payload["letter"])
    other.join()


def _print_everything() -> None:
    print("\ud800 😀")
    sys.stdout.write("unfinished ")
    sys.stdout.buffer.write(b"\xff\xfe\n")
    sys.stderr.write("on stderr\n")
    os.write(1, b"by C, on 1\n")
    os.write(2, b"by C, on 2\n")
    ctypes.CDLL(None).fflush(None)
    subprocess.run(["sh", "-c", "echo by a child; echo by a child >&2"], check=True)
    subprocess.run(["echo", "into the stream"], stdout=sys.stdout, stderr=sys.stderr, check=True)
    print("x" * 100_000)


@handler("print_everything", max_retry=0)
def print_everything(context: Context, payload: dict[str, str]) -> str:
    """Prints in all ways that there are."""
    _print_everything()
    return "printed"


@handler("print_everything_isolated", max_retry=0, isolation="process")
def print_everything_isolated(context: Context, payload: dict[str, str]) -> str:
    """The same, in a process of its own."""
    _print_everything()
    return "printed"


@handler("close_stdout", max_retry=0)
def close_stdout(context: Context, payload: dict[str, str]) -> None:
    """Closes the stream that all share."""
    sys.stdout.close()
    sys.stderr.close()


def _log_much(context: Context, payload: dict[str, str]) -> None:
    for number in range(int(payload["times"])):
        context.logger.warning("noise %d", number)


@handler("log_much", max_retry=0)
def log_much(context: Context, payload: dict[str, str]) -> None:
    """Logs `times` lines."""
    _log_much(context, payload)


@handler("log_much_isolated", max_retry=0, isolation="process")
def log_much_isolated(context: Context, payload: dict[str, str]) -> None:
    """The same, in a process of its own."""
    _log_much(context, payload)
