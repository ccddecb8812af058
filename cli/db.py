"""`atm db …`: the schema of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from atm_cli import console, exits

if TYPE_CHECKING:
    from atm.store.dsn import URL

app = typer.Typer(help="Look after the database's schema.", no_args_is_help=True)

MysqlOption = Annotated[
    str | None,
    typer.Option(
        help="SQL: user:password@tcp(host:3306)/database, or a URL such as sqlite:///path (env MYSQL_DSN)."
    ),
]


@app.command()
def upgrade(mysql: MysqlOption = None) -> None:
    """Bring the schema up to date. Doing it again changes nothing."""
    from atm.store.schema_upgrade import upgrade as upgrade_schema

    before, after = upgrade_schema(_database(mysql))
    if before == after:
        console.words(f"the schema was up to date: {after}")
    else:
        console.words(f"the schema was upgraded from {before or 'nothing'} to {after}")


@app.command()
def status(mysql: MysqlOption = None) -> None:
    """Tell whether this ATM can work with the schema; exit code 5 when it cannot."""
    from atm.store.schema import standing

    found = standing(_database(mysql))
    console.write(f"current: {found.current or 'none'}\nnewest: {found.newest}\n")
    if found.problem is not None:
        console.error([str(found.problem)])
        raise typer.Exit(exits.CONFLICT)
    if found.current != found.newest:
        console.words("the schema was made by a newer ATM; this one goes on with it")


def _database(mysql: str | None) -> URL:
    from atm.settings import Settings

    return Settings.load(mysql_dsn=mysql).sql_url
