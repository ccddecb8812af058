"""The tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from atm.columns import (
    BigWhole,
    JsonList,
    JsonMap,
    LongText,
    Real,
    UtcDateTime,
    Whole,
    ascii_string,
    exact_string,
)
from atm.states import WorkerStatus

#: SQLite counts up by itself only on INTEGER.
BIG_ID = BigInteger().with_variant(Integer, "sqlite")

#: The longest names and texts that are stored, in characters.
TASK_ID_LENGTH = 36
TASK_TYPE_LENGTH = 128
WORKER_ID_LENGTH = 128
ACTOR_LENGTH = 255
PROGRESS_MESSAGE_LENGTH = 255
REQUEST_ID_LENGTH = 128
SERVER_ID_LENGTH = 128
FAULT_LENGTH = 500
INSTANCE_ID_LENGTH = 191


def now() -> datetime:
    """The time by this machine's clock, in UTC. What processes compare is in `Database.clock`'s."""
    return datetime.now(UTC)


class Task(SQLModel, table=True):
    """One accepted task. The policy it runs under is copied in when it is created."""

    __tablename__ = "task"
    __table_args__ = (
        # Pages, newest first (task ids sort by time). By the first of them the
        # sweeps find what is PROCESSING: never more than there are threads.
        Index("ix_task_status_id", "status", "task_id"),
        Index("ix_task_priority_id", "priority", "task_id"),
        Index("ix_task_type_id", "task_type", "task_id"),
        # For servers of the version before; the release after this one drops it.
        Index("ix_task_dispatch", "dispatch_at"),
        # The relay, and workers without Redis: what waits, by its list, and should have its message by now.
        Index("ix_task_waiting", "task_type", "priority", "dispatch_at", "due_at"),
        # Requests that were made before.
        Index("ix_task_request", "request_id", unique=True),
        # The pruner: what ended long ago.
        Index("ix_task_completed", "completed_at"),
    )

    task_id: str = Field(sa_column=Column(ascii_string(TASK_ID_LENGTH), primary_key=True))
    task_type: str = Field(sa_column=Column(exact_string(TASK_TYPE_LENGTH), nullable=False))
    status: str = Field(sa_column=Column(ascii_string(16), nullable=False))
    priority: int = Field(sa_column=Column(Whole, nullable=False))
    payload: dict[str, str] = Field(sa_column=Column(JsonMap("payload"), nullable=False))
    result: dict[str, str] | None = Field(default=None, sa_column=Column(JsonMap("result")))
    # The worker that holds the task, or that ended it.
    worker_id: str = Field(default="", sa_column=Column(exact_string(WORKER_ID_LENGTH), nullable=False))
    # How often the task was claimed: the fence. It only grows.
    attempt: int = Field(default=0, sa_column=Column(Whole, nullable=False))
    # How many of the attempts were followed by a retry that counts.
    retry_count: int = Field(default=0, sa_column=Column(Whole, nullable=False))
    max_retry: int = Field(sa_column=Column(Whole, nullable=False))
    timeout_ms: int = Field(sa_column=Column(BigWhole, nullable=False))
    retry_strategy: str = Field(sa_column=Column(ascii_string(16), nullable=False))
    retry_delay_ms: int = Field(sa_column=Column(BigWhole, nullable=False))
    retry_backoff_rate: float = Field(sa_column=Column(Real, nullable=False))
    retry_max_delay_ms: int = Field(sa_column=Column(BigWhole, nullable=False))
    error_message: str = Field(default="", sa_column=Column(LongText, nullable=False))
    error_reason: str = Field(default="", sa_column=Column(ascii_string(32), nullable=False))
    progress: float = Field(default=0.0, sa_column=Column(Real, nullable=False))
    progress_message: str = Field(
        default="", sa_column=Column(exact_string(PROGRESS_MESSAGE_LENGTH), nullable=False)
    )
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    # The start of the newest attempt.
    started_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    completed_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    # While PENDING: nobody starts it before.
    due_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    # While PENDING, and only then: when the relay next looks whether the task has its message.
    dispatch_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    # While PROCESSING: when the attempt's time is over. None: no limit.
    deadline_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    cancel_requested_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    cancel_requested_by: str = Field(default="", sa_column=Column(exact_string(ACTOR_LENGTH), nullable=False))
    # What the client calls its request, and a digest of what it asked for.
    request_id: str | None = Field(
        default=None, sa_column=Column(exact_string(REQUEST_ID_LENGTH), nullable=True)
    )
    request_digest: str = Field(default="", sa_column=Column(ascii_string(64), nullable=False))

    @classmethod
    def of_checked(cls, values: Mapping[Any, Any]) -> Task:
        """A task with these values, which were checked before.

        `Task(...)`, which checks, takes thirty times as long; `model_construct` five times.
        """
        made: Task = cls.__new__(cls)
        made.__dict__.update(_DEFAULTS)
        made.__dict__.update(values)
        return made

    # Not of the table: what became of the values of one that was read for an answer.
    @property
    def unread(self) -> int:
        """How many bytes of payload and result were not read."""
        return int(self.__dict__.get("unread", 0))

    @property
    def values_omitted(self) -> bool:
        """Whether the answer that it is for leaves out payload or result, for want of room."""
        return bool(self.__dict__.get("values_omitted", False))

    def omit_unread(self) -> None:
        """What was not read is left out of the answer."""
        self.__dict__["values_omitted"] = True


_DEFAULTS = {
    name: field.get_default() for name, field in Task.model_fields.items() if not field.is_required()
}


class TaskLog(SQLModel, table=True):
    """One row of a task's history. Rows are only ever added."""

    __tablename__ = "task_log"
    __table_args__ = (Index("ix_task_log_task", "task_id", "log_id"),)

    log_id: int | None = Field(default=None, sa_column=Column(BIG_ID, primary_key=True, autoincrement=True))
    task_id: str = Field(sa_column=Column(ascii_string(TASK_ID_LENGTH), nullable=False))
    log_type: str = Field(sa_column=Column(ascii_string(16), nullable=False))
    from_status: str = Field(default="", sa_column=Column(ascii_string(16), nullable=False))
    to_status: str = Field(default="", sa_column=Column(ascii_string(16), nullable=False))
    message: str = Field(default="", sa_column=Column(LongText, nullable=False))
    worker_id: str = Field(default="", sa_column=Column(exact_string(WORKER_ID_LENGTH), nullable=False))
    attempt: int = Field(default=0, sa_column=Column(Whole, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class TaskConfig(SQLModel, table=True):
    """What is known of a type of task: its defaults, and whether it may be created."""

    __tablename__ = "task_config"

    task_type: str = Field(sa_column=Column(exact_string(TASK_TYPE_LENGTH), primary_key=True))
    # 0: without limit.
    default_timeout_ms: int = Field(default=0, sa_column=Column(BigWhole, nullable=False))
    max_retry: int = Field(default=3, sa_column=Column(Whole, nullable=False))
    retry_strategy: str = Field(default="EXPONENTIAL", sa_column=Column(ascii_string(16), nullable=False))
    retry_delay_ms: int = Field(default=1000, sa_column=Column(BigWhole, nullable=False))
    retry_backoff_rate: float = Field(default=2.0, sa_column=Column(Real, nullable=False))
    retry_max_delay_ms: int = Field(default=600_000, sa_column=Column(BigWhole, nullable=False))
    # How many attempts of this type run at once, on all workers; 0: no limit.
    max_concurrent: int = Field(default=0, sa_column=Column(Whole, nullable=False))
    enabled: bool = Field(default=True)
    # thread, async or process: how a worker runs the handler.
    executor: str = Field(default="thread", sa_column=Column(ascii_string(16), nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class Worker(SQLModel, table=True):
    """One worker process, from its start until it leaves or is given up on."""

    __tablename__ = "worker"
    __table_args__ = (Index("ix_worker_heartbeat", "last_heartbeat_at"),)

    worker_id: str = Field(sa_column=Column(exact_string(WORKER_ID_LENGTH), primary_key=True))
    host: str = Field(sa_column=Column(exact_string(255), nullable=False))
    pid: int = Field(sa_column=Column(Whole, nullable=False))
    capacity: int = Field(sa_column=Column(Whole, nullable=False))
    load: int = Field(default=0, sa_column=Column(Whole, nullable=False))
    task_types: list[str] = Field(sa_column=Column(JsonList, nullable=False))
    status: str = Field(default=WorkerStatus.RUNNING, sa_column=Column(ascii_string(16), nullable=False))
    version: str = Field(default="", sa_column=Column(ascii_string(32), nullable=False))
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    last_heartbeat_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    # Milliseconds; negative: its clock is behind the database's.
    clock_ahead_ms: int = Field(default=0, sa_column=Column(BigWhole, nullable=False, server_default="0"))
    # The tasks whose handlers hold a thread although their attempts have ended.
    stuck_tasks: list[str] | None = Field(default=None, sa_column=Column(JsonList))


class Server(SQLModel, table=True):
    """One server process, from its start until it leaves or is given up on."""

    __tablename__ = "server"

    # server_id is what the operator calls it; two processes may share it by mistake.
    instance_id: str = Field(sa_column=Column(exact_string(INSTANCE_ID_LENGTH), primary_key=True))
    server_id: str = Field(sa_column=Column(exact_string(SERVER_ID_LENGTH), nullable=False))
    host: str = Field(sa_column=Column(exact_string(255), nullable=False))
    pid: int = Field(sa_column=Column(Whole, nullable=False))
    grpc_port: int = Field(sa_column=Column(Whole, nullable=False))
    worker_port: int = Field(sa_column=Column(Whole, nullable=False))
    status: str = Field(default=WorkerStatus.RUNNING, sa_column=Column(ascii_string(16), nullable=False))
    version: str = Field(default="", sa_column=Column(ascii_string(32), nullable=False))
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    last_heartbeat_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    # Milliseconds; negative: its clock is behind the database's.
    clock_ahead_ms: int = Field(default=0, sa_column=Column(BigWhole, nullable=False, server_default="0"))
    # Why Redis cannot be used from there; nothing: it can.
    redis_fault: str | None = Field(default=None, sa_column=Column(exact_string(FAULT_LENGTH)))


class Leader(SQLModel, table=True):
    """Who leads the servers, and for the how manieth time that changed: one row."""

    __tablename__ = "leader"

    name: str = Field(sa_column=Column(ascii_string(32), primary_key=True))
    epoch: int = Field(sa_column=Column(BigWhole, nullable=False))
    instance_id: str = Field(sa_column=Column(exact_string(INSTANCE_ID_LENGTH), nullable=False))
    acquired_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    # Until when it leads without renewing. None: a server of an older version took the lead.
    leads_until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    # Redis does not answer it: another server that Redis answers may follow it at once.
    without_redis: bool | None = Field(default=None, sa_column=Column(Boolean))


class SchemaRevision(SQLModel, table=True):
    """A revision of the schema that an upgrade has begun with; see `store/migrations/revisions.py`."""

    __tablename__ = "schema_revision"

    revision: str = Field(sa_column=Column(ascii_string(32), primary_key=True))
    # The newest revision that the oldest code brings which goes on with this one.
    oldest_code: str = Field(sa_column=Column(ascii_string(32), nullable=False))
    # Of ATM, which has made it.
    version: str = Field(sa_column=Column(ascii_string(32), nullable=False))
    begun_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


# Here and now, not at the first use: rows are made without pydantic's __init__,
# which would do it, also in processes that are forked early.
configure_mappers()
