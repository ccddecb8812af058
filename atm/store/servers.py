"""Statements on `server` and `leader`: which servers there are, and which one leads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from atm.models import Leader, Server

SERVER = Server.__table__  # type: ignore[attr-defined]
LEADER = Leader.__table__  # type: ignore[attr-defined]
#: The one row of `leader`.
_NAME = "scheduler"


def register(connection: Connection, server: Server) -> None:
    """Adds a server that has just started."""
    connection.execute(insert(SERVER), server.model_dump())


#: What a heartbeat says of a server.
_SAID = ("status", "last_heartbeat_at", "clock_ahead_ms", "redis_fault")


def beat(connection: Connection, server: Server) -> bool:
    """Records a sign of life; False when the server is not in the registry any more."""
    values = {name: getattr(server, name) for name in _SAID}
    mine = SERVER.c.instance_id == server.instance_id
    return connection.execute(update(SERVER).where(mine).values(values)).rowcount == 1


def remove(connection: Connection, instance_id: str) -> None:
    """Takes a server out."""
    connection.execute(delete(SERVER).where(SERVER.c.instance_id == instance_id))


def remove_unheard(connection: Connection, since: datetime) -> int:
    """Takes those out that gave no sign of life since this moment; how many they were."""
    return connection.execute(delete(SERVER).where(SERVER.c.last_heartbeat_at < since)).rowcount


def all_servers(connection: Connection) -> Sequence[Server]:
    """Every server, by its id."""
    rows = connection.execute(select(SERVER).order_by(SERVER.c.server_id, SERVER.c.started_at)).mappings()
    return [Server(**row) for row in rows]


def leader(connection: Connection) -> Leader:
    """Who took the lead last."""
    row = connection.execute(select(LEADER).where(LEADER.c.name == _NAME)).mappings().one()
    return Leader(**row)


def take_lead(connection: Connection, taken: Leader) -> bool:
    """Makes a server the leader; False when another one took the lead since the epoch before."""
    values = taken.model_dump(exclude={"name"})
    before = (LEADER.c.name == _NAME) & (LEADER.c.epoch == taken.epoch - 1)
    return connection.execute(update(LEADER).where(before).values(values)).rowcount == 1


def renew_lead(
    connection: Connection, instance_id: str, epoch: int, until: datetime, *, without_redis: bool
) -> bool:
    """Has a leader lead on until this moment; False when another one took the lead meanwhile."""
    still = (LEADER.c.name == _NAME) & (LEADER.c.epoch == epoch) & (LEADER.c.instance_id == instance_id)
    values = {"leads_until": until, "without_redis": without_redis}
    return connection.execute(update(LEADER).where(still).values(values)).rowcount == 1
