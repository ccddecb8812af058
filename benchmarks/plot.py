"""The plot: what a worker drains and how soon an idle one starts, ATM beside its peers."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.report import Results, short

_OWN, _OTHER = "#c2410c", "#94a3b8"


def plot(results: Results, folder: Path) -> None:
    """Writes benchmark.png and benchmark.svg into the folder."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "atm"
    import matplotlib.pyplot as plt

    drained = {"ATM": [run["drained/s, 1 process"] for run in results["ATM drained"]]}
    started = {"ATM": [run["call to start p50, ms"] for run in results["ATM idle"]]}
    for peer in PEERS:
        drained[peer.name] = [run["drained/s"] for run in results[peer.name]]
        started[peer.name] = [run["call to start p50, ms"] for run in results[peer.name]]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    titles = ("tasks drained per second, one worker", "idle: call to handler start, ms (p50, log)")
    for axis, figures, title in zip(axes, (drained, started), titles, strict=True):
        names = list(figures)[::-1]
        medians = [statistics.median(figures[name]) for name in names]
        low = [m - min(figures[n]) for m, n in zip(medians, names, strict=True)]
        high = [max(figures[n]) - m for m, n in zip(medians, names, strict=True)]
        colours = [_OWN if name == "ATM" else _OTHER for name in names]
        axis.barh(names, medians, xerr=[low, high], color=colours, error_kw={"elinewidth": 1})
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.18)
        for place, (median, above) in enumerate(zip(medians, high, strict=True)):
            axis.text(median + above, place, f"  {short(median)}", va="center", fontsize=8)
    axes[1].set_xscale("log")
    figure.suptitle(
        "ATM commits every state to MariaDB; the others keep at most a result in Redis", fontsize=10
    )
    for kind in ("png", "svg"):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(folder / f"benchmark.{kind}", dpi=130, metadata=metadata)
