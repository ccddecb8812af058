"""How long it took until what a fault had interrupted ran again, from the handlers' own journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chaos.checker import Entry
from chaos.report import Injection


def recoveries(journal: Sequence[Entry], injections: Sequence[Injection]) -> dict[str, list[float]]:
    """For each fault the seconds from its injection to the next start of each attempt that it interrupted.

    An attempt counts as interrupted when it had started before the injection,
    never ended, and was followed by another.
    """
    starts: dict[str, dict[int, int]] = defaultdict(dict)
    ended: set[tuple[str, int]] = set()
    for at, what, task_id, attempt in journal:
        if what == "start":
            starts[task_id].setdefault(attempt, at)
        else:
            ended.add((task_id, attempt))
    found: dict[str, list[float]] = defaultdict(list)
    for task_id, attempts in starts.items():
        for attempt, started in attempts.items():
            again = attempts.get(attempt + 1)
            if again is None or (task_id, attempt) in ended:
                continue
            cause = next(
                (i for i in injections if started <= i.ended_at and i.at <= again and i.at >= started), None
            )
            if cause is not None:
                found[cause.fault].append((again - cause.at) / 1e9)
    return found
