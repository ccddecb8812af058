"""No password is shown: not by an error, its traceback, a setting's repr, or the arguments of a process."""

from __future__ import annotations

import stat
import sys
import traceback
from pathlib import Path

import pytest
from fix_system import StartProcess

from atm.errors import SettingsError
from atm.host_port import split_host_port
from atm.settings import Settings
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.supervisor.commands import server_commands, worker_commands

SECRET = "S3CRETPW"
#: What people write by mistake where a password belongs.
REDIS = (
    f"u:{SECRET}@127.0.0.1:6379",
    f":{SECRET}@127.0.0.1:6379",
    f"{SECRET}@127.0.0.1:port",
    f"{SECRET}:127.0.0.1:6379",
    f"127.0.0.1:{SECRET}",
    f"redis://:{SECRET}@127.0.0.1:port/0",
    f"redis://:{SECRET}/x@127.0.0.1:6379/0",
    f"redis://:{SECRET}#x@127.0.0.1:6379/0",
    f"redis://:{SECRET}?x@127.0.0.1:6379/0",
    f"redis://:{SECRET}@127.0.0.1:1/0?nonsense={SECRET}",
    f"redis://127.0.0.1:1/0?socket_timeout={SECRET}",
    f"http://u:{SECRET}@127.0.0.1:6379",
    f"redis+sentinel://u:{SECRET}@h:p,h/service",
    f"redis+sentinel://u:{SECRET}@h:{SECRET}/service",
    f"redis+sentinel://u:{SECRET}@h/",
    f"redis+cluster://u:{SECRET}@h:p,h",
    f"redis+cluster://u:{SECRET}@h:{SECRET},h",
    f"rediss+cluster://u:{SECRET}@h:1/3",
)
SQL = (
    f"u:{SECRET}@tcp(127.0.0.1:1)d",
    f"u:{SECRET}@127.0.0.1/d",
    f"u:{SECRET}@tcp(h:1:2:3:port)/d",
    f"u:x@tcp(127.0.0.1:{SECRET})/d",
    f"u:{SECRET}@tcp(127.0.0.1:1)/d?tls={SECRET}",
    f"u:{SECRET}@tcp(127.0.0.1:1)/d?timeout={SECRET}",
    f"u:{SECRET}@tcp(127.0.0.1:1)/d?nonsense={SECRET}",
    f"mysql://u:{SECRET}@h:port/d",
    f"mysql://u:{SECRET}@h:1/",
    f"postgresql://u:{SECRET}@h/d",
    f"nonsense://u:{SECRET}@h/d",
)


@pytest.mark.parametrize(
    "flags", [{"redis_addr": addr} for addr in REDIS] + [{"mysql_dsn": dsn} for dsn in SQL], ids=str
)
def test_a_setting_that_cannot_be_read_is_not_repeated(flags: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**flags)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert ("REDIS_ADDR" if "redis_addr" in flags else "MYSQL_DSN") in str(caught.value)


def test_an_address_without_a_password_is_repeated() -> None:
    with pytest.raises(SettingsError, match="'host:port'"):
        split_host_port("host:port", 9090, "--server")
    with pytest.raises(SettingsError) as caught:
        split_host_port(f"u:{SECRET}@host:1", 9090, "--server")
    assert SECRET not in str(caught.value)


def _settings() -> Settings:
    return Settings.load(
        redis_addr=f"redis://:{SECRET}@127.0.0.1:1/0",
        mysql_dsn=f"u:{SECRET}@tcp(127.0.0.1:1)/d",
        processes=2,
        workers=2,
    )


def test_settings_do_not_show_passwords() -> None:
    settings = _settings()
    assert SECRET not in f"{settings!r} {settings} {settings.sql_url!r} {settings.sql_url}"


def test_child_processes_are_told_by_their_environment_alone() -> None:
    commands = [*server_commands(_settings()), *worker_commands(_settings())]
    assert len(commands) == 4
    for command in commands:
        assert not any(SECRET in argument for argument in command.arguments)
        assert sum(SECRET in value for value in command.environment.values()) == 2


@pytest.mark.parametrize("program", [["atm_cli", "server"], ["dramatiq", "atm.actors", "-p", "1", "-t", "1"]])
@pytest.mark.parametrize(
    "changes",
    [
        {"REDIS_ADDR": REDIS[0]},
        {"REDIS_ADDR": REDIS[5]},
        {"MYSQL_DSN": SQL[1]},
        {"MYSQL_DSN": f"u:{SECRET}@tcp(127.0.0.1:1)/d"},
        {"MYSQL_DSN": f"mysql://u:{SECRET}@127.0.0.1:1/d?nonsense=1"},
    ],
    ids=["redis", "redis-url", "dsn", "refused", "unknown-option"],
)
def test_a_process_that_cannot_start_does_not_show_them(
    program: list[str], changes: dict[str, str], start_process: StartProcess
) -> None:
    environment = {"REDIS_ADDR": f"redis://:{SECRET}@127.0.0.1:1/0", "MYSQL_DSN": "", **changes}
    environment["ATM_LOG_LEVEL"] = "DEBUG"
    process = start_process([sys.executable, "-m", *program], environment)
    assert process.popen.wait(60) != 0
    assert process.output()
    assert SECRET not in process.output()


def test_a_new_database_file_is_for_its_user_alone(tmp_path: Path) -> None:
    database = Database(parse_sql_dsn(f"sqlite:///{tmp_path / 'new.db'}"), pool_size=1)
    database.write(lambda connection: connection.exec_driver_sql("CREATE TABLE x (y INTEGER)"))
    files = list(tmp_path.glob("new.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    database.close()
