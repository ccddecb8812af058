"""`python -m mutations --calls 10000 --seed 1`: the table of what mutated calls got, for docs/reliability.md.

Run from `tests/` (`nox -s mutations -- --calls 10000` does). A server and a
worker on SQLite are started for it. The exit code is 1 when the server ended,
or when another client's call failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from fix_system import System
from fix_valkey import Valkey

from mutations.recording import record
from mutations.run import run


def main() -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(prog="mutations")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atm-mutations-") as name:
        folder = Path(name)
        valkey = Valkey(folder)
        valkey.start()
        system = System(folder, valkey.address, f"sqlite:///{folder / 'atm.db'}")
        try:
            server = system.start_server()
            system.start_worker()
            recordings = record(system.address)
            done = asyncio.run(run(system.address, server.pid, recordings, options.calls, options.seed))
            print(done.markdown())
            lives = server.popen.poll() is None
            traces = server.output().count("Traceback")
            same = "is the same process" if lives else "has ended"
            print(f"\nThe server {same}; its log has {traces} tracebacks.")
            if traces or not lives:
                print(server.output(), file=sys.stderr)
            system.kill_processes()
            system.check_history()
        finally:
            system.stop()
            valkey.stop()
    return 0 if lives and not traces and not any(phase.other.failures for phase in done.phases) else 1


if __name__ == "__main__":
    sys.exit(main())
