"""A server from its start to its end: what it opens, in which order, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

from atm import logs
from atm.background import Role, Runner
from atm.broker.address import is_cluster
from atm.broker.broker import TaskBroker
from atm.broker.marker import Marker
from atm.broker.notifications import NotificationListener
from atm.broker.old_layout import OldLayout
from atm.errors import SettingsError
from atm.processes import freeze_heap
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import add_TaskServiceServicer_to_server
from atm.scheduler.carry_over import CarryOver
from atm.scheduler.data_loss import DataLossDetector
from atm.scheduler.leadership import Leadership
from atm.scheduler.pruner import Pruner
from atm.scheduler.recovery import MessageRecovery
from atm.scheduler.relay import Relay
from atm.scheduler.rescuer import Rescuer
from atm.scheduler.timeout_sweeper import TimeoutSweeper
from atm.server import callers_faults
from atm.server.admission import Admission
from atm.server.call_loop import new_server
from atm.server.error_boundary import BoundedServer
from atm.server.listener import Listener
from atm.server.ports import Ports, with_usable_host
from atm.server.readiness import Readiness
from atm.server.registry import ServerRegistry
from atm.server.self_check import SelfCheck, leave
from atm.server.servicer import Servicer
from atm.server.waiting import Waiting
from atm.service.dispatch import Dispatcher
from atm.service.task_service import TaskService
from atm.service.validation import MAX_WAIT_MS
from atm.settings import Settings
from atm.store import schema
from atm.store.database import Database
from atm.supervisor.commands import server_commands, worker_commands
from atm.supervisor.supervisor import Supervisor

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["TaskService"].full_name
#: How many calls gRPC may have in hand: never too many, that is for `admission` to say.
_NO_LIMIT = 1_000_000
#: Connections beside those of calls: creation, reads, the scheduler's roles, the registry, readiness.
_OWN_CONNECTIONS = 10
#: The longest call is a wait.
_LONGEST_CALL_SECONDS = MAX_WAIT_MS / 1000
_AGE_GRACE_SECONDS = 30.0
#: A client may ping an idle connection this often.
_MIN_PING_MS = 5_000
_OPTIONS = [
    ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Below these gRPC's core would turn bursts away, as CANCELLED.
    ("grpc.server.max_pending_requests", _NO_LIMIT),
    ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
    # It would refuse calls while others, which have ended, are still being cleared away.
    ("grpc.http.overload_protection", 0),
]


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code.

    Raises SchemaBehindError, UnavailableError (SQL), and SettingsError for an
    address that cannot be listened on, or when its workers refuse theirs.
    """
    logs.configure(settings.log_level)
    callers_faults.log_occasionally()
    settings = with_usable_host(settings)
    if settings.upgrade_db:
        # Where nothing is upgraded, Alembic is not imported.
        from atm.store.schema_upgrade import upgrade

        before, after = upgrade(settings.sql_url)
        if before != after:
            logger.info("the schema was upgraded from %s to %s", before or "nothing", after)
    database = Database(settings.sql_url, pool_size=settings.server_threads + _OWN_CONNECTIONS)
    broker = TaskBroker(
        settings.redis_url,
        prefix=settings.redis_prefix,
        consumer_timeout=settings.worker_lease_seconds,
        now=database.clock.now,
        limit=settings.queue_limit,
    )
    try:
        schema.require(database)
        if settings.processes > 1:
            _serve_in_processes(settings)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, database, broker))
    finally:
        broker.close()
        database.close()
    return 0


def _serve_in_processes(settings: Settings) -> None:
    """Keeps the processes running that serve, and the workers beside them."""
    ports = Ports(settings)
    ports.check_numbers()
    # They would share them with a stranger, too.
    ports.check()
    stopping = threading.Event()
    _at_signals(stopping.set)
    # Workers in a supervisor of their own: they stop first.
    workers = Supervisor(worker_commands(settings), on_refusal=stopping.set)
    supervisors = [Supervisor(server_commands(settings)), workers]
    for supervisor in supervisors:
        supervisor.start()
    logger.info("%s serves in %d processes", settings.server_id, settings.processes)
    stopping.wait()
    # The signal may have come to all processes.
    for supervisor in supervisors:
        supervisor.hold()
    for supervisor in reversed(supervisors):
        supervisor.stop()
    _tell_refusal(workers)


