"""ATM on a Redis Cluster of six nodes: what it does there, and failovers of the node that has its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fix_system import System, eventually, health
from fix_valkey import Cluster
from grpc_health.v1 import health_pb2
from trickle import trickle

from atm.broker.keys import tagged

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def system(tmp_path: Path, redis_cluster: Cluster) -> Iterator[System]:
    """A server and a worker, on SQLite."""
    folder = tmp_path / "system"
    folder.mkdir()
    made = System(folder, redis_cluster.address, f"sqlite:///{folder / 'atm.db'}")
    try:
        made.start_server()
        made.start_worker()
        yield made
    finally:
        made.stop()


def test_tasks_run_are_cancelled_and_waited_for(system: System, redis_cluster: Cluster) -> None:
    client = system.client()
    eventually(lambda: health(system.address, "redis") == SERVING)
    created = client.create_tasks([{"task_type": "note_start"}] * 200)
    assert {client.wait_for_task(task.task_id, 30).status for task in created} == {"SUCCESS"}
    held = client.create_task("cooperative").task_id
    eventually(lambda: system.marks(held))
    client.cancel_task(held)
    assert client.wait_for_task(held, 30).status == "CANCELLED"
    system.check_starts(task.task_id for task in created)
    # All of it is on one node, and through Redis it went.
    owner = redis_cluster.owner(tagged(system.prefix))
    for node in redis_cluster.nodes:
        with redis.Redis(port=node.port) as there:
            role = there.info("replication")["role"]
            assert bool(there.keys(f"{tagged(system.prefix)}:*")) == (node is owner) or role == "slave"
    system.check_history()


@pytest.mark.parametrize("how", ["asked for", "its owner dies"])
def test_a_failover_of_the_node_that_has_the_keys_is_lived_through(
    system: System, redis_cluster: Cluster, how: str
) -> None:
    key = tagged(system.prefix)
    before = redis_cluster.owner(key)
    with trickle(system, "note_start") as made:
        if how == "asked for":
            redis_cluster.fail_over(key)
        else:
            before.stop()
        eventually(lambda: redis_cluster.owner(key) is not before)
        eventually(lambda: health(system.address, "redis") == SERVING)
        made.goes_on()
    system.check_starts(made.ids)


def test_a_cluster_that_is_taken_for_a_single_redis_is_told(system: System, redis_cluster: Cluster) -> None:
    stranger = next(
        node for node in redis_cluster.nodes if node is not redis_cluster.owner(tagged(system.prefix))
    )
    server = system.start_server(environment={"REDIS_ADDR": stranger.address})
    eventually(lambda: health(server.address, "redis") == NOT_SERVING)
    assert "redis+cluster://" in server.output()
    # They run all the same, from SQL.
    task = system.client().create_task("echo")
    assert system.client().wait_for_task(task.task_id, 30).status == "SUCCESS"
