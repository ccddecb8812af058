"""Starting `atm` is cheap, and the serving commands hand over what was given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ports import free_port

from atm import __version__
from atm.errors import SchemaBehindError


def pretend(monkeypatch: pytest.MonkeyPatch, module: str, **contents: Any) -> None:
    """Lets a command find `contents` where it looks for a part of the server."""
    fake = ModuleType(module)
    vars(fake).update(contents)
    monkeypatch.setitem(sys.modules, module, fake)


@pytest.mark.parametrize("arguments", [["--help"], ["task", "create", "--help"], ["--version"]])
def test_help_loads_neither_grpc_nor_sql_nor_a_server(arguments: list[str]) -> None:
    program = (
        "import sys; from atm_cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'grpc', 'google.protobuf', 'sqlalchemy', 'dramatiq', 'atm.client', 'atm.settings', 'yaml'};"
        "found = heavy & set(sys.modules); assert not found, found; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("starts", ["atm.actors", "atm.server.app"])
def test_servers_and_workers_load_nothing_to_start_that_few_of_them_use(starts: str) -> None:
    # For upgrades, for http_request, for the command line.
    program = (
        f"import sys, {starts}; found = {{'alembic', 'httpx', 'rich', 'typer'}} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_version_is_shown_by_the_option_and_by_the_command(run: Any) -> None:
    for arguments in (["--version"], ["version"]):
        outcome = run(*arguments)
        assert (outcome.code, outcome.out) == (0, f"atm {__version__}\n")


def test_the_server_gets_its_flags_and_nothing_for_what_is_not_given(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    pretend(monkeypatch, "atm.server.app", run=lambda settings: started.append(settings) or 3)
    monkeypatch.setenv("ATM_SERVER_ID", "from-env")
    monkeypatch.setenv("MYSQL_DSN", "sqlite:////tmp/env.db")
    outcome = run(
        "server", "--grpc-port", "9191", "--mysql", "sqlite:////tmp/flag.db", "--workers", "2", "--reflection"
    )
    assert outcome.code == 3
    [settings] = started
    assert (settings.server_id, settings.grpc_port, settings.worker_port) == ("from-env", 9191, 8080)
    assert (settings.mysql_dsn, settings.workers, settings.reflection) == ("sqlite:////tmp/flag.db", 2, True)


def test_up_hands_over_its_options(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    pretend(monkeypatch, "atm.devserver", up=lambda **options: started.append(options) or 0)
    assert run("up", "--data-dir", "here", "--workers", "1").code == 0
    [options] = started
    assert str(options.pop("data_dir")) == "here"
    assert options == {
        "grpc_port": 9090,
        "worker_port": 8080,
        "workers": 1,
        "worker_threads": 8,
        "log_level": "INFO",
        # This machine only.
        "host": None,
        # What the environment says.
        "reflection": None,
        "accept_unknown_types": None,
    }


def test_a_schema_that_is_behind_ends_the_server_with_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_settings: Any) -> int:
        raise SchemaBehindError("the schema is behind; run `atm db upgrade`")

    pretend(monkeypatch, "atm.server.app", run=refuse)
    outcome = run("server")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "error: the schema is behind; run `atm db upgrade`\n"


def test_a_schema_is_upgraded_where_the_option_says(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def upgrade(url: Any) -> tuple[str | None, str]:
        asked.append(url.render_as_string())
        return (None, "0001") if len(asked) == 1 else ("0001", "0001")

    pretend(monkeypatch, "atm.store.schema_upgrade", upgrade=upgrade)
    assert "from nothing to 0001" in run("db", "upgrade", "--mysql", "sqlite:////tmp/x.db").err
    assert "up to date" in run("db", "upgrade", "--mysql", "sqlite:////tmp/x.db").err
    assert asked == ["sqlite:////tmp/x.db"] * 2


@pytest.mark.parametrize(("current", "code"), [(None, 5), ("0001", 5), ("0002", 0)])
def test_the_status_of_a_schema_that_is_behind_is_a_conflict(
    run: Any, monkeypatch: pytest.MonkeyPatch, current: str | None, code: int
) -> None:
    problem = SchemaBehindError("run `atm db upgrade`") if code else None
    found = SimpleNamespace(current=current, newest="0002", problem=problem)
    pretend(monkeypatch, "atm.store.schema", standing=lambda _url: found)
    outcome = run("db", "status", "--mysql", "sqlite:////tmp/x.db")
    assert outcome.code == code
    assert outcome.out == f"current: {current or 'none'}\nnewest: 0002\n"


@pytest.mark.parametrize("command", ["upgrade", "status"])
def test_a_database_out_of_reach_is_one_line_without_the_password(run: Any, command: str) -> None:
    outcome = run("db", command, "--mysql", f"me:secret@tcp(127.0.0.1:{free_port()})/tasks")
    assert outcome.code == 6
    assert "refused" in outcome.err
    assert "secret" not in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_the_demo_starts_a_server_of_its_own_when_none_is_named(
    run: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[int] = []

    @contextmanager
    def embedded(workers: int) -> Iterator[str]:
        yield address
        stopped.append(workers)

    pretend(monkeypatch, "atm.devserver", embedded=embedded)
    outcome = run("demo")
    assert outcome.code == 0
    assert "8 of 8 cases passed" in outcome.out
    assert stopped == [2]