def _at_signals(stop: Callable[[], None]) -> None:
    """Has the process stop in order at signals, however often they come, until it has ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Started with nohup, it outlives its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: stop())


async def _serve(settings: Settings, database: Database, broker: TaskBroker) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Also when the loop has ended: it would take its own handlers with it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopping.set)

    _at_signals(stop)

    dispatcher = Dispatcher(broker)
    service = TaskService(
        database,
        dispatcher,
        accept_unknown_types=settings.accept_unknown_types,
        relay_grace=settings.relay_grace_seconds,
        worker_lease=settings.worker_lease_seconds,
        deliver=loop.call_soon_threadsafe,
    )
    waiting = Waiting(service, loop)
    notifications = NotificationListener(broker.client, broker.namespace, waiting.hear)
    pool = ThreadPoolExecutor(settings.server_threads, thread_name_prefix="atm-call")
    checker = health.aio.HealthServicer()
    admission = Admission(
        calls=settings.max_calls_in_flight,
        waits=settings.max_waits,
        memory=settings.max_call_memory_mb << 20,
    )
    listener = _listener(settings, Servicer(service, waiting, pool, admission.memory), checker, admission)
    readiness = Readiness(checker, SERVICE, database, broker)
    registry = ServerRegistry(database, settings, lambda: readiness.redis_fault)
    leadership = Leadership(database, registry.instance_id, lambda: not readiness.redis_fault)
    own_roles = Runner([registry, leadership, notifications])
    scheduler = Runner(_sweeps(settings, database, broker, dispatcher), leadership.leads)
    supervisor = Supervisor(
        worker_commands(settings), on_refusal=lambda: loop.call_soon_threadsafe(stopping.set)
    )

    def tell_others() -> None:
        for leaving in (own_roles.stop, leadership.hand_over, registry.stop, listener.remove_socket):
            leaving()

    # Where the event loop does not turn any more, nothing below is reached.
    self_check = SelfCheck(lambda: listener.own_address, lambda: leave(tell_others, supervisor.stop))
    self_checks = Runner([self_check])

    for part in (dispatcher, service):
        part.start()
    # First, so that a server which answers has done all that can make it fail.
    await asyncio.to_thread(registry.start)
    await listener.start()
    own_roles.start()
    self_checks.start()
    scheduler.start()
    supervisor.start()
    looking = asyncio.create_task(readiness.run())
    logger.info(
        "%s serves on %s, ports %d and %d",
        settings.server_id,
        settings.host,
        settings.grpc_port,
        settings.worker_port,
    )
    freeze_heap()
    await stopping.wait()
    # The signal may have come to all processes.
    supervisor.hold()

    logger.info("%s stops: it takes no new calls", settings.server_id)
    # First the word to load balancers, then the lead to another server, then
    # the calls in flight, then what they used.
    looking.cancel()
    await asyncio.to_thread(self_checks.stop)
    await checker.enter_graceful_shutdown()
    waiting.close()
    await asyncio.to_thread(scheduler.stop)
    await asyncio.to_thread(own_roles.stop)
    await asyncio.to_thread(leadership.hand_over)
    await asyncio.to_thread(registry.drain)
    await listener.stop(settings.shutdown_grace_seconds)
    await asyncio.to_thread(supervisor.stop)
    await asyncio.to_thread(registry.stop)
    pool.shutdown()
    # In this order: what is committed last is still queued.
    for last in (notifications, service, dispatcher):
        await asyncio.to_thread(last.close)
    logger.info("%s has stopped", settings.server_id)
    _tell_refusal(supervisor)


def _tell_refusal(workers: Supervisor) -> None:
    if workers.refusal:
        raise SettingsError(workers.refusal)


def _sweeps(settings: Settings, database: Database, broker: TaskBroker, dispatcher: Dispatcher) -> list[Role]:
    """What the leader does for all."""
    sweeps: list[Role] = [
        Relay(database, dispatcher, settings.sweep_seconds, settings.queue_limit),
        DataLossDetector(database, Marker(broker.client, broker.namespace)),
        Rescuer(database, settings.worker_lease_seconds),
        TimeoutSweeper(database),
        MessageRecovery(dispatcher),
    ]
    if not is_cluster(settings.redis_url):
        # Versions with the old keys did not work with a cluster, which has them on other nodes.
        sweeps.append(CarryOver(database, OldLayout(broker.client, broker.namespace)))
    if settings.retention_seconds:
        sweeps.append(Pruner(database, settings.retention_seconds))
    return sweeps


def _listener(settings: Settings, servicer: Servicer, checker: Any, admission: Admission) -> Listener:
    """What serves these on both ports. Raises SettingsError for one that cannot be listened on."""
    ports = Ports(settings)
    options = _options(settings)

    def make() -> Any:
        server, tells_unknown_apart = new_server(options)
        translating: Any = BoundedServer(server, admission, registers=tells_unknown_apart)
        add_TaskServiceServicer_to_server(servicer, translating)
        health_pb2_grpc.add_HealthServicer_to_server(checker, translating)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), translating)
        ports.open(server)
        return server

    return Listener(make, ports.are_free, _LONGEST_CALL_SECONDS + settings.shutdown_grace_seconds)


def _options(settings: Settings) -> list[tuple[str, Any]]:
    options = [
        *_OPTIONS,
        # Two servers on one port would each get some of its calls: only where it is meant.
        ("grpc.so_reuseport", int(settings.share_ports)),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        # A connection that is too old takes no new calls; this long for those that it has.
        ("grpc.max_connection_age_grace_ms", round(1000 * (_LONGEST_CALL_SECONDS + _AGE_GRACE_SECONDS))),
    ]
    limits = {
        "grpc.max_connection_age_ms": settings.max_connection_age_seconds,
        "grpc.max_connection_idle_ms": settings.max_connection_idle_seconds,
    }
    return options + [(name, max(1, round(1000 * seconds))) for name, seconds in limits.items() if seconds]
