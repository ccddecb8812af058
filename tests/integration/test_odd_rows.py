"""Rows that came by an import, or by hand, are shown by every call and run, and hurt nothing beside them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from fix_sql import BACKENDS, new_dsn
from fix_system import System, eventually
from fix_valkey import Valkey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from upgrades import insert_task

from atm.client import Client
from atm.states import FINAL, Status
from atm.store.database import Connection, DuplicateError


@pytest.fixture(scope="module", params=BACKENDS)
def odd_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, valkey: Valkey
) -> Iterator[System]:
    """A server and a worker; the histories of what is put there by hand are none."""
    folder = tmp_path_factory.mktemp("odd")
    made = System(folder, valkey.address, new_dsn(request.param, request, folder))
    try:
        made.start_server()
        made.start_worker(threads=4)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def odd_client(odd_system: System) -> Client:
    return odd_system.client()


def _write(system: System, statement: str, values: dict[str, Any]) -> None:
    """By plain SQL, as somebody would who wants the value in, whatever it is."""

    def work(connection: Connection) -> None:
        if connection.dialect.name != "sqlite":
            connection.execute(text("SET SESSION sql_mode = ''"))
        connection.execute(text(statement), values)

    # What the database itself refuses is in no table.
    with suppress(DBAPIError, DuplicateError):
        system.database.write(work)


def _update(system: System, table: str, key: str, name: str, column: str, value: Any) -> None:
    _write(
        system, f"UPDATE {table} SET {column} = :value WHERE {key} = :name", {"value": value, "name": name}
    )


def _delete(system: System, task_id: str) -> None:
    """The task and its history."""
    for table in ("task", "task_log"):
        _write(system, f"DELETE FROM {table} WHERE task_id = :name", {"name": task_id})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
JSON_TEXTS = st.one_of(
    JSON.map(json.dumps),
    JSON.map(lambda value: json.dumps({"key": value}, ensure_ascii=True)),
    st.sampled_from(['{"a":', "", " ", "null", "NaN", '{"a":"\\ud800"}', '{"\\udfff":1}', "[" * 100_000]),
    st.sampled_from(['{"n":' + "9" * 5000 + "}", '{"a":1e999}', b"\xff\xfe", b'{"a":"\xff"}', 5, 1.5]),
    st.binary(max_size=6),
)
WORDS = st.sampled_from(["", "DONE", "pending", "SUCCESS ", "x" * 16, "é", b"\xff", 7, "RETRY", "NOTE"])
MOMENTS = st.sampled_from(
    [
        *("0000-00-00 00:00:00", "2026-02-00 00:00:00", "9999-12-31 23:59:59.999999", "1000-01-01 00:00:00"),
        *("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+09:00", "2026-01-01", "yesterday", "", b"\xff"),
        *(0, 1767225600, 1767225600.5, -1, 1e300, 2**62),
    ]
)
NUMBERS = st.sampled_from(
    [0, -1, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 1.5, 1e300, -1e300, "12", "many", "", b"\xff"]
)
TASK_COLUMNS = {
    **dict.fromkeys(("payload", "result"), JSON_TEXTS),
    **dict.fromkeys(("task_type", "status", "worker_id", "retry_strategy", "error_message"), WORDS),
    **dict.fromkeys(("error_reason", "progress_message", "cancel_requested_by", "request_digest"), WORDS),
    **dict.fromkeys(("created_at", "started_at", "completed_at", "due_at"), MOMENTS),
    **dict.fromkeys(("dispatch_at", "deadline_at", "cancel_requested_at"), MOMENTS),
    **dict.fromkeys(("priority", "attempt", "retry_count", "max_retry", "timeout_ms"), NUMBERS),
    **dict.fromkeys(("retry_delay_ms", "retry_backoff_rate", "retry_max_delay_ms", "progress"), NUMBERS),
}
LOG_COLUMNS = {
    **dict.fromkeys(("log_type", "from_status", "to_status", "message", "worker_id"), WORDS),
    "attempt": NUMBERS,
    "created_at": MOMENTS,
}
CONFIG_COLUMNS = {
    **dict.fromkeys(("default_timeout_ms", "max_retry", "retry_delay_ms"), NUMBERS),
    **dict.fromkeys(("retry_backoff_rate", "retry_max_delay_ms", "max_concurrent"), NUMBERS),
    "retry_strategy": WORDS,
    "executor": WORDS,
    "updated_at": MOMENTS,
    # MariaDB makes a number of the digits that a text begins with; of others it makes 0, which is "disabled".
    "enabled": st.sampled_from([1, 2, "1yes"]),
}
WORKER_COLUMNS = {
    **dict.fromkeys(("task_types", "stuck_tasks"), JSON_TEXTS),
    **dict.fromkeys(("host", "status", "version"), WORDS),
    **dict.fromkeys(("pid", "capacity", "load", "clock_ahead_ms"), NUMBERS),
    **dict.fromkeys(("started_at", "last_heartbeat_at"), MOMENTS),
}


def _odd(columns: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[tuple[str, Any]]]:
    one = st.sampled_from(sorted(columns)).flatmap(
        lambda name: columns[name].map(lambda value: (name, value))
    )
    return st.lists(one, min_size=1, max_size=4)


EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


def _new_task(system: System, **values: Any) -> str:
    task_id = str(uuid.uuid4())
    system.database.write(lambda connection: insert_task(connection, task_id, **values))
    return task_id


@EXAMPLES
@given(odd=_odd(TASK_COLUMNS), odd_log=_odd(LOG_COLUMNS))
def test_odd_tasks_and_histories_are_shown_by_every_call(
    odd_system: System, odd_client: Client, odd: list[tuple[str, Any]], odd_log: list[tuple[str, Any]]
) -> None:
    task_id = _new_task(odd_system)
    names = "task_id, log_type, from_status, to_status, message, worker_id, attempt, created_at"
    _write(
        odd_system,
        f"INSERT INTO task_log ({names}) VALUES (:name, 'INFO', '', '', 'imported', '', 0, :at)",
        {"name": task_id, "at": "2026-01-01 00:00:00.000000"},
    )
    for column, value in odd:
        _update(odd_system, "task", "task_id", task_id, column, value)
    for column, value in odd_log:
        _update(odd_system, "task_log", "task_id", task_id, column, value)
    shown = odd_client.get_task(task_id)
    assert all(isinstance(value, str) for value in shown.payload.values())
    first = odd_client.list_tasks(page_size=1)
    assert first.tasks
    assert task_id in {task.task_id for task in odd_client.list_tasks(page_size=500).tasks}
    # A worker may have taken it meanwhile, and added rows.
    assert len(odd_client.get_task_logs(task_id)) >= 1
    odd_client.get_statistics()
    odd_client.cancel_task(task_id, requested_by="somebody")
    _delete(odd_system, task_id)


@EXAMPLES
@given(odd=_odd(WORKER_COLUMNS))
def test_odd_workers_are_shown(odd_system: System, odd_client: Client, odd: list[tuple[str, Any]]) -> None:
    names = (
        "worker_id, host, pid, capacity, `load`, task_types, status, version, started_at, last_heartbeat_at"
    )
    moments = "'2026-01-01 00:00:00.000000', '9999-01-01 00:00:00.000000'"
    values = f"'odd', 'h', 1, 1, 0, '[]', 'RUNNING', '1', {moments}"
    _write(odd_system, f"INSERT INTO worker ({names}) VALUES ({values})", {})
    for column, value in odd:
        _update(odd_system, "worker", "worker_id", "odd", f"`{column}`", value)
    # The leader takes one out that is not heard of.
    assert odd_client.list_workers()
    odd_client.get_statistics()
    _write(odd_system, "DELETE FROM worker WHERE worker_id = 'odd'", {})


@EXAMPLES
@given(odd=_odd(CONFIG_COLUMNS))
def test_tasks_of_a_type_with_an_odd_configuration_are_created_and_run(
    odd_system: System, odd_client: Client, odd: list[tuple[str, Any]]
) -> None:
    for column, value in odd:
        _update(odd_system, "task_config", "task_type", "talk", column, value)
    task = odd_client.create_task("talk")
    assert 0 <= task.max_retry <= 1000
    assert odd_client.wait_for_task(task.task_id, timeout=60).status in FINAL


PAYLOADS = {
    '{"a":5,"b":null,"c":[1,{"d":true}],"e":"s","f":1.5}': {
        "a": "5",
        "b": "null",
        "c": '[1,{"d":true}]',
        "e": "s",
        "f": "1.5",
    },
    '{"a":{"b":{"c":"é"}}}': {"a": '{"b":{"c":"é"}}'},
    "[1,2]": {"payload": "[1,2]"},
    "5": {"payload": "5"},
    '"text"': {"payload": "text"},
    "null": {},
    "": {},
    '{"a":': {"payload": '{"a":'},
    "no JSON": {"payload": "no JSON"},
    '{"a":"\\ud83d\\ude00","b":"\\ud800"}': {"a": "😀", "b": "\\ud800"},
}


@pytest.mark.parametrize(("stored", "given_to_handler"), PAYLOADS.items())
def test_a_handler_gets_strings_whatever_its_payload_is(
    odd_system: System, odd_client: Client, stored: str, given_to_handler: dict[str, str]
) -> None:
    task_id = _new_task(odd_system, **_waiting("echo"), payload=stored)
    ended = odd_client.wait_for_task(task_id, timeout=60)
    assert (ended.status, ended.payload, ended.result) == (Status.SUCCESS, given_to_handler, given_to_handler)


def test_tasks_with_odd_policies_end_and_hold_up_no_others(odd_system: System, odd_client: Client) -> None:
    odd = [
        {"retry_backoff_rate": 0.0, "retry_count": -5, "retry_strategy": "EXPONENTIAL", "max_retry": 1},
        {"retry_backoff_rate": -1e308, "retry_delay_ms": 2**62, "retry_max_delay_ms": -(2**62)},
        {"retry_backoff_rate": 1e308, "retry_delay_ms": 0, "retry_strategy": "EXPONENTIAL"},
        {"retry_strategy": "LINEAR", "max_retry": 1},
        {"timeout_ms": 2**62},
        {"timeout_ms": -1},
        {"priority": 7},
        {"due_at": "1970-01-01 00:00:00.000000"},
        {"max_retry": -1},
    ]
    made = [
        _new_task(odd_system, **(_waiting("fail_times") | values), payload='{"times":"1"}') for values in odd
    ]
    beside = odd_client.create_task("echo", {"a": "b"})
    assert odd_client.wait_for_task(beside.task_id, timeout=60).status == Status.SUCCESS
    for task_id, values in zip(made, odd, strict=True):
        wait = partial(_ended, odd_client, task_id)
        ended = eventually(wait, what=f"{values} {odd_client.get_task(task_id)}")
        assert ended.status in (Status.SUCCESS, Status.FAILED)


def test_tasks_with_odd_counts_hold_up_no_others(odd_system: System, odd_client: Client) -> None:
    for number in (-1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 1.5, "many"):
        task_id = _new_task(odd_system, **_waiting("echo"))
        for column in ("attempt", "retry_count"):
            _update(odd_system, "task", "task_id", task_id, column, number)
        beside = odd_client.create_task("echo", {"a": "b"})
        assert odd_client.wait_for_task(beside.task_id, timeout=60).status == Status.SUCCESS, number
        # Those that have come too far to be tried again are nobody's any more.
        _delete(odd_system, task_id)


def _ended(client: Client, task_id: str) -> Any:
    found = client.get_task(task_id)
    return found if found.status in FINAL else None


def _waiting(task_type: str) -> dict[str, Any]:
    at = "2026-01-01 00:00:00.000000"
    return {"task_type": task_type, "status": Status.PENDING, "attempt": 0, "completed_at": None} | {
        "dispatch_at": at,
        "due_at": at,
        "worker_id": "",
        "progress": 0.0,
    }
