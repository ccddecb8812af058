"""Both clients over one in-memory service: a promise of the client is one of each."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fake_task_service import FakeTaskService, serving

from atm.client import AsyncClient, Client


class Awaited:
    """An AsyncClient whose coroutines are run to their end, so that one test does for both clients."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))


@pytest.fixture
def service() -> FakeTaskService:
    return FakeTaskService()


@pytest.fixture
def address(service: FakeTaskService) -> Iterator[str]:
    with serving(service) as bound:
        yield bound


@pytest.fixture(params=["sync", "aio"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A function that makes a client of either kind; all of them are closed afterwards."""
    made: list[Any] = []
    loop = asyncio.new_event_loop()

    def make(address: str, **options: Any) -> Any:
        if request.param == "sync":
            client: Any = Client(address, **options)
        else:
            client = Awaited(AsyncClient(address, **options), loop)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
    loop.close()


@pytest.fixture
def client(make_client: Any, address: str) -> Any:
    return make_client(address)
