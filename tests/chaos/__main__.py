"""`python -m chaos --minutes 30 --seed 7 --database mariadb`: faults at random under load, and a table.

Run from `tests/` (`nox -s chaos -- --minutes 30` does). The exit code is 1 when
anything was lost, doubled, or told wrongly.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from fix_faketime import has_faketime, missing_reason

from chaos.bounds import measure_bounds
from chaos.checker import check, doubled_requests, unfinished
from chaos.faults import CANCELLED_BY_FAULTS, OF_CLOCKS, Fault, faults_for
from chaos.installation import Installation, Journal
from chaos.load import Load
from chaos.recovery import recoveries
from chaos.report import Injection, table

_DRAIN_SECONDS = 180.0
_REST_SECONDS = 1.0


def main() -> int:
    """Runs it; the exit code."""
    options = _options()
    wanted = options.fault.split(",") if options.fault else []
    faults = [fault for fault in faults_for(options.database) if not wanted or fault.__name__ in wanted]
    if not has_faketime():
        print(missing_reason(), flush=True)
        faults = [fault for fault in faults if fault not in OF_CLOCKS]
    with tempfile.TemporaryDirectory(prefix="atm-chaos-") as folder:
        installation = Installation(Path(folder), options.database, server_count=3, worker_count=3)
        try:
            installation.start()
            if options.bounds:
                return measure_bounds(installation)
            return _run(installation, faults, options)
        finally:
            installation.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same order of faults")
    parser.add_argument("--database", choices=["mariadb", "sqlite"], default="mariadb")
    parser.add_argument("--rate", type=float, default=40.0, help="tasks per second")
    parser.add_argument("--fault", default="", help="only these, with commas between")
    parser.add_argument("--times", type=int, default=0, help="this many injections, however long they take")
    parser.add_argument("--tasks", type=int, default=0, help="go on until this many were accepted")
    parser.add_argument("--bounds", action="store_true", help="measure what has a promised time instead")
    return parser.parse_args()


def _run(installation: Installation, faults: list[Fault], options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    load = Load(installation, options.seed, rate=options.rate)
    load.start()
    injections: list[Injection] = []
    end = time.monotonic() + options.minutes * 60
    order: list[Fault] = []

    def goes_on() -> bool:
        if options.tasks:
            return len(load.accepted.tasks) < options.tasks
        return len(injections) < options.times if options.times else time.monotonic() < end

    while goes_on():
        # Each fault once, in an order of chance, then again.
        order = order or rng.sample(faults, len(faults))
        injections.append(_inject(installation, load, order.pop(), rng))
        print(injections[-1].line(), flush=True)
        time.sleep(_REST_SECONDS)
    accepted = load.stop()
    began = time.monotonic()
    while unfinished(installation.database) and time.monotonic() - began < _DRAIN_SECONDS:
        time.sleep(0.2)
    journal = Journal(installation.folder).entries()
    cancelled = accepted.cancelled | CANCELLED_BY_FAULTS
    problems = check(installation.database, accepted.tasks, cancelled, journal)
    problems += doubled_requests(accepted.requests)
    print("\n" + table(injections, accepted, problems, recoveries(journal, injections)))
    for problem in problems[:50]:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def _inject(installation: Installation, load: Load, fault: Fault, rng: random.Random) -> Injection:
    before = len(load.accepted.tasks)
    at = time.time_ns()
    fault(installation, rng)
    took = installation.probe(120)
    return Injection(fault.__name__, at, time.time_ns(), took, len(load.accepted.tasks) - before)


if __name__ == "__main__":
    sys.exit(main())
