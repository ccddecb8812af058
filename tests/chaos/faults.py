"""The faults. Each takes an installation that is under load, hurts it for real, and lets it heal."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable

import redis
from fix_faketime import clock_off_by
from fix_system import eventually

from atm.broker import keys
from atm.broker.broker import TaskBroker
from atm.errors import ServiceError
from atm.lists import Hint, TaskList
from atm.states import Status
from atm.store.tasks import Filter, page
from chaos.edge_faults import EVERYWHERE, OF_MARIADB
from chaos.installation import Installation, Part, freeze, send_signal
from chaos.process_faults import OF_PROCESSES
from chaos.proxy import Proxy

Fault = Callable[[Installation, random.Random], None]

#: Longer than the leader's lease of 2 s.
PAST_LEADER_LEASE = 4.0


def worker_killed(installation: Installation, rng: random.Random) -> None:
    """SIGKILL for a worker process in the middle of its tasks."""
    victim = rng.choice(eventually(installation.workers))
    send_signal(victim.pid, signal.SIGKILL)


def worker_frozen(installation: Installation, rng: random.Random) -> None:
    """A worker is stopped past its lease, and goes on."""
    victim = rng.choice(eventually(installation.workers))
    freeze([victim.pid], installation.worker_lease + 2)


def server_killed(installation: Installation, rng: random.Random) -> None:
    """SIGKILL for a server in the middle of its calls."""
    _kill(rng.choice(installation.server_parts()))


def leader_killed(installation: Installation, rng: random.Random) -> None:
    """SIGKILL for the server that leads."""
    leader = eventually(installation.leader)
    send_signal(leader.pid, signal.SIGKILL)


def leader_frozen(installation: Installation, rng: random.Random) -> None:
    """The leader is stopped past its lease, and goes on as if nothing had been."""
    leader = eventually(installation.leader)
    freeze([leader.pid], PAST_LEADER_LEASE)


def redis_restarted_with_data(installation: Installation, rng: random.Random) -> None:
    """Redis is killed and comes back with what it had."""
    installation.valkey.stop()
    time.sleep(rng.random() * 2)
    installation.valkey.start()


def redis_restarted_empty(installation: Installation, rng: random.Random) -> None:
    """Redis is killed and comes back with nothing."""
    installation.valkey.stop()
    installation.forget_redis()
    installation.valkey.start()


def redis_flushed(installation: Installation, rng: random.Random) -> None:
    """FLUSHALL, three times in a second."""
    client = redis.Redis.from_url(installation.valkey.url)
    for _ in range(3):
        client.flushall()
        time.sleep(0.3)
    client.close()


def scripts_flushed(installation: Installation, rng: random.Random) -> None:
    """Redis forgets every script, as after a failover."""
    client = redis.Redis.from_url(installation.valkey.url)
    client.script_flush()
    client.close()


def mariadb_restarted(installation: Installation, rng: random.Random) -> None:
    """MariaDB is killed and started again."""
    assert installation.mariadb is not None
    installation.mariadb.stop()
    installation.mariadb.start()


def mariadb_away(installation: Installation, rng: random.Random, seconds: float = 30.0) -> None:
    """MariaDB is away for half a minute."""
    assert installation.mariadb is not None
    installation.mariadb.stop()
    time.sleep(seconds)
    installation.mariadb.start()


def network_slow(installation: Installation, rng: random.Random) -> None:
    """Everything takes 20 ms longer each way."""
    for proxy in installation.proxies():
        proxy.delay = 0.02
    time.sleep(5)
    for proxy in installation.proxies():
        proxy.heal()


def servers_cut_from_redis(installation: Installation, rng: random.Random) -> None:
    """The servers lose Redis; the workers do not."""
    installation.server_redis.cut()
    time.sleep(4)
    installation.server_redis.heal()


def workers_cut_from_redis(installation: Installation, rng: random.Random) -> None:
    """The workers lose Redis; the servers do not."""
    installation.worker_redis.cut()
    time.sleep(4)
    installation.worker_redis.heal()


def workers_redis_swallows(installation: Installation, rng: random.Random) -> None:
    """What workers and Redis say to each other gets lost, and nobody is told."""
    installation.worker_redis.swallow()
    time.sleep(4)
    installation.worker_redis.heal()


def workers_cut_from_sql(installation: Installation, rng: random.Random) -> None:
    """The workers lose SQL in the middle of claims and ends."""
    for _ in range(5):
        for proxy in installation.worker_sql:
            proxy.cut()
        time.sleep(rng.random())
        for proxy in installation.worker_sql:
            proxy.heal()
        time.sleep(0.3)


def one_worker_cut_from_sql(installation: Installation, rng: random.Random) -> None:
    """One worker loses SQL past its lease; Redis goes on telling it what waits."""
    _without_its_sql(installation, rng, Proxy.cut)


def one_workers_sql_swallows(installation: Installation, rng: random.Random) -> None:
    """What one worker and SQL say to each other gets lost past its lease, and nobody is told."""
    _without_its_sql(installation, rng, Proxy.swallow)


def _without_its_sql(installation: Installation, rng: random.Random, hurt: Callable[[Proxy], None]) -> None:
    proxy = rng.choice(installation.worker_sql)
    hurt(proxy)
    time.sleep(installation.worker_lease + 3)
    # Nothing waits for it: the others have what it had fetched, and what comes.
    for _ in range(4):
        installation.probe(10)
    proxy.heal()


def worker_clock_off(installation: Installation, rng: random.Random) -> None:
    """A worker's clock is off."""
    _clock_off(installation, rng.choice(installation.worker_parts()), rng)


