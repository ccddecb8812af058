"""Where SQL is, in the forms that people write it.

The Go driver's form ``user:password@tcp(host:3306)/db?parseTime=true``, or any
SQLAlchemy URL (``sqlite:///path``, ``mysql+pymysql://…``). Either may name several
hosts, with commas between: the first that can be written to is used.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import URL as URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from atm.errors import SettingsError
from atm.host_port import split_host_port
from atm.store.engine import HOSTS, MULTI_STATEMENTS

# The password is greedy: it may hold ':' and '@', up to the last '@' that
# stands before the network's name.
_GO_DSN = re.compile(
    r"^(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?"
    r"(?P<net>tcp|tcp6|unix)\((?P<address>[^()]*)\)"
    r"/(?P<database>[^/?]*)(?:\?(?P<query>.*))?$",
    re.DOTALL,
)
#: Settings of the Go driver that have no meaning here: PyMySQL always talks
#: utf8mb4, and ATM stores UTC.
_GO_ONLY = {
    *("parseTime", "loc", "collation", "charset", "time_zone", "timeTruncate"),
    *("interpolateParams", "allowNativePasswords", "allowCleartextPasswords", "checkConnLiveness"),
    *("clientFoundRows", "columnsWithAlias", "maxAllowedPacket", "rejectReadOnly", "connectionAttributes"),
}
#: Go driver setting → PyMySQL's, both in seconds here.
_TIMEOUTS = {"timeout": "connect_timeout", "readTimeout": "read_timeout", "writeTimeout": "write_timeout"}
#: Several hosts of a URL stand between the last '@' and the database's name.
_MORE_HOSTS = re.compile(
    r"^(?P<before>[a-z0-9+]+://(?:.*@)?[^@/,]+),(?P<more>[^@/]+)(?P<after>/.*)$", re.DOTALL
)
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_FORMS = "user:password@tcp(host:3306)/database, or a SQLAlchemy URL such as sqlite:///path/to/atm.db"


def parse_sql_dsn(dsn: str) -> URL:
    """The SQLAlchemy URL of a DSN in either form. Raises SettingsError, without the password in it."""
    text = dsn.strip()
    if not text:
        raise SettingsError(f"--mysql / MYSQL_DSN is empty; it takes {_FORMS}")
    if match := _GO_DSN.match(text):
        return _from_go(match)
    if "://" not in text:
        raise SettingsError(f"--mysql / MYSQL_DSN cannot be read; it takes {_FORMS}")
    text, more = _without_more_hosts(text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(f"--mysql / MYSQL_DSN is no URL; it takes {_FORMS}") from None
    backend = url.get_backend_name()
    if backend in ("mysql", "mariadb"):
        if not url.database:
            raise SettingsError("--mysql / MYSQL_DSN names no database (…/database)")
        return _with_hosts(_with_charset(url.set(drivername="mysql+pymysql")), more)
    if backend == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise SettingsError(
                "--mysql / MYSQL_DSN: SQLite needs a file (sqlite:///path); memory is not shared"
            )
        return url
    raise SettingsError(f"--mysql / MYSQL_DSN: {backend} is not supported; MySQL, MariaDB and SQLite are")


def _without_more_hosts(text: str) -> tuple[str, str]:
    """A URL with the first of its hosts, and the others, with commas between."""
    match = _MORE_HOSTS.match(text)
    return (text, "") if match is None else (match["before"] + match["after"], match["more"])


def _with_hosts(url: URL, more: str) -> URL:
    for host in filter(None, more.split(",")):
        split_host_port(host, 3306, "--mysql / MYSQL_DSN: the address", is_secret=True)
    return url.update_query_dict({HOSTS: more}) if more else url


def _with_charset(url: URL) -> URL:
    return url if "charset" in url.query else url.update_query_dict({"charset": "utf8mb4"})


def _from_go(match: re.Match[str]) -> URL:
    database = unquote(match["database"])
    if not database:
        raise SettingsError("--mysql / MYSQL_DSN names no database (…)/database")
    query: dict[str, str] = {"charset": "utf8mb4"}
    host: str | None = None
    port: int | None = None
    more = ""
    if match["net"] == "unix":
        query["unix_socket"] = match["address"]
    else:
        first, _, more = match["address"].partition(",")
        host, port = split_host_port(
            first or "127.0.0.1", 3306, "--mysql / MYSQL_DSN: the address", is_secret=True
        )
    for name, value in parse_qsl(match["query"] or "", keep_blank_values=True):
        if name in _TIMEOUTS:
            query[_TIMEOUTS[name]] = str(max(1, round(_go_seconds(name, value))))
        elif name == "tls":
            if value in ("true", "skip-verify", "preferred"):
                query["ssl_verify_cert"] = "true" if value == "true" else "false"
                if value == "true":
                    query["ssl_verify_identity"] = "true"
            elif value != "false":
                raise SettingsError("--mysql / MYSQL_DSN: tls takes true, false or skip-verify")
        elif name == "multiStatements":
            query[MULTI_STATEMENTS] = value
        elif name not in _GO_ONLY:
            raise SettingsError(f"--mysql / MYSQL_DSN: the setting {name!r} is not known")
    url = URL.create(
        "mysql+pymysql",
        username=match["user"] or None,
        password=match["password"],
        host=host,
        port=port,
        database=database,
        query=query,
    )
    return _with_hosts(url, more)


def _go_seconds(name: str, value: str) -> float:
    parts = _GO_DURATION.findall(value)
    if not parts or "".join(n + u for n, u in parts) != value:
        raise SettingsError(f"--mysql / MYSQL_DSN: {name} takes a duration such as 5s or 1m30s")
    return sum(float(n) * _SECONDS[u] for n, u in parts)
