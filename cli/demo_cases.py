"""The eight cases of the demo, each with what it checks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from atm.states import TRANSITIONS, LogType, Status, WorkerStatus
from atm_cli.demo_run import TASK_TYPE, CaseFailed, DemoRun, require
from atm_cli.waiting import progress_bar

if TYPE_CHECKING:
    from atm.client import Task, TaskLog

BATCH_SIZE = 5
#: How long a cancelled task may take to stop, in seconds.
CANCEL_SECONDS = 10.0
#: How long the counts may lag behind, in seconds.
COUNT_SECONDS = 5.0
_PAGE_SIZE = 100
_MAX_PAGES = 50

#: Every move that a history may show, "" being the state before the first.
MOVES: dict[str, frozenset[Status]] = {
    "": frozenset({Status.PENDING}),
    **{str(status): moves for status, moves in TRANSITIONS.items()},
}


def normal_task(demo: DemoRun) -> None:
    """A task of normal priority is accepted, runs, and leaves a result."""
    task = demo.create()
    done = demo.wait_for_success(task.task_id)
    for key, value in sorted(done.result.items()):
        demo.say(f"result: {key} = {value}")
    require(bool(done.worker_id), "no worker is named")
    require(done.started_at is not None and done.completed_at is not None, "its times are missing")


def high_task(demo: DemoRun) -> None:
    """A task of high priority is accepted as such, and runs."""
    done = demo.wait_for_success(demo.create(", high priority", high=True).task_id)
    require(done.priority == 1, f"its priority became {done.priority}")


def batch(demo: DemoRun) -> None:
    """Five tasks are handed over one after the other, each with an id of its own."""
    demo.batch = [demo.create(f" ({number} of {BATCH_SIZE})").task_id for number in range(1, BATCH_SIZE + 1)]
    require(len(set(demo.batch)) == BATCH_SIZE, "two of them have the same id")


def batch_states(demo: DemoRun) -> None:
    """All five can be listed and read, and all of them succeed."""
    require(bool(demo.batch), "there is no batch: case 3 made none")
    listed = _listed(demo)
    for task_id in demo.batch:
        task = demo.client.get_task(task_id)
        demo.say(f"{task_id} is", status=task.status)
        require(task_id in listed, f"{task_id} is not in the list of tasks")
    for task_id in demo.batch:
        demo.wait_for_success(task_id)


def cancel(demo: DemoRun) -> None:
    """A task that is cancelled right away ends CANCELLED within seconds."""
    task = demo.create()
    answer = demo.client.cancel_task(task.task_id, requested_by="atm demo")
    demo.say(f"cancel: {answer.message}")
    require(answer.success, f"cancelling was refused: {answer.message}")
    done = demo.client.wait_for_task(task.task_id, CANCEL_SECONDS)
    demo.say(f"{task.task_id} ended:", status=done.status)
    require(done.status == Status.CANCELLED, f"it ended {done.status}")
    demo.cancelled.append(task.task_id)


def history(demo: DemoRun) -> None:
    """The log of a task that succeeded leads from nothing to SUCCESS, by legal moves only."""
    require(bool(demo.succeeded), "there is no task with a history: none has succeeded")
    logs = demo.client.get_task_logs(demo.succeeded[0])
    for row in logs:
        change = f"{row.from_status or '(new)'} → {row.to_status}  " if row.to_status else ""
        demo.say(f"{row.log_type}: {change}{row.message}".rstrip())
    check_path(logs, Status.SUCCESS)


def wait_with_progress(demo: DemoRun) -> None:
    """Waiting for a task tells each change, in order, and ends when the task does."""
    seen: list[Task] = []
    task = demo.create()
    with progress_bar() as show:

        def note(state: Task) -> None:
            seen.append(state)
            show(state)

        done = demo.client.wait_for_task(task.task_id, 60.0, note)
    for state in seen:
        demo.say(f"{state.progress:4.0%} {state.progress_message}".rstrip(), status=state.status)
    require(done.succeeded, f"it ended {done.status}: {done.error_message}")
    demo.succeeded.append(task.task_id)
    require(bool(seen) and seen[-1].is_final, "the last change that was told is not its end")
    require(not any(state.is_final for state in seen[:-1]), "a change was told after its end")


def statistics(demo: DemoRun) -> None:
    """The counts grew by what the demo made, and there are workers."""
    give_up = time.monotonic() + COUNT_SECONDS
    while problem := _count_problem(demo):
        if time.monotonic() > give_up:
            raise CaseFailed(problem)
        time.sleep(0.2)
    now = demo.client.get_statistics()
    for status, count in now.tasks_by_status.items():
        demo.say(f"{count} (+{count - demo.before.tasks_by_status.get(status, 0)})", status=status)
    demo.say(f"{now.workers} workers, {now.load} of {now.capacity} slots busy")
    running = [worker for worker in demo.client.list_workers() if worker.status == WorkerStatus.RUNNING]
    require(bool(running), "no worker is running")


def check_path(logs: list[TaskLog], end: str) -> None:
    """Raises CaseFailed unless the changes of state in `logs` are legal moves from nothing to `end`."""
    state = ""
    for row in logs:
        stays = row.from_status == row.to_status and row.log_type in (LogType.INFO, LogType.ERROR)
        if stays or not row.to_status:
            continue  # a remark, not a change
        require(
            row.from_status == state, f"a row goes on from {row.from_status!r}, but the state was {state!r}"
        )
        legal = row.to_status in MOVES.get(state, frozenset())
        require(legal, f"{state or 'nothing'} → {row.to_status} is no legal move")
        state = row.to_status
    require(state == end, f"the history ends in {state or 'nothing'}, not {end}")


def _listed(demo: DemoRun) -> set[str]:
    """The tasks of the batch that the list shows; newer ones of others may come before them."""
    wanted = set(demo.batch)
    found: set[str] = set()
    for number in range(1, _MAX_PAGES + 1):
        page = demo.client.list_tasks(task_type=TASK_TYPE, page=number, page_size=_PAGE_SIZE)
        found |= wanted & {task.task_id for task in page}
        if found == wanted or number >= page.pages:
            break
    return found


def _count_problem(demo: DemoRun) -> str:
    """What is wrong with the counts; empty if nothing is. Others may add to them as well."""
    before, now = demo.before, demo.client.get_statistics()
    of_type = now.tasks_by_type.get(TASK_TYPE, 0) - before.tasks_by_type.get(TASK_TYPE, 0)
    grown = {
        "tasks": (now.total - before.total, len(demo.made)),
        f"tasks of type {TASK_TYPE}": (of_type, len(demo.made)),
    }
    for status, own in ((Status.SUCCESS, demo.succeeded), (Status.CANCELLED, demo.cancelled)):
        grown[status] = (now.tasks_by_status.get(status, 0) - before.tasks_by_status.get(status, 0), len(own))
    for what, (growth, made) in grown.items():
        if growth < made:
            return f"the count of {what} grew by {growth}, but the demo made {made}"
    return "" if now.workers > 0 else "no worker is counted"


CASES = {
    "A normal task": normal_task,
    "A task of high priority": high_task,
    "A batch of five": batch,
    "The states of the batch": batch_states,
    "Create and cancel": cancel,
    "The history of a task": history,
    "Waiting for a task": wait_with_progress,
    "Statistics": statistics,
}