def server_clock_off(installation: Installation, rng: random.Random) -> None:
    """A server's clock is off, whether it leads or not."""
    _clock_off(installation, rng.choice(installation.server_parts()), rng)


def leader_clock_off(installation: Installation, rng: random.Random) -> None:
    """The clock of the server that leads is off."""
    part = rng.choice(installation.server_parts())

    def lead() -> None:
        for _ in range(20):
            leader = eventually(installation.leader, 30)
            assert part.process is not None
            if leader.pid == part.process.popen.pid:
                return
            for other in installation.server_parts():
                if other.process is not None and other.process.popen.pid == leader.pid:
                    other.replace()
        raise AssertionError("the server whose clock is off does not get to lead")

    _clock_off(installation, part, rng, lead)


def _clock_off(
    installation: Installation, part: Part, rng: random.Random, then: Callable[[], None] = lambda: None
) -> None:
    part.environment = clock_off_by(rng.choice([-3600.0, -60.0, -12.0, -5.0, 5.0, 12.0, 60.0, 3600.0]))
    _replace(installation, part)
    then()
    # Long enough for whatever goes by leases.
    time.sleep(installation.worker_lease + 3)
    installation.probe(15)
    part.environment = {}
    _replace(installation, part)


def _replace(installation: Installation, part: Part) -> None:
    part.replace()
    eventually(lambda: len(installation.workers()) >= len(installation.worker_parts()), 30)
    eventually(lambda: len(installation.live_servers()) >= len(installation.server_parts()), 30)


def poison(installation: Installation, rng: random.Random) -> None:
    """A handler that kills its worker, as often as it may."""
    task_id = _insist_on_creating(installation, "chaos_poison")
    with installation.client() as client:
        task = client.wait_for_task(task_id, 90)
    assert (task.status, task.error_reason, task.attempt) == ("FAILED", "WORKER_LOST", 3), task


def isolated_poison(installation: Installation, rng: random.Random) -> None:
    """A handler that kills its own process: the worker does not mind."""
    task_id = _insist_on_creating(installation, "chaos_isolated_poison")
    with installation.client() as client:
        task = client.wait_for_task(task_id, 60)
    assert (task.status, task.error_reason, task.attempt) == ("FAILED", "WORKER_LOST", 3), task


