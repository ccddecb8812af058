"""Records `atm demo` as docs/demo.svg: `python docs/record_demo.py`, where atm is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 96


def main() -> None:
    """Runs the demo as a terminal would see it, and draws what it said."""
    run = subprocess.run(
        [sys.executable, "-m", "atm_cli", "demo"],
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(run.stdout))
        drawn = console.export_svg(title="atm demo")
    # A picture that loads nothing: the reader's own fixed-width font will do.
    drawn = re.sub(r"@font-face {.*?}\n?", "", drawn, flags=re.DOTALL)
    Path(__file__).with_name("demo.svg").write_text(drawn)


main()
