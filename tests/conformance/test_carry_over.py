"""What waits under the keys of an older version is run, and the keys go."""

from __future__ import annotations

import json
import time

import pytest
import redis
from fix_valkey import Valkey
from make_tasks import Tasks

from atm.broker.old_layout import OldLayout
from atm.models import now
from atm.scheduler import carry_over as module
from atm.scheduler.carry_over import CarryOver
from atm.store.database import Database


def _queued(client: redis.Redis, prefix: str, queue: str, task_id: str, *, fetched_by: str = "") -> None:
    """As the version before queued it, and had it fetched."""
    name = f"{task_id}:1"
    message = {"queue_name": queue, "args": [task_id, 1], "options": {"redis_message_id": name}}
    client.hset(f"{prefix}:{queue}.msgs", name, json.dumps(message))
    if fetched_by:
        client.sadd(f"{prefix}:__acks__.{fetched_by}.{queue}", name)
    else:
        client.rpush(f"{prefix}:{queue}", name)
        client.rpush(f"{prefix}:{queue}.wake", "1")


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return redis.Redis.from_url(valkey.url)


@pytest.fixture
def carry_over(database: Database, client: redis.Redis, prefix: str) -> CarryOver:
    return CarryOver(database, OldLayout(client, prefix))


def _heard(client: redis.Redis, prefix: str, consumer: str, seconds_ago: float) -> None:
    client.zadd(f"{prefix}:__heartbeats__", {consumer: round((time.time() - seconds_ago) * 1000)})


def test_what_waited_and_what_was_fetched_is_due_and_the_keys_are_gone(
    made: Tasks,
    client: redis.Redis,
    prefix: str,
    carry_over: CarryOver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    tasks = [made.waiting(priority=number % 2) for number in range(6)]
    delayed, running = made.waiting(delay_ms=3_600_000), made.running()
    for number, task_id in enumerate([*tasks, delayed, running, "unknown", "\xff"]):
        made_by = "old-worker" if number == 3 else ""
        _queued(client, prefix, ("normal", "high")[number % 2], task_id, fetched_by=made_by)
    client.hset(f"{prefix}:high.msgs", b"\xff\xfe", "garbage")
    _heard(client, prefix, "old-worker", 3600)
    client.set(f"{prefix}:leader", "old-server")
    before = made.get(delayed), made.get(running)
    while carry_over.run_once():
        pass
    assert all(made.get(task_id).dispatch_at <= now() for task_id in tasks)  # type: ignore[operator]
    assert (made.get(delayed), made.get(running)) == before
    assert list(client.scan_iter(f"{prefix}:*")) == []


def test_where_the_old_keys_may_not_be_seen_that_is_said_once(
    database: Database, own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "atm")
    with redis.Redis.from_url(own_valkey.url) as root:
        root.execute_command("ACL", "SETUSER", "user", "on", ">secret", "~{p}:*", "+@all")
    user = redis.Redis.from_url(own_valkey.url.replace("redis://", "redis://user:secret@"))
    role = CarryOver(database, OldLayout(user, "p"))
    assert [role.run_once() for _ in range(3)] == [False] * 3
    assert len([record for record in caplog.records if "older version" in record.message]) == 1
    user.close()


def test_what_workers_of_the_version_before_still_take_is_left_to_them(
    made: Tasks, client: redis.Redis, prefix: str, carry_over: CarryOver
) -> None:
    task = made.waiting()
    _queued(client, prefix, "normal", task)
    _heard(client, prefix, "old-worker", 1)
    before = made.get(task)
    assert not carry_over.run_once()
    assert made.get(task) == before
    assert client.llen(f"{prefix}:normal") == 1


def test_the_keys_of_this_version_are_left_alone(
    client: redis.Redis, prefix: str, carry_over: CarryOver
) -> None:
    client.set(f"{{{prefix}}}:marker", "1")
    assert not carry_over.run_once()
    assert client.exists(f"{{{prefix}}}:marker")
