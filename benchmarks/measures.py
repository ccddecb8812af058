"""What is measured of ATM. Each function takes an installation and gives figures by name."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import psutil
from fix_system import Process, eventually

from atm.client import Client
from benchmarks.handlers import read_starts
from benchmarks.installation import Atm, Installation, load

Figures = dict[str, float]


def calls(installation: Installation, seconds: float = 4.0) -> Figures:
    """CreateTask and GetTask at 64 in flight, beside the empty handler in the same minute."""
    address, empty = installation.empty_server()
    floor = load("create", address, seconds=seconds)
    floor_get = load("get", address, seconds=seconds)
    empty.kill()
    atm = Atm(installation)
    try:
        atm.start_server()
        create = load("create", atm.address, seconds=seconds)
        alone = load("create", atm.address, seconds=seconds / 2, in_flight=1)
        batch = load("batch", atm.address, seconds=seconds, in_flight=4)
        task_id = Client(atm.address).create_task("bench").task_id
        get = load("get", atm.address, seconds=seconds, task_id=task_id)
    finally:
        atm.stop()
    return {
        "empty handler, calls/s": floor["per_second"],
        "CreateTask/s": create["per_second"],
        "CreateTask p50, ms": create["p50_ms"],
        "CreateTask / empty": create["per_second"] / floor["per_second"],
        "CreateTask alone p50, ms": alone["p50_ms"],
        "BatchCreateTasks, tasks/s": batch["per_second"] * 100,
        "BatchCreateTasks / single": batch["per_second"] * 100 / create["per_second"],
        "GetTask/s": get["per_second"],
        "GetTask / empty": get["per_second"] / floor_get["per_second"],
    }


def drained(installation: Installation, processes: int = 1, tasks: int = 10_000) -> Figures:
    """Tasks that wait, drained by worker processes of 8 threads: everything committed."""
    atm = Atm(installation)
    try:
        server = atm.start_server()
        _create(atm, tasks)
        # The server has nothing to do any more; its sweeps go on.
        assert server.popen.poll() is None
        atm.start_worker(threads=8, processes=processes, wait=False)
        eventually(lambda: atm.count(status="SUCCESS") == tasks, 300)
        ended = atm.newest("completed_at").timestamp()
        starts = read_starts(atm.starts)
    finally:
        atm.stop()
    assert len(starts) == tasks
    return {f"drained/s, {processes} process{'es' * (processes > 1)}": tasks / (ended - starts[0])}


def _create(atm: Atm, tasks: int) -> None:
    """Creates them by the batch."""
    with Client(atm.address) as client:
        for start in range(0, tasks, 1000):
            client.create_tasks([{"task_type": "bench", "payload": {"n": "1"}}] * min(1000, tasks - start))


def idle(installation: Installation, tasks: int = 60) -> Figures:
    """From the call of CreateTask to the handler's start, and to its being told of a cancellation."""
    atm = Atm(installation)
    try:
        atm.start_server()
        worker = atm.start_worker(threads=8)
        dispatch = []
        with Client(atm.address) as client:
            client.wait_for_task(client.create_task("bench").task_id, 10)
            for number in range(tasks):
                time.sleep(0.1 + number % 7 / 50)
                before = len(read_starts(atm.starts))
                began = time.time()
                client.create_task("bench", {"n": "1"})
                dispatch.append(eventually(lambda n=before: read_starts(atm.starts)[n:], 10)[0] - began)
            cancel = [_cancelled_after(atm, client) for _ in range(tasks // 2)]
            waited = [_told_after(client) for _ in range(tasks // 2)]
        assert worker.popen.poll() is None
    finally:
        atm.stop()
    return {
        "call to start p50, ms": percentile(dispatch, 0.5) * 1000,
        "call to start p99, ms": percentile(dispatch, 0.99) * 1000,
        "cancel to told p99, ms": percentile(cancel, 0.99) * 1000,
        "end to waiting client p99, ms": percentile(waited, 0.99) * 1000,
    }


def _cancelled_after(atm: Atm, client: Client) -> float:
    task = client.create_task("bench_wait")
    eventually(lambda: client.get_task(task.task_id).status == "PROCESSING", 10)
    time.sleep(0.02)
    before = len(read_starts(atm.starts))
    began = time.time()
    client.cancel_task(task.task_id)
    return float(eventually(lambda: read_starts(atm.starts)[before:], 10)[0] - began)


def _told_after(client: Client) -> float:
    task = client.create_task("bench", delay=0.3)
    done = client.wait_for_task(task.task_id, 10)
    assert done.completed_at is not None
    return time.time() - done.completed_at.timestamp()


def footprint(installation: Installation, seconds: float = 20.0) -> Figures:
    """An idle installation: one server and two worker processes."""
    atm = Atm(installation)
    try:
        server = atm.start_server()
        worker = atm.start_worker(threads=8, processes=2)
        time.sleep(5)
        began = atm.redis.info("stats")["total_commands_processed"]
        time.sleep(seconds)
        commands = (atm.redis.info("stats")["total_commands_processed"] - began) / seconds
        children = _workers(worker)
        memory = [psutil.Process(worker_pid).memory_info().rss for worker_pid in children]
        return {
            "Redis commands/s, idle": commands,
            "memory of an idle server, MB": psutil.Process(server.pid).memory_info().rss / 1e6,
            "memory of an idle worker process, MB": max(memory) / 1e6,
        }
    finally:
        atm.stop()


def _workers(worker: Process) -> list[int]:
    found = []
    for child in psutil.Process(worker.pid).children():
        with suppress(psutil.Error):
            # Those with threads are workers; others are forks with one purpose.
            if child.num_threads() > 4:
                found.append(child.pid)
    return found


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


MEASURES: dict[str, Any] = {"calls": calls, "drained": drained, "idle": idle, "footprint": footprint}
