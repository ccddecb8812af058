"""Tables of what was measured, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.measures import Figures
from benchmarks.peers import PEERS

Results = Mapping[str, Sequence[Figures]]

DRAMATIQ, CELERY = "Dramatiq", ("Celery, prefork", "Celery, threads")


def spread(values: Sequence[float]) -> str:
    """The median, with the lowest and the highest."""
    if not values:
        return ""
    return f"{short(statistics.median(values))} [{short(min(values))}-{short(max(values))}]"


def short(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _each(results: Results, figure: Callable[[int], float]) -> list[float]:
    """A figure of each run, as far as the runs have what it needs."""
    found = []
    for run in range(max((len(runs) for runs in results.values()), default=0)):
        try:
            found.append(figure(run))
        except (KeyError, IndexError):
            continue
    return found


#: What is promised, what it is measured by, and whether more or less is better.
_TARGETS: list[tuple[str, Callable[[Results, int], float], str, float, float]] = [
    ("CreateTask/s at 64 in flight / empty handler", lambda r, n: r["ATM calls"][n]["CreateTask / empty"], ">", 0.65, 0.9),
    ("CreateTask p50, one in flight, ms", lambda r, n: r["ATM calls"][n]["CreateTask alone p50, ms"], "<", 5, 3),
    ("BatchCreateTasks, tasks/s / single calls", lambda r, n: r["ATM calls"][n]["BatchCreateTasks / single"], ">", 5, 10),
    ("drained/s, 1 process / Dramatiq, which persists nothing", lambda r, n: r["ATM drained"][n]["drained/s, 1 process"] / r[DRAMATIQ][n]["drained/s"], ">", 1.1, 1.8),
    ("drained/s, 1 process / Celery's best, with results", lambda r, n: r["ATM drained"][n]["drained/s, 1 process"] / max(r[name][n]["drained/s"] for name in CELERY), ">", 2.2, 4),
    ("idle: call to handler start p50, ms", lambda r, n: r["ATM idle"][n]["call to start p50, ms"], "<", 8, 3),
    ("idle: call to handler start p99, ms", lambda r, n: r["ATM idle"][n]["call to start p99, ms"], "<", 20, 8),
    ("cancel call to handler told p99, ms", lambda r, n: r["ATM idle"][n]["cancel to told p99, ms"], "<", 300, 50),
    ("GetTask/s / empty handler", lambda r, n: r["ATM calls"][n]["GetTask / empty"], ">", 0.5, 0.7),
    ("ListTasks, first page of the longest table, p50 ms", lambda r, n: r["ATM rows"][n]["first page p50, ms"], "<", 20, 5),
    ("ListTasks, a page far in, by token, p50 ms", lambda r, n: r["ATM rows"][n]["page far in p50, ms"], "<", 20, 5),
    ("WaitTask: end to client told p99, ms", lambda r, n: r["ATM idle"][n]["end to waiting client p99, ms"], "<", 100, 20),
    ("memory of an idle server, MB", lambda r, n: r["ATM footprint"][n]["memory of an idle server, MB"], "<", 120, 120),
    ("memory of an idle worker process, MB", lambda r, n: r["ATM footprint"][n]["memory of an idle worker process, MB"], "<", 100, 100),
    ("Redis commands/s, idle: 1 server, 2 worker processes", lambda r, n: r["ATM footprint"][n]["Redis commands/s, idle"], "<", 20, 5),
    ("drained/s, 2 processes / 1", lambda r, n: r["ATM drained"][n]["drained/s, 2 processes, started"] / r["ATM drained"][n]["drained/s, 1 process, started"], ">", 1.6, 1.9),
]  # fmt: skip


def of_atm(results: Results) -> str:
    """What is promised, and what was measured."""
    rows = []
    for name, figure, better, at_least, aim in _TARGETS:
        values = _each(results, lambda n, figure=figure: figure(results, n))  # type: ignore[misc]
        if values:
            median = statistics.median(values)
            kept = median >= at_least if better == ">" else median <= at_least
            sign = "≥" if better == ">" else "≤"
            rows.append(
                (name, spread(values), f"{sign} {at_least:g}", f"{aim:g}", "yes" if kept else "**no**")
            )
    return _table(("what", "median [lowest-highest]", "promised", "aim", "kept"), rows) if rows else ""


def of_peers(results: Results) -> str:
    """ATM, which persists everything, beside the others."""
    columns = ("", "handed over/s", "drained/s, 1 worker", "idle: call to start p50, ms", "p95, ms")
    rows = []
    if "ATM calls" in results and "ATM drained" in results and "ATM idle" in results:
        create = [run["CreateTask/s"] for run in results["ATM calls"]]
        drained = [run["drained/s, 1 process"] for run in results["ATM drained"]]
        p50 = [run["call to start p50, ms"] for run in results["ATM idle"]]
        p95 = [run["call to start p95, ms"] for run in results["ATM idle"]]
        rows.append(("**ATM**: every state in MariaDB", *map(spread, (create, drained, p50, p95))))
    for peer in PEERS:
        runs = results.get(peer.name, ())
        if runs:
            names = ("handed over/s", "drained/s", "call to start p50, ms", "call to start p95, ms")
            rows.append(
                (f"{peer.name}: {peer.note}", *(spread([run[name] for run in runs]) for name in names))
            )
    return _table(columns, rows) if rows else ""


def of_growth(results: Results) -> str:
    """How throughput and latency move."""
    rows = []
    for name in ("ATM growth", "ATM rows"):
        for run in results.get(name, ()):
            rows += [(figure, short(value)) for figure, value in run.items()]
    for name in ("ATM calls", "ATM drained"):
        runs = results.get(name, ())
        told = ("CPU", "empty handler", "CreateTask / empty on")
        figures = [figure for figure in (runs[0] if runs else ()) if figure.startswith(told)]
        rows += [(figure, spread([run[figure] for run in runs])) for figure in figures]
    return _table(("what", "measured"), rows) if rows else ""
