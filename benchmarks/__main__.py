"""`python -m benchmarks`: measures ATM and its peers, prints tables, writes results and plots.

Everything is started here and runs on this machine. Each run measures all of
them once, one after the other; a ratio is of two figures of one run, and what
is told is the median of the runs, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import compare, measures
from benchmarks.installation import ROOT, Installation
from benchmarks.measures import Figures
from benchmarks.peers import PEERS
from benchmarks.plot import plot
from benchmarks.report import of_atm, of_growth, of_peers

_ONCE = ("ATM footprint", "ATM growth", "ATM rows")
RESULTS = ROOT / "benchmarks" / "results.json"


def main() -> None:
    """Measures what is asked for."""
    options = _options()
    results: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="atm-bench-") as folder:
        installation = Installation(Path(folder))
        installation.start()
        try:
            for run in range(1, options.runs + 1):
                for name, measure in _measures(options, run).items():
                    began = time.monotonic()
                    results.setdefault(name, []).append(measure(installation))
                    took = time.monotonic() - began
                    print(f"run {run}: {name}, {took:.0f} s: {_shown(results[name][-1])}", flush=True)
        finally:
            installation.stop()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    document = {"machine": machine, "runs": options.runs, "figures": results}
    if options.write or not options.only:
        if options.only:
            # The others stay as they were measured.
            document = json.loads(RESULTS.read_text())
            document["figures"] |= results
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        plot(document["figures"], ROOT / "docs")
    for table in (of_atm(results), of_peers(results), of_growth(results)):
        if table:
            print(f"\n{table}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="how names begin, such as 'ATM calls' Celery")
    parser.add_argument(
        "--write", action="store_true", help="with --only: writes these, and keeps the others"
    )
    parser.add_argument("--millions", type=int, default=10, help="rows of the longest table")
    return parser.parse_args()


def _measures(options: argparse.Namespace, run: int) -> dict[str, Callable[[Installation], Figures]]:
    found: dict[str, Callable[[Installation], Figures]] = {
        "ATM calls": measures.calls,
        "ATM drained": measures.drained,
        **{of.name: (lambda installation, of=of: compare.peer(installation, of)) for of in PEERS},  # type: ignore[misc]
        "ATM idle": measures.idle,
        "ATM footprint": measures.footprint,
        "ATM growth": measures.growth,
        "ATM rows": lambda installation: measures.rows(installation, options.millions),
    }
    # Those that take minutes and are no comparison: once is enough.
    return {
        name: measure
        for name, measure in found.items()
        if (run == 1 or name not in _ONCE) and name.startswith(tuple(options.only) or "")
    }


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    main()
