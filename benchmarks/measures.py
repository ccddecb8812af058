"""What is measured of ATM. Each function takes an installation and gives figures by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC

import psutil
from fill import fill
from fix_system import Process, eventually

from atm.client import Client
from atm.service.validation import Listing
from benchmarks.handlers import read_starts
from benchmarks.installation import Atm, Installation, load

Figures = dict[str, float]


def calls(installation: Installation, seconds: float = 3.0) -> Figures:
    """CreateTask and GetTask at 64 in flight, beside the empty handler in the same minute."""
    address, empty = installation.empty_server()
    uv_address, uv_empty = installation.empty_server("--uvloop")
    atm = Atm(installation)
    try:
        server = atm.start_server()
        watched = {
            "server": [server.pid],
            "MariaDB": [installation.mariadb.pid],
            "Valkey": [installation.valkey.pid],
        }

        def floor(call: str) -> float:
            return load(call, address, seconds=seconds)["per_second"]

        # Before and after what is compared with it: the machine is not always as fast.
        empties = [floor("create")]
        before, created = _cpu(watched), atm.count()
        create = load("create", atm.address, seconds=seconds)
        created = atm.count() - created
        used = {name: spent - before[name] for name, spent in _cpu(watched).items()}
        empties.append(floor("create"))
        uv_floor = load("create", uv_address, seconds=seconds)
        alone = load("create", atm.address, seconds=seconds / 2, in_flight=1)
        batch = load("batch", atm.address, seconds=seconds, in_flight=4)
        task_id = Client(atm.address).create_task("bench").task_id
        get_empties = [floor("get")]
        get = load("get", atm.address, seconds=seconds, task_id=task_id)
        get_empties.append(floor("get"))
    finally:
        atm.stop()
        empty.kill()
        uv_empty.kill()
    best, best_get = sum(empties) / 2, sum(get_empties) / 2
    return {
        "empty handler, calls/s": best,
        "empty handler on uvloop, calls/s": uv_floor["per_second"],
        "CreateTask/s": create["per_second"],
        "CreateTask p50, ms": create["p50_ms"],
        "CreateTask / empty": create["per_second"] / best,
        "CreateTask / empty on uvloop": create["per_second"] / uv_floor["per_second"],
        "CreateTask alone p50, ms": alone["p50_ms"],
        "BatchCreateTasks, tasks/s": batch["per_second"] * 100,
        "BatchCreateTasks / single": batch["per_second"] * 100 / create["per_second"],
        "GetTask/s": get["per_second"],
        "GetTask / empty": get["per_second"] / best_get,
    } | {f"CPU to create one, {name}, µs": spent / created * 1e6 for name, spent in used.items()}


def drained(installation: Installation, tasks: int = 12_000) -> Figures:
    """Tasks that wait, drained by one and by two worker processes of 8 threads: everything committed."""
    one, steady, used = drain(installation, 1, tasks)
    two, steady_two, _ = drain(installation, 2, tasks)
    return {
        "drained/s, 1 process": one,
        "drained/s, 2 processes": two,
        # Without the first quarter, in which the second process may still be starting.
        "drained/s, 1 process, started": steady,
        "drained/s, 2 processes, started": steady_two,
    } | {f"CPU to drain one, {name}, µs": seconds / tasks * 1e6 for name, seconds in used.items()}


def _cpu(processes: dict[str, list[int]]) -> dict[str, float]:
    """Seconds of CPU that these have used, children that live included."""
    used = {}
    for name, pids in processes.items():
        family = [p for pid in pids for p in (psutil.Process(pid), *psutil.Process(pid).children(True))]
        used[name] = sum(sum(process.cpu_times()[:2]) for process in family)
    return used


def drain(
    installation: Installation,
    processes: int,
    tasks: int,
    task_type: str = "bench",
    *,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float, dict[str, float]]:
    """Tasks drained per second, of all and of the last three quarters, and the CPU that it took.

    `before` is called when they are there and no worker is.
    """
    atm = Atm(installation)
    try:
        atm.start_server()
        _create(atm, tasks, task_type)
        before()
        worker = atm.start_worker(threads=8, processes=processes, wait=False)
        eventually(lambda: atm.starts.exists() and atm.starts.stat().st_size > 0, 30)
        watched = {"worker": [worker.pid], "MariaDB": [installation.mariadb.pid]}
        if installation.valkey.runs:
            watched["Valkey"] = [installation.valkey.pid]
        spent = _cpu(watched)
        eventually(lambda: atm.starts.stat().st_size == 8 * tasks, 300)
        eventually(lambda: atm.count(status="SUCCESS") == tasks, 30)
        ended = atm.newest("completed_at").replace(tzinfo=UTC).timestamp()
        used = {name: seconds - spent[name] for name, seconds in _cpu(watched).items()}
        starts = read_starts(atm.starts)
        return tasks / (ended - starts[0]), tasks * 0.75 / (ended - starts[tasks // 4]), used
    finally:
        atm.stop()


def _create(atm: Atm, tasks: int, task_type: str) -> None:
    """Creates them by the batch."""
    with Client(atm.address) as client:
        for start in range(0, tasks, 1000):
            client.create_tasks([{"task_type": task_type, "payload": {"n": "1"}}] * min(1000, tasks - start))


def idle(installation: Installation, tasks: int = 50) -> Figures:
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
        "call to start p95, ms": percentile(dispatch, 0.95) * 1000,
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


def footprint(installation: Installation, seconds: float = 15.0) -> Figures:
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


def growth(installation: Installation, seconds: float = 3.0) -> Figures:
    """CreateTask with more calls in flight, larger payloads, and more server processes."""
    figures: Figures = {}
    atm = Atm(installation)
    try:
        atm.start_server()
        for in_flight in (1, 8, 64, 256):
            found = load("create", atm.address, seconds=seconds, in_flight=in_flight)
            figures[f"CreateTask/s, {in_flight} in flight"] = found["per_second"]
            figures[f"CreateTask p50, {in_flight} in flight, ms"] = found["p50_ms"]
        for kilobytes in (1, 10, 100):
            found = load("create", atm.address, seconds=seconds, payload=kilobytes * 1000)
            figures[f"CreateTask/s, payload of {kilobytes} KB"] = found["per_second"]
    finally:
        atm.stop()
    atm = Atm(installation)
    try:
        atm.start_server("--processes", "2")
        eventually(lambda: len(Client(atm.address).list_servers()) == 2, 20)
        found = load("create", atm.address, seconds=seconds, channels=8)
        figures["CreateTask/s, 2 server processes"] = found["per_second"]
    finally:
        atm.stop()
    for processes in (1, 2):
        # Work that leaves the cores free: what more processes bring where there are more.
        _, steady, _ = drain(installation, processes, 4000, "bench_10ms")
        figures[f"drained/s, handlers of 10 ms, processes: {processes}"] = steady
    return figures


def rows(installation: Installation, millions: int = 10) -> Figures:
    """Lists, creation and draining with a table that grows; the history of ended tasks is in it, too."""
    figures: Figures = {}
    atm = Atm(installation)
    try:
        atm.start_server()
        filled = 0
        for wanted in sorted({0, min(1, millions), millions}):
            fill(atm.database, (wanted - filled) * 1_000_000, first=filled * 1_000_000 + 1)
            filled = wanted
            created = load("create", atm.address, seconds=3)
            figures[f"CreateTask/s, {wanted} million rows"] = created["per_second"]
            figures[f"CreateTask p50, {wanted} million rows, ms"] = created["p50_ms"]
        # Counted once, by the first who asks for the first page.
        with Client(atm.address) as client:
            client.list_tasks(deadline=120)
            newest = client.list_tasks(page_size=1, deadline=120)
        first = load("list", atm.address, seconds=3, in_flight=1)
        token = Listing(page_size=20).token(_id_of(filled * 500_000) if filled else newest.tasks[0].task_id)
        far = load("list", atm.address, seconds=3, in_flight=1, page_token=token)
    finally:
        atm.stop()
    figures["first page p50, ms"] = first["p50_ms"]
    figures["page far in p50, ms"] = far["p50_ms"]
    return figures


def _id_of(number: int) -> str:
    """The id that `fill` gives to a task."""
    return f"01900000-{number // 65536:04X}-7000-8000-{number:012x}"


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
