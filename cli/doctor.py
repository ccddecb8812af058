"""`atm doctor`: what is not as it should be, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from atm_cli import console, exits
from atm_cli.config import Config
from atm_cli.db import MysqlOption
from atm_cli.options import data_command
from atm_cli.output import View, write_many
from atm_cli.tables import Column

if TYPE_CHECKING:
    from atm.store.durability import Finding


def _style(finding: Finding) -> str:
    return "green" if finding.is_fine else "yellow"


_FINDINGS: View[Finding] = View(
    name=lambda finding: finding.check,
    columns=(
        Column("CHECK", lambda finding: finding.check),
        Column("RESULT", lambda finding: "ok" if finding.is_fine else "warning", _style),
        Column("FOUND", lambda finding: finding.found, free=True, wraps=True),
        Column("WHAT TO DO", lambda finding: finding.advice, free=True, wraps=True),
    ),
)


@data_command
def doctor(config: Config, mysql: MysqlOption = None) -> None:
    """Look at the database's settings: what does an OK outlive? Exit code 1 if there is a warning."""
    from atm.settings import Settings
    from atm.store.durability import look

    found = look(Settings.load(mysql_dsn=mysql).sql_url)
    write_many(config.output, _FINDINGS, found)
    if not all(finding.is_fine for finding in found):
        console.words("docs/engines.md says which set-ups keep what was accepted")
        raise typer.Exit(exits.ERROR)
