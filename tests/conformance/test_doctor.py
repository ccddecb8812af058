"""`atm doctor` on each database as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fix_mariadb import MariaDB

from atm_cli.main import main


def _doctor(dsn: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, bool]]:
    code = main(["doctor", "--mysql", dsn, "-o", "json"])
    return code, {found["check"]: found["is_fine"] for found in json.loads(capsys.readouterr().out)}


def test_sqlite_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "atm.db"
    assert _doctor(f"sqlite:///{file}", capsys) == (1, {"the database": False})
    assert not file.exists()
    assert main(["db", "upgrade", "--mysql", f"sqlite:///{file}"]) == 0
    assert _doctor(f"sqlite:///{file}", capsys) == (0, {"a crash of the machine": True})


def test_a_single_mariadb_has_the_only_copy(own_mariadb: MariaDB, capsys: pytest.CaptureFixture[str]) -> None:
    dsn = own_mariadb.create_database()
    wanted = {"a crash of the machine": True, "the loss of the primary": False}
    assert _doctor(dsn, capsys) == (1, wanted)
    with own_mariadb.root() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    assert _doctor(dsn, capsys) == (1, dict.fromkeys(wanted, False))
