"""Writes atm/client/sync.py from aio.py, so that a call of the client is written once.

    python tools/sync_client.py [--check]

With `--check` nothing is written, and the exit code is 1 when what is
committed is not what would be written. It needs ruff, which lays the lines out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "atm" / "client"

HEADER = "# Made from aio.py by tools/sync_client.py: change that one, and run `nox -s client`."
#: All that the two differ in, as text in aio.py and in sync.py, replaced in this order.
DIFFERENCES = (
    ('"""The client for asyncio."""', f'{HEADER}\n"""The client for threads."""'),
    ("import asyncio\nimport inspect\n", "import time\n"),
    ("import Awaitable, Callable", "import Callable"),
    ("belongs to the event loop on which it is first used", "may be shared by threads, not across a fork"),
    ("Callable[[Task], Awaitable[object] | object]", "Callable[[Task], object]"),
    (", and\n        awaited where it is a coroutine function. `deadline`", ".\n        `deadline`"),
    (" and inspect.isawaitable(told := on_change(task)):\n                await told", ": on_change(task)"),
    ("asyncio.sleep", "time.sleep"),
    ("grpc.aio.", "grpc."),
    ("AsyncClient", "Client"),
    ("AsyncConnection", "Connection"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("async def ", "def "),
    ("await ", ""),
)


def sync_of(source: str) -> str:
    """The text of sync.py for that of aio.py. Raises ValueError for a difference that is not there."""
    for asynchronous, synchronous in DIFFERENCES:
        if asynchronous not in source:
            raise ValueError(f"aio.py no longer holds {asynchronous!r}: amend DIFFERENCES")
        source = source.replace(asynchronous, synchronous)
    layout = ("ruff", "format", "--stdin-filename", str(CLIENT / "sync.py"), "-")
    return subprocess.run(layout, input=source, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """See the top."""
    made, target = sync_of((CLIENT / "aio.py").read_text()), CLIENT / "sync.py"
    if "--check" not in sys.argv:
        target.write_text(made)
    elif made != target.read_text():
        sys.exit("stale: atm/client/sync.py. Run `nox -s client` and commit it")


if __name__ == "__main__":
    main()
