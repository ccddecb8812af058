"""Handlers get what they ask for, and what they return or do wrong is in the task."""

from __future__ import annotations

import pytest
from fix_system import System, eventually

from atm.client import Client
from atm.errors import PreconditionError


def test_a_model_takes_values_of_every_kind(client: Client) -> None:
    task = client.create_task("typed", {"customer": "Ada", "amount": 7, "items": ["a", "b"]})
    done = client.wait_for_task(task.task_id, 30)
    assert done.result_values() == {"customer": "Ada", "amount": 7, "items": ["a", "b"], "note": None}


def test_a_payload_that_does_not_fit_fails_at_once_with_the_field(client: Client) -> None:
    done = client.wait_for_task(
        client.create_task("typed", {"customer": "Ada", "amount": "many"}).task_id, 10
    )
    assert (done.status, done.error_reason, done.attempt) == ("FAILED", "INVALID_PAYLOAD", 1)
    assert "amount" in done.error_message


@pytest.mark.parametrize("kind", ["set", "big"])
def test_a_result_that_cannot_be_kept_fails_at_once(client: Client, kind: str) -> None:
    done = client.wait_for_task(client.create_task("bad_result", {"kind": kind}).task_id, 30)
    assert (done.status, done.error_reason, done.attempt) == ("FAILED", "INVALID_RESULT", 1)


def test_an_isolated_handler_runs_in_a_process_of_its_own_and_can_speak(client: Client) -> None:
    done = client.wait_for_task(client.create_task("isolated").task_id, 30)
    assert done.status == "SUCCESS", done
    assert done.result["pid"] != done.result["parent"]
    assert done.progress_message == "on my own"
    assert "isolated" in [row.message for row in client.get_task_logs(done.task_id)]


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("raise", "HANDLER_ERROR", "ValueError: isolated failure"),
        ("for_good", "HANDLER_ERROR", "isolated, for good"),
        ("exit", "WORKER_LOST", "exit code 7"),
        ("signal", "WORKER_LOST", "signal 9"),
    ],
)
def test_an_isolated_handler_that_dies_takes_nobody_with_it(
    client: Client, how: str, reason: str, words: str
) -> None:
    done = client.wait_for_task(client.create_task("isolated_fails", {"how": how}).task_id, 30)
    assert (done.status, done.error_reason) == ("FAILED", reason)
    assert words in done.error_message


def test_an_exit_of_an_async_handler_hurts_none_beside_it(system: System, client: Client) -> None:
    beside = client.create_task("on_the_loop", {"until": "all have exited"})
    eventually(lambda: system.marks(beside.task_id))
    for how, words in (("task", "SystemExit: 2"), ("callback", "SystemExit: 2"), ("stop", "loop.stop()")):
        done = client.wait_for_task(client.create_task("exits_on_the_loop", {"how": how}).task_id, 30)
        assert (done.status, done.error_reason, done.attempt) == ("FAILED", "HANDLER_ERROR", 1)
        assert words in done.error_message
    system.let_go("all have exited")
    assert client.wait_for_task(beside.task_id, 30).status == "SUCCESS"


def test_an_async_handler_that_holds_up_the_others_is_told_while_it_does(
    system: System, client: Client
) -> None:
    task_id = client.create_task("on_the_loop", {"until": "it was told", "blocks": "yes"}).task_id

    def told() -> list[str]:
        return [row.message for row in client.get_task_logs(task_id) if "holds up all" in row.message]

    (line,) = eventually(told)
    assert "sample_handlers.py:" in line
    assert ", on_the_loop: " in line
    system.let_go("it was told")
    assert client.wait_for_task(task_id, 30).status == "SUCCESS"


def test_the_built_in_example_tells_how_far_it_is(client: Client) -> None:
    seen: list[float] = []
    task = client.create_task("example_task", {"name": "Ada"})
    done = client.wait_for_task(task.task_id, 20, lambda state: seen.append(state.progress))
    assert done.status == "SUCCESS"
    assert any(0 < progress < 1 for progress in seen)


def test_http_request_refuses_what_only_its_worker_can_reach(client: Client) -> None:
    done = client.wait_for_task(
        client.create_task("http_request", {"url": "http://127.0.0.1:1/"}).task_id, 20
    )
    assert (done.status, done.attempt) == ("FAILED", 1)
    assert "not public" in done.error_message


def test_a_type_that_nobody_has_announced_is_refused(client: Client) -> None:
    with pytest.raises(PreconditionError, match="did you mean echo"):
        client.create_task("ecoh")


def test_an_accepted_type_waits_for_a_worker_that_has_its_handler(new_system: System) -> None:
    new_system.start_server("--accept-unknown-types")
    new_system.start_worker()
    client = new_system.client()
    waits = client.create_task("print_everything").task_id
    after = client.create_task("echo").task_id
    assert client.wait_for_task(after, 60).status == "SUCCESS"
    assert (client.get_task(waits).status, client.get_task(waits).attempt) == ("PENDING", 0)
    new_system.start_worker(environment={"ATM_HANDLERS": "printing_handlers"})
    assert client.wait_for_task(waits, 60).attempt == 1
    new_system.check_history()


def test_the_registry_shows_a_worker_and_forgets_it_when_it_leaves(new_system: System) -> None:
    new_system.start_server()
    process = new_system.start_worker(threads=3)
    client = new_system.client()
    worker = client.list_workers()[0]
    assert (worker.capacity, worker.load, worker.status) == (3, 0, "RUNNING")
    assert {"echo", "example_task", "http_request"} <= set(worker.task_types)
    assert worker.started_at is not None
    eventually(lambda: client.list_workers()[0].last_heartbeat_at != worker.last_heartbeat_at)
    assert process.terminate() == 0
    assert client.list_workers() == []


def test_handlers_that_cannot_be_imported_end_the_worker_with_one_line(new_system: System) -> None:
    worker = new_system.start_worker(environment={"ATM_HANDLERS": "no_such_module"}, wait=False)
    assert worker.popen.wait(60) != 0
    said = worker.output()
    assert "atm worker: ATM_HANDLERS: there is no module 'no_such_module'" in said
    assert "Traceback" not in said
