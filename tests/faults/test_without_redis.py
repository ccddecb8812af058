"""Redis makes ATM fast; it is not needed to go on."""

from __future__ import annotations

import pytest
import redis
from fix_system import System, eventually, health
from fix_valkey import Valkey
from grpc_health.v1 import health_pb2

from atm.client import Client
from atm.store import servers

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
THREADS = 4


@pytest.fixture
def system(new_system: System, own_valkey: Valkey) -> System:
    """With one server and one worker, and a Redis of its own."""
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server("--id", "first")
    eventually(lambda: _leader(new_system).startswith("first@"))
    new_system.start_worker(threads=THREADS)
    return new_system


@pytest.fixture
def away(system: System, own_valkey: Valkey) -> Valkey:
    """The Redis of the system, which is away."""
    own_valkey.stop()
    eventually(lambda: health(system.address, "redis") == NOT_SERVING)
    return own_valkey


def _leader(system: System) -> str:
    return system.database.read(servers.leader).instance_id


def _ends(client: Client, task_ids: list[str]) -> set[str]:
    """The states that tasks end in."""
    return {client.wait_for_task(task_id, 60).status for task_id in task_ids}


def _starts(system: System) -> list[str]:
    """The tasks whose handlers have started, in that order."""
    return [line.split()[1] for line in (system.folder / "starts").read_text().splitlines()]


def test_tasks_run_once_while_it_is_away_and_when_it_is_back(system: System, away: Valkey) -> None:
    client = system.client()
    before = [client.create_task("note_start").task_id for _ in range(100)]
    assert _ends(client, before) == {"SUCCESS"}
    # What is created around its return is run by whoever sees it first.
    around = [client.create_task("note_start").task_id for _ in range(50)]
    away.start()
    around += [client.create_task("note_start").task_id for _ in range(50)]
    eventually(lambda: health(system.address, "redis") == SERVING)
    assert _ends(client, around) == {"SUCCESS"}
    assert sorted(_starts(system)) == sorted(before + around)
    system.check_history()


def test_several_workers_that_take_from_sql_run_each_task_once(system: System, away: Valkey) -> None:
    for _ in range(2):
        system.start_worker(threads=THREADS)
    client = system.client()
    made = [task.task_id for task in client.create_tasks([{"task_type": "note_start"} for _ in range(300)])]
    assert _ends(client, made) == {"SUCCESS"}
    assert sorted(_starts(system)) == sorted(made)
    system.check_history()


def test_high_tasks_go_first_without_it(system: System, away: Valkey) -> None:
    client = system.client()
    held = [client.create_task("hold", {"until": "go"}).task_id for _ in range(THREADS)]
    eventually(lambda: all(system.marks(task_id) for task_id in held))
    normal = [client.create_task("note_start").task_id for _ in range(20)]
    high = [client.create_task("note_start", priority="high").task_id for _ in range(4)]
    system.let_go("go")
    assert _ends(client, held + normal + high) == {"SUCCESS"}
    starts = _starts(system)
    # One Normal task may come before the ninth High one, and a few were fetched together.
    assert {starts.index(task_id) for task_id in high} <= set(range(2 * THREADS))


def test_what_runs_and_what_waits_is_cancelled_without_it(system: System, away: Valkey) -> None:
    client = system.client()
    running = client.create_task("hold", {"until": "never"}).task_id
    eventually(lambda: system.marks(running))
    later = client.create_task("echo", delay=3600).task_id
    for task_id in (running, later):
        assert client.cancel_task(task_id).success
    assert [client.wait_for_task(task_id, 60).status for task_id in (running, later)] == ["CANCELLED"] * 2
    system.check_history()


def test_retries_and_delays_come_in_time_without_it(system: System, away: Valkey) -> None:
    client = system.client()
    delayed = client.create_task("echo", delay=1).task_id
    lost = client.create_task("hold", {"until": "go"}, max_retry=1).task_id
    eventually(lambda: system.marks(lost))
    system.kill_processes()
    system.start_server()
    system.start_worker(threads=THREADS)
    client = system.client()
    system.let_go("go")
    assert _ends(client, [delayed]) == {"SUCCESS"}
    assert client.wait_for_task(lost, 60).status == "SUCCESS"
    assert len(system.marks(lost)) == 2
    system.check_history()


def test_who_leads_and_what_is_wrong_with_redis_is_listed(system: System, away: Valkey) -> None:
    client = system.client()
    listed = eventually(lambda: [server for server in client.list_servers() if server.redis_fault])
    assert [server.leader for server in listed] == [True]
    assert "Redis cannot be used" in listed[0].redis_fault
    away.start()
    eventually(lambda: [server for server in client.list_servers() if not server.redis_fault])


def test_a_leader_that_dies_without_it_is_followed(system: System, away: Valkey) -> None:
    system.kill_processes()
    system.start_server("--id", "second")
    eventually(lambda: _leader(system).startswith("second@"))
    system.start_worker()
    client = system.client()
    assert _ends(client, [client.create_task("echo").task_id]) == {"SUCCESS"}


def test_tasks_run_though_it_is_full(system: System, own_valkey: Valkey) -> None:
    client = system.client()
    with redis.Redis.from_url(own_valkey.url) as connection:
        connection.config_set("maxmemory", "1")
        connection.config_set("maxmemory-policy", "noeviction")
        eventually(lambda: health(system.address, "redis") == NOT_SERVING)
        full = [client.create_task("echo").task_id for _ in range(20)]
        assert _ends(client, full) == {"SUCCESS"}
        connection.config_set("maxmemory", "0")
    eventually(lambda: health(system.address, "redis") == SERVING)
    assert _ends(client, [client.create_task("echo").task_id]) == {"SUCCESS"}
    system.check_history()