def async_loop_ended(installation: Installation, rng: random.Random) -> None:
    """Handlers that exit in the loop of all async ones, or end it: those beside them go on."""
    with installation.client() as client:
        exits = [_insist_on_creating(installation, "chaos_async_poison") for _ in range(3)]
        for task in [client.wait_for_task(task_id, 90) for task_id in exits]:
            assert (task.status, task.error_reason, task.attempt) == ("FAILED", "HANDLER_ERROR", 3), task
        # After those: a loop that ends takes whoever is on it along.
        ends = [_insist_on_creating(installation, "chaos_loop") for _ in range(3)]
        for task in [client.wait_for_task(task_id, 90) for task_id in ends]:
            assert task.status == "SUCCESS", task
            assert task.attempt > 1, "its loop did not end"


def every_message_doubled(installation: Installation, rng: random.Random) -> None:
    """For two seconds, each task that waits or runs gets its message again and again."""
    broker = TaskBroker(installation.valkey.url, prefix="atm")
    end = time.monotonic() + 2
    while time.monotonic() < end:
        for status in (Status.PENDING, Status.PROCESSING):
            found = installation.database.read(
                lambda connection, status=status: page(connection, Filter(status=status), limit=200)
            )
            for task in found:
                for attempt in (task.attempt, task.attempt + 1):
                    # Not under its own id: that would be noticed at once.
                    message = keys.message_id(task.task_id, attempt)
                    broker.client.hdel(keys.messages("atm"), message)
                    broker.send([Hint(task.task_id, attempt, TaskList(task.task_type, task.priority))])
    broker.close()


def rolling_restart(installation: Installation, rng: random.Random) -> None:
    """Every worker, then every server, is asked to stop and is replaced, one after the other."""
    for part in [*installation.worker_parts(), *installation.server_parts()]:
        part.replace()
        time.sleep(1.0)
    eventually(lambda: len(installation.workers()) >= len(installation.worker_parts()), 30)


def cancel_races(installation: Installation, rng: random.Random) -> None:
    """Tasks are cancelled at every moment of their lives, by two clients at once."""

    def race() -> None:
        with installation.client(rng.randrange(4)) as client:
            for _ in range(25):
                try:
                    task = client.create_task(
                        rng.choice(["chaos_quick", "chaos_slow", "chaos_flaky"]), {"race": "1"}
                    )
                    time.sleep(rng.random() * 0.05)
                    CANCELLED_BY_FAULTS.add(task.task_id)
                    client.cancel_task(task.task_id, requested_by="race")
                except ServiceError:
                    time.sleep(0.1)

    threads = [threading.Thread(target=race) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


#: What `cancel_races` has cancelled: the checker lets these end either way.
CANCELLED_BY_FAULTS: set[str] = set()

ANYWHERE: tuple[Fault, ...] = (
    worker_killed,
    worker_frozen,
    server_killed,
    leader_killed,
    leader_frozen,
    redis_restarted_with_data,
    redis_restarted_empty,
    redis_flushed,
    scripts_flushed,
    servers_cut_from_redis,
    workers_cut_from_redis,
    workers_redis_swallows,
    poison,
    isolated_poison,
    async_loop_ended,
    every_message_doubled,
    rolling_restart,
    cancel_races,
)
ON_MARIADB: tuple[Fault, ...] = (
    mariadb_restarted,
    mariadb_away,
    network_slow,
    workers_cut_from_sql,
    one_worker_cut_from_sql,
    one_workers_sql_swallows,
)
#: They need libfaketime.
OF_CLOCKS: tuple[Fault, ...] = (worker_clock_off, server_clock_off, leader_clock_off)


def faults_for(database: str) -> tuple[Fault, ...]:
    """Those that make sense on this database."""
    on_this = ON_MARIADB + OF_MARIADB if database == "mariadb" else (network_slow,)
    return ANYWHERE + EVERYWHERE + OF_PROCESSES + OF_CLOCKS + on_this


def _kill(part: Part) -> None:
    assert part.process is not None
    part.process.popen.kill()


def _insist_on_creating(installation: Installation, task_type: str) -> str:
    def create() -> str:
        with installation.client() as client:
            try:
                return client.create_task(task_type).task_id
            except ServiceError:
                return ""

    return eventually(create, 30)
