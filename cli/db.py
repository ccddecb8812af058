"""`atm db …`: the schema of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from atm_cli import console, exits

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

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
    with _database(mysql) as url:
        from atm.store.schema import upgrade as upgrade_schema

        before, after = upgrade_schema(url)
    if before == after:
        console.words(f"the schema was up to date: {after}")
    else:
        console.words(f"the schema was upgraded from {before or 'nothing'} to {after}")


@app.command()
def status(mysql: MysqlOption = None) -> None:
    """Tell whether the schema is up to date; exit code 5 when it is behind."""
    with _database(mysql) as url:
        from atm.store.schema import current, head

        now, newest = current(url), head()
    console.write(f"current: {now or 'none'}\nnewest: {newest}\n")
    if now != newest:
        console.error(["the schema is behind; `atm db upgrade` brings it up to date"])
        raise typer.Exit(exits.CONFLICT)


@contextmanager
def _database(mysql: str | None) -> Iterator[URL]:
    """Where the database is. One that cannot be reached ends the command with one line."""
    from sqlalchemy.exc import DBAPIError, OperationalError

    from atm.settings import Settings

    url = Settings.load(mysql_dsn=mysql).sql_url
    try:
        yield url
    except DBAPIError as error:
        console.error([f"the database at {url.render_as_string(hide_password=True)}: {error.orig}"])
        reachable = not isinstance(error, OperationalError)
        raise typer.Exit(exits.ERROR if reachable else exits.UNAVAILABLE) from error
