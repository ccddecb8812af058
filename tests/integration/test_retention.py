"""What ended long ago is deleted, with its history, when that is wanted; nothing else is."""

from __future__ import annotations

from fix_system import System, eventually
from sqlalchemy import func, select

from atm.errors import TaskNotFoundError
from atm.store.logs import LOG


def _is_gone(system: System, task_id: str) -> bool:
    try:
        system.client().get_task(task_id)
    except TaskNotFoundError:
        return True
    return False


def test_what_has_ended_is_deleted_after_its_time_with_its_history(new_system: System) -> None:
    new_system.start_server(environment={"ATM_RETENTION_SECONDS": "1"})
    new_system.start_worker()
    client = new_system.client()
    ended = [client.create_task("echo").task_id for _ in range(10)]
    waits = client.create_task("echo", delay=600).task_id
    runs = client.create_task("slow", {"seconds": "30"}).task_id
    for task_id in ended:
        client.wait_for_task(task_id, 30)
    eventually(lambda: all(_is_gone(new_system, task_id) for task_id in ended))
    assert client.get_task(waits).status == "PENDING"
    assert client.get_task(runs).status == "PROCESSING"
    left = select(func.count()).select_from(LOG).where(LOG.c.task_id.in_(ended))
    assert new_system.database.read(lambda connection: connection.execute(left).scalar_one()) == 0
    client.cancel_task(runs)
