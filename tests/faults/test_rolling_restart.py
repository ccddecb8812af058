"""Every worker and every server is replaced under load: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import threading

from fix_system import System, eventually

from atm.client import Client
from atm.errors import ServiceError


def test_a_rolling_restart_loses_nothing_and_repeats_nothing(new_system: System) -> None:
    servers = [new_system.start_server("--id", "a"), new_system.start_server("--id", "b")]
    addresses = [server.address for server in servers]
    workers = [new_system.start_worker(), new_system.start_worker()]
    stopping = threading.Event()
    ids: list[str] = []

    def load(number: int) -> None:
        n = number
        while not stopping.wait(0.04):
            try:
                with Client(addresses[n % len(addresses)]) as client:
                    while not stopping.wait(0.04):
                        seconds = "0.3" if n % 5 == 0 else "0"
                        ids.append(client.create_task("slow", {"seconds": seconds}, deadline=10).task_id)
                        n += 1
            except ServiceError:
                n += 1  # that one stops: the next one, as a load balancer would

    threads = [threading.Thread(target=load, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(ids) >= 20, what="no tasks are created")
        for worker in workers:
            assert worker.terminate() == 0
            new_system.start_worker()
        for server in servers:
            addresses.remove(server.address)
            assert server.terminate() == 0
            addresses.append(new_system.start_server().address)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(30)
    client = new_system.client()
    done = [client.wait_for_task(task_id, 30) for task_id in ids]
    assert {(task.status, task.attempt) for task in done} == {("SUCCESS", 1)}
    assert all(new_system.marks(task_id) == ["attempt 1"] for task_id in ids)
    eventually(lambda: len(client.list_workers()) == 2)
    new_system.check_history()
