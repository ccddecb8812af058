"""Two checkouts measured in turns: `python -m benchmarks.pairs OTHER --python OTHER/.venv/bin/python`.

The ratios of one machine move within an afternoon, so a change is judged by
pairs: both checkouts, one right after the other, the first of them in turns.
What is told is the median of the pairs' ratios (this checkout / OTHER), with
the lowest and the highest.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("ATM calls", "ATM drained", "ATM idle")
Figures = dict[str, float]


def main() -> None:
    """Measures the pairs, and prints a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.pairs")
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--python", default=sys.executable, help="the interpreter with the other's packages")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=PARTS, help="parts of `python -m benchmarks`")
    options = parser.parse_args()
    pairs: list[dict[str, Figures]] = []
    sides = {"other": (options.other.resolve(), options.python), "this": (ROOT, sys.executable)}
    for number in range(options.pairs):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        pairs.append({side: _measure(*sides[side], options.only) for side in order})
        print(f"pair {number + 1} of {options.pairs} is measured", file=sys.stderr)
    print(table(pairs))


def _measure(checkout: Path, python: str, parts: list[str]) -> Figures:
    """One run of these parts, by name of the figure."""
    environment = {**os.environ, "PYTHONPATH": "tests"}
    command = [python, "-m", "benchmarks", "--runs", "1", "--only", *parts]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return figures(done.stdout)


def figures(output: str) -> Figures:
    """The figures in the lines that `python -m benchmarks` prints for each part."""
    found: Figures = {}
    for line in output.splitlines():
        if match := re.match(r"run 1: (ATM [^,]+), \d+ s: (.*)", line):
            # Names hold commas; a figure ends each of them.
            for name, value in re.findall(r"(?:^|, )(.+?) ([-+\d.e]+)(?=, |$)", match[2]):
                found[f"{match[1]}: {name}"] = float(value)
    return found


def table(pairs: list[dict[str, Figures]]) -> str:
    """The medians, and the ratios pair by pair."""
    names = [name for name in pairs[0]["this"] if all(name in pair["other"] for pair in pairs)]
    lines = ["| | before | after | after / before | from | to |", "|---|---|---|---|---|---|"]
    for name in names:
        before, after = ([pair[side][name] for pair in pairs] for side in ("other", "this"))
        ratios = [new / old for old, new in zip(before, after, strict=True)]
        shown = (statistics.median(before), statistics.median(after), statistics.median(ratios))
        spread = (min(ratios), max(ratios))
        lines.append(f"| {name} | " + " | ".join(f"{value:.4g}" for value in (*shown, *spread)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
