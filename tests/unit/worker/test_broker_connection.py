"""What becomes of Redis's errors, and of what it publishes."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from fake_worker import Clock

from atm.broker import connection as module
from atm.broker import keys
from atm.broker.cancel_flags import CancelFlags
from atm.broker.connection import (
    CONNECT_SECONDS,
    PAUSE_SECONDS,
    CircuitBreaker,
    Subscription,
    connect,
    translated,
)
from atm.broker.keys import FetchKeys
from atm.broker.notifications import NotificationListener
from atm.errors import BrokerUnavailableError, UnavailableError
from atm.lists import TaskList

# -- errors --------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("gone"),
        redis.TimeoutError("slow"),
        redis.exceptions.ReadOnlyError("a replica"),
        redis.exceptions.NoScriptError("unknown"),
        redis.exceptions.OutOfMemoryError("full"),
        redis.exceptions.NoPermissionError("no rights"),
        redis.exceptions.BusyLoadingError("loading"),
        redis.exceptions.MasterDownError("no master"),
        redis.sentinel.MasterNotFoundError("no master"),
        redis.RedisError("anything"),
    ],
)
def test_every_error_of_redis_leaves_as_one_that_says_when_to_come_again(error: redis.RedisError) -> None:
    @translated
    def call() -> None:
        raise error

    with pytest.raises(BrokerUnavailableError) as raised:
        call()
    assert raised.value.__cause__ is error
    assert raised.value.retry_after == PAUSE_SECONDS
    assert str(error) in str(raised.value)
    assert isinstance(raised.value, UnavailableError)


def test_a_defect_is_not_taken_for_an_outage() -> None:
    @translated
    def call(divisor: int) -> float:
        return 1 / divisor

    assert call(2) == 0.5
    assert call.__name__ == "call"
    with pytest.raises(ZeroDivisionError):
        call(0)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0",
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster/0",
        "redis+cluster://127.0.0.1:1,127.0.0.1:2",
    ],
)
def test_a_redis_that_is_not_there_is_noticed_when_it_is_used_and_not_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(redis.retry, "sleep", waits.append)
    client = connect(url, "atm")
    with pytest.raises(BrokerUnavailableError):
        translated(client.ping)()
    client.close()
    assert sum(waits) < CONNECT_SECONDS


# -- the circuit breaker ---------------------------------------------------------


class _Redis:
    def __init__(self) -> None:
        self.is_away = False
        self.calls = 0

    def work(self) -> str:
        self.calls += 1
        if self.is_away:
            raise BrokerUnavailableError("Redis is away")
        return "done"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, module)


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("trying again", pause=5.0)


def test_a_redis_that_failed_is_left_alone_for_a_while(breaker: CircuitBreaker, clock: Clock) -> None:
    server = _Redis()
    assert breaker.call(server.work) == "done"
    server.is_away = True
    for _ in range(10):
        with pytest.raises(BrokerUnavailableError):
            breaker.call(server.work)
    assert server.calls == 2
    server.is_away = False
    clock.now += 4.9
    with pytest.raises(BrokerUnavailableError) as raised:
        breaker.call(server.work)
    assert raised.value.retry_after == 5.0
    clock.now += 0.1
    assert breaker.call(server.work) == "done"


def test_an_outage_is_told_when_it_begins_and_when_it_ends(
    breaker: CircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = _Redis()
    for is_away in (False, True, True, True, False, False, True):
        server.is_away = is_away
        clock.now += 5
        try:
            breaker.call(server.work)
        except BrokerUnavailableError:
            assert is_away
    away, back = "Redis is away; trying again", "Redis is back"
    assert caplog.messages == [away, back, away]


def test_a_defect_does_not_open_it(breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    assert breaker.call(lambda: "done") == "done"
    assert not caplog.records


def test_who_insists_is_served_when_redis_is_back() -> None:
    server = _Redis()
    server.is_away = True
    tried = threading.Event()

    def work() -> str:
        try:
            return server.work()
        finally:
            tried.set()

    with ThreadPoolExecutor(1) as pool:
        insisting = pool.submit(CircuitBreaker("", pause=0.001).insist, threading.Event(), work)
        assert tried.wait(60)
        server.is_away = False
        assert insisting.result(60) == "done"


def test_who_insists_gives_up_when_the_process_leaves() -> None:
    server, leaving, tried = _Redis(), threading.Event(), threading.Event()
    server.is_away = True

    def work() -> str:
        tried.set()
        return server.work()

    with ThreadPoolExecutor(1) as pool:
        insisting = pool.submit(CircuitBreaker("", pause=600).insist, leaving, work)
        assert tried.wait(60)
        leaving.set()
        assert insisting.result(60) is None


# -- what is published -----------------------------------------------------------


class _PubSub:
    """What redis-py gives to who listens."""

    def __init__(self, server: _Channel) -> None:
        self._server = server
        self.is_closed = False

    def subscribe(self, channel: str) -> None:
        self._server.answer()
        self._server.subscribed.append(channel)

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        self._server.answer()
        return {"data": self._server.published.pop(0)} if self._server.published else None

    def close(self) -> None:
        self.is_closed = True
        self._server.answer()


class _Channel:
    """A client of a Redis on which this was published."""

    def __init__(self, *published: Any) -> None:
        self.published = list(published)
        self.subscribed: list[str] = []
        self.subscriptions: list[_PubSub] = []
        self.is_away = False

    def pubsub(self, ignore_subscribe_messages: bool) -> _PubSub:
        assert ignore_subscribe_messages
        self.subscriptions.append(_PubSub(self))
        return self.subscriptions[-1]

    def answer(self) -> None:
        if self.is_away:
            raise redis.ConnectionError("away")


def _client(channel: _Channel) -> redis.Redis:
    return cast(redis.Redis, channel)


def test_bytes_that_are_no_text_do_no_harm() -> None:
    channel = _Channel(b"\xff\xfe", b"a task", memoryview(b"another"), b"")
    subscription = Subscription(_client(channel), "channel")
    assert [subscription.next(0) for _ in range(5)] == ["\ufffd\ufffd", "a task", "another", "", None]
    assert channel.subscribed == ["channel"]


def test_after_an_outage_it_subscribes_again() -> None:
    channel = _Channel(b"before")
    subscription = Subscription(_client(channel), "channel")
    assert not channel.subscribed, "only when it is read"
    assert subscription.next(0) == "before"
    channel.is_away = True
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError):
            subscription.next(0)
    channel.is_away = False
    channel.published.append(b"after")
    assert subscription.next(0) == "after"
    assert channel.subscribed == ["channel", "channel"]
    assert [one.is_closed for one in channel.subscriptions] == [True, True, False]
    subscription.close()
    subscription.close()
    assert all(one.is_closed for one in channel.subscriptions)


def test_closing_without_redis_does_not_fail() -> None:
    channel = _Channel()
    subscription = Subscription(_client(channel), "channel")
    subscription.next(0)
    channel.is_away = True
    subscription.close()
    assert channel.subscriptions[0].is_closed


def test_a_notification_names_several_tasks_and_may_be_nonsense() -> None:
    heard: list[list[str]] = []
    channel = _Channel(b"one two", b"\xff", b"", b" ")
    listener = NotificationListener(_client(channel), "p", heard.append)
    for _ in range(5):
        listener.run_once()
    assert heard == [["one", "two"], ["\ufffd"], [], []]
    assert channel.subscribed == [keys.ended_channel("p")]
    listener.close()


def test_a_flag_says_who_asked_whatever_the_bytes() -> None:
    values = [b"ann", None, b"\xff", "text", b""]
    client = SimpleNamespace(hmget=lambda name, ids: values)
    flags = CancelFlags(cast(redis.Redis, client), "p")
    assert flags.of(["a", "b", "c", "d", "e"]) == {"a": "ann", "c": "\ufffd", "d": "text", "e": ""}
    assert flags.of([]) == {}


# -- keys ------------------------------------------------------------------------


A_HIGH, A, B = TaskList("a", 1), TaskList("a", 0), TaskList("b", 0)


def test_the_keys_of_a_fetch_are_those_of_the_single_functions() -> None:
    made = FetchKeys("p", "me", [A, A_HIGH, B])
    held = [f("p") for f in (keys.consumers, keys.messages, keys.fetched, keys.cancelled)]
    held.append(keys.given("p", "me"))
    wakes = [keys.wake("p", of) for of in (A, A_HIGH, B)]
    assert made.fetch == [*held, *(keys.waiting("p", of) for of in (A_HIGH, A, B)), *wakes]
    assert made.counts == (1, 2)
    assert made.wait == [*wakes, keys.own_wake("p", "me")]


@pytest.mark.parametrize(("prefix", "tag"), [("p", "{p}"), ("{p}", "{p}"), ("x{p}y", "x{p}y")])
def test_no_two_keys_are_the_same_and_a_cluster_keeps_them_together(prefix: str, tag: str) -> None:
    made = [
        *(keys.waiting(prefix, of) for of in (A_HIGH, A, B)),
        *(keys.wake(prefix, of) for of in (A_HIGH, A, B)),
        keys.given(prefix, "me"),
        *(f(prefix) for f in (keys.consumers, keys.messages, keys.fetched, keys.cancelled)),
        *(f(prefix) for f in (keys.cancelled_until, keys.full, keys.marker, keys.probe)),
        keys.own_wake(prefix, "me"),
    ]
    assert len(set(made)) == len(made)
    assert all(key.startswith(f"{tag}:") for key in made)
    assert keys.cancel_channel(prefix) != keys.ended_channel(prefix)


@pytest.mark.parametrize(("priority", "queue"), [(0, "normal"), (1, "high")])
def test_each_priority_has_its_queue_and_its_actor(priority: int, queue: str) -> None:
    assert keys.queue_of(priority) == queue
    assert keys.actor_of(queue) == f"run_{queue}"
