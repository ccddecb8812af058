"""A Redis Cluster beside a plain Redis: `python -m benchmarks.redis_cluster --pairs 3`.

One worker process drains tasks through one and the other, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from fix_valkey import Cluster

from benchmarks.installation import Installation
from benchmarks.measures import drain


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.redis_cluster")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=12_000, help="how many are drained each time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atm-bench-") as folder:
        (Path(folder) / "cluster").mkdir()
        installation, cluster = Installation(Path(folder)), Cluster(Path(folder) / "cluster")
        plain = installation.redis_addr
        try:
            installation.start()
            cluster.start()
            drained: dict[str, list[float]] = {plain: [], cluster.address: []}
            for number in range(options.pairs):
                for address in list(drained)[:: 1 if number % 2 else -1]:
                    installation.redis_addr = address
                    _, steady, _ = drain(installation, 1, options.tasks)
                    drained[address].append(steady)
        finally:
            cluster.stop()
            installation.stop()
    single, several = drained.values()
    print("| Redis | drained/s, median |\n|---|---|")
    print(f"| one | {statistics.median(single):.0f} |")
    print(f"| a cluster of six nodes | {statistics.median(several):.0f} |")
    ratios = [cluster_rate / plain_rate for plain_rate, cluster_rate in zip(single, several, strict=True)]
    print(f"\nratio in each pair: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
