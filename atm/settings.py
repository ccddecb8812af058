"""The settings of a server and of its workers, from flags, the environment and defaults.

Read once, at the start of a process, and checked then. Units are in the names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasGenerator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from atm.broker.address import parse_redis_addr
from atm.errors import SettingsError
from atm.host_port import DEFAULT_PORT
from atm.store.dsn import URL, parse_sql_dsn

DEFAULT_MYSQL_DSN = "root:password@tcp(localhost:3306)/asynctask"
DEFAULT_REDIS_ADDR = "localhost:6379"


def _variable(setting: str) -> str:
    """The environment variable of a setting: ATM_ and its name, but for the two that are older than ATM."""
    variable = setting.upper()
    return variable if setting in ("redis_addr", "mysql_dsn") else f"ATM_{variable}"


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Every setting, with its environment variable as the alias."""

    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=_variable),
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    server_id: str = Field("server-1", min_length=1, max_length=128)
    # All interfaces, IPv6 and IPv4: what the older service listens on.
    host: str = Field("[::]", min_length=1)
    grpc_port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    worker_port: int = Field(8080, ge=0, le=65535)
    # Both can hold a password.
    redis_addr: str = Field(DEFAULT_REDIS_ADDR, repr=False)
    mysql_dsn: str = Field(DEFAULT_MYSQL_DSN, repr=False)
    # The prefix of every Redis key, so that installations can share a Redis.
    redis_prefix: str = Field("atm", min_length=1, max_length=64)

    # Server processes that share the two ports.
    processes: int = Field(1, ge=1, le=256)
    # Set for each of them: it listens on ports that others listen on, too.
    share_ports: bool = False
    workers: int = Field(0, ge=0, le=1024)
    worker_threads: int = Field(8, ge=1, le=1024)
    reflection: bool = False
    accept_unknown_types: bool = False
    upgrade_db: bool = False
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"

    # Modules that hold handlers, imported by workers.
    handlers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    # http_request may reach private, loopback and link-local addresses.
    http_allow_private: bool = False

    # Calls of the server that use SQL at the same time; each holds a connection.
    server_threads: int = Field(16, ge=1, le=512)
    # What a server process takes at a time: calls, and apart from them calls that wait for the end of a task.
    max_calls_in_flight: int = Field(2000, ge=1, le=100_000)
    max_waits: int = Field(1000, ge=1, le=100_000)
    # ... and requests and answers, in MiB as they are worked on. One call may need 20.
    max_call_memory_mb: int = Field(128, ge=32)
    # What one connection may have at a time. Clients queue what is more.
    max_streams_per_connection: int = Field(100, ge=1, le=100_000)
    # A connection is closed when it is so old, or was not used for so long, once its calls have ended:
    # then its client may find another server. 0: never.
    max_connection_age_seconds: float = Field(600.0, ge=0, le=2_000_000)
    max_connection_idle_seconds: float = Field(600.0, ge=0, le=2_000_000)
    # How long a stopping server waits for the calls in flight.
    shutdown_grace_seconds: float = Field(10.0, ge=0)
    # How long a stopping worker waits for what runs, before it hands it back.
    drain_seconds: float = Field(30.0, ge=0)
    # A worker process ends, and its parent starts another, after this many tasks, or above this much
    # memory; 0: never.
    max_tasks: int = Field(0, ge=0)
    max_memory_mb: int = Field(0, ge=0)
    heartbeat_seconds: float = Field(2.0, gt=0)
    # A worker without a heartbeat for this long has lost its tasks.
    worker_lease_seconds: float = Field(8.0, gt=0)
    # How often the scheduler looks for what is due.
    sweep_seconds: float = Field(0.1, gt=0)
    # Finished tasks are deleted after this long; 0: never.
    retention_seconds: float = Field(0.0, ge=0)
    # How many messages each list in Redis holds at most: one for each type and priority. SQL has the rest.
    queue_limit: int = Field(50_000, ge=1)
    # How long a fresh task's message may take before the relay looks for it.
    relay_grace_seconds: float = Field(3.0, gt=0)

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """The settings, where a flag that is None counts as not given.

        Raises SettingsError, which names each setting that cannot be used.
        """
        try:
            settings = cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None
        _ = settings.sql_url, settings.redis_url
        if settings.worker_lease_seconds < 2 * settings.heartbeat_seconds:
            raise SettingsError("ATM_WORKER_LEASE_SECONDS must be at least twice ATM_HEARTBEAT_SECONDS")
        return settings

    @property
    def sql_url(self) -> URL:
        """Where SQL is."""
        return parse_sql_dsn(self.mysql_dsn)

    @property
    def redis_url(self) -> str:
        """Where Redis is, as a URL."""
        return parse_redis_addr(self.redis_addr)

    def environment(self, **changes: Any) -> dict[str, str]:
        """The environment variables that give another process these settings, but for `changes`."""
        values = {**self.model_dump(), **changes}
        return {_variable(name): _as_text(value) for name, value in values.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
        for item in error.errors()
    )
