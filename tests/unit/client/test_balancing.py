"""Where a target has several addresses, calls go to all of the servers there, and to those that are left."""

from __future__ import annotations

from typing import Any

from fake_task_service import FakeTaskService, serving


def test_calls_are_spread_over_all_servers_and_over_those_that_are_left(make_client: Any) -> None:
    services = [FakeTaskService(), FakeTaskService()]
    with serving(services[0]) as first:
        with serving(services[1]) as second:
            client = make_client(f"ipv4:{first},{second}")
            # Until both are connected, all calls go to one.
            for _ in range(1000):
                client.create_task("send")
                if all(service.tasks for service in services):
                    break
            before = [len(service.tasks) for service in services]
            for _ in range(100):
                client.create_task("send")
            assert [len(service.tasks) - was for service, was in zip(services, before, strict=True)] == [
                50,
                50,
            ]
        made = {client.create_task("send").task_id for _ in range(10)}
        assert made <= set(services[0].tasks)


def test_without_retries_calls_are_spread_as_well(make_client: Any) -> None:
    services = [FakeTaskService(), FakeTaskService()]
    with serving(services[0]) as first, serving(services[1]) as second:
        client = make_client(f"ipv4:{first},{second}", retries=False)
        for _ in range(1000):
            client.create_task("send")
            if all(service.tasks for service in services):
                return
    raise AssertionError("one server got every call")
