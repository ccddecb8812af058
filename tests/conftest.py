"""The real servers that tests run against: each starts on a private port or socket, in a private folder."""

from __future__ import annotations

import pytest

# Imported by pytest, so that their asserts are explained; nothing may import them before.
pytest_plugins = [
    *("fix_valkey", "fix_mariadb", "fix_sql", "fix_system", "fix_galera"),
    *("fix_replication", "fix_oceanbase", "fix_order"),
]


def pytest_report_header() -> list[str]:
    """Which servers this run uses."""
    import fix_oceanbase
    from fix_mariadb import mariadb_version, missing_reason
    from fix_valkey import valkey_version

    said = f"servers: {valkey_version()}; {mariadb_version() or 'no MariaDB: ' + missing_reason()}"
    return (
        [said] if fix_oceanbase.is_installed() else [said, f"no OceanBase: {fix_oceanbase.missing_reason()}"]
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says loudly what was not run, and why."""
    from fix_mariadb import mariadb_version, missing_reason

    if mariadb_version() is None:
        skipped = len(terminalreporter.stats.get("skipped", []))
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(f"{skipped} tests: {missing_reason()}", red=True)
