"""The table of a run: what was done to the installation, and what became of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.load import Accepted


@dataclass(frozen=True)
class Injection:
    """One fault, once. Times in nanoseconds; `well_after` is the seconds a new task then took to succeed."""

    fault: str
    at: int
    ended_at: int
    well_after: float
    accepted: int

    def line(self) -> str:
        """For whoever watches."""
        took = (self.ended_at - self.at) / 1e9
        return f"{self.fault:28} {took:6.1f} s; well after {self.well_after:5.1f} s; {self.accepted} accepted"


def table(
    injections: Sequence[Injection],
    accepted: Accepted,
    problems: Sequence[str],
    recoveries: Mapping[str, Sequence[float]],
) -> str:
    """Markdown: a row for each fault, then the sums."""
    columns = ("fault", "times", "accepted", "well again p50 / max", "interrupted", "run again p50 / p99")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for fault in sorted({injection.fault for injection in injections}):
        of_fault = [injection for injection in injections if injection.fault == fault]
        well = sorted(injection.well_after for injection in of_fault)
        again = sorted(recoveries.get(fault, ()))
        lines.append(
            f"| {fault.replace('_', ' ')} | {len(of_fault)} | {sum(i.accepted for i in of_fault)} "
            f"| {statistics.median(well):.1f} / {well[-1]:.1f} s | {len(again)} | {_percentiles(again)} |"
        )
    lost = sum("is not there" in problem or "is still" in problem for problem in problems)
    doubled = sum("final rows" in problem or "twice" in problem or "made" in problem for problem in problems)
    totals = f"{len(accepted.tasks)} tasks accepted, {accepted.refused} refused"
    found = f"lost {lost}, doubled {doubled}, wrong in any way {len(problems)}"
    lines += ["", f"{len(injections)} faults; {totals}; {found}."]
    return "\n".join(lines)


def _percentiles(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.1f} / {values[min(len(values) - 1, int(len(values) * 0.99))]:.1f} s"
