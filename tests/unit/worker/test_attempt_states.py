"""An attempt goes the ways that are drawn, whatever threads want of it, and its holder says where it is."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from fake_worker import Clock, attempt_of, claimed, fetched, task_id
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from atm.worker import attempt as module
from atm.worker.attempt import LEFT, STEPS, Attempt, AttemptId, Attempts, State
from atm.worker.claim_ledger import SLOTS, ClaimLedger
from atm.worker.interruption import Interruption, Kind

# -- the drawing --------------------------------------------------------------


def _drawn(text: str) -> set[tuple[State, State]]:
    """The arrows of a drawing: each is followed from its head to the left and up, to where it comes from."""
    rows = text.splitlines()

    def at(row: int, column: int) -> str:
        return rows[row][column] if row >= 0 and 0 <= column < len(rows[row]) else " "

    def name_at(row: int, column: int) -> str:
        for word in re.finditer(r"[A-Z_]+", rows[row] if row >= 0 else ""):
            if word.start() <= column < word.end():
                return word.group()
        return ""

    def sources(row: int, column: int, way: str) -> set[str]:
        if name := name_at(row, column):
            return {name}
        sign = at(row, column)
        found: set[str] = set()
        if way == "left" and sign in "─┴┼ " and (sign != " " or at(row, column + 1) == "─"):
            found |= sources(row, column - 1, "left")
        if sign in "┴┼└├│" and (way == "left" or sign in "│├┼"):
            found |= sources(row - 1, column, "up")
        return found

    arrows = set()
    for row, line in enumerate(rows):
        for head in re.finditer(r"─→ ([A-Z_]+)", line):
            for source in sources(row, head.start(), "left"):
                arrows.add((State[source], State[head.group(1)]))
    return arrows


def test_the_steps_are_those_that_are_drawn_and_told_in_the_module() -> None:
    text = module.__doc__ or ""
    drawing, rest = text.split("\n\n")[1:3]
    told = {(State[one], State[other]) for one, other in re.findall(r"([A-Z_]+)\s→\s([A-Z_]+)", rest)}
    steps = {(one, other) for one, others in STEPS.items() for other in others}
    assert _drawn(drawing) | told == steps
    assert not _drawn(drawing) & told, "told once"


def test_the_steps_are_closed_and_every_state_can_be_reached() -> None:
    assert set(STEPS) == set(State)
    reached = {State.FETCHED}
    while more := {to for state in reached for to in STEPS[state]} - reached:
        reached |= more
    assert reached == set(State)
    assert {State.STORED, State.HANDED_BACK, State.DROPPED} == LEFT
    for state in set(State) - LEFT:
        assert STEPS[state], "it can leave"


# -- the holder, against a model -----------------------------------------------

_HELD = {State.CLAIMED, State.RUNNING, State.ENDING}
_UNBEGUN = {State.FETCHED, State.CLAIMED}


class _Holder(RuleBasedStateMachine):
    """Random steps of random attempts, in the order in which the lock lets threads in."""

    attempts_made = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = ClaimLedger()
        self.attempts = Attempts(self.ledger)
        self.state: dict[Attempt, State] = {}
        self.ready: list[Attempt] = []
        self.out: list[Attempt] = []
        self.prepared: set[Attempt] = set()

    @rule(target=attempts_made, count=st.integers(1, 5), number=st.integers(1, 3))
    def fetch(self, count: int, number: int) -> object:
        made = [attempt_of(fetched(task_id(), number)) for _ in range(count)]
        assert self.attempts.add(made) == made
        self.state |= dict.fromkeys(made, State.FETCHED)
        self.ready += made
        return multiple(*made)

    @rule(target=attempts_made, attempt=attempts_made)
    def fetch_again(self, attempt: Attempt) -> object:
        again = attempt_of(fetched(*attempt.id))
        is_here = any(other.id == attempt.id and state not in LEFT for other, state in self.state.items())
        assert self.attempts.add([again]) == ([] if is_here else [again])
        if is_here:
            return multiple()
        self.state[again] = State.FETCHED
        self.ready.append(again)
        return again

    @rule(attempt=attempts_made, to=st.sampled_from(State))
    def step(self, attempt: Attempt, to: State) -> None:
        legal = to in STEPS[self.state[attempt]]
        assert self.attempts.step(attempt, to) is legal
        if legal:
            self.state[attempt] = to

    @rule()
    def hand_out(self) -> None:
        while self.ready and self.state[self.ready[0]] not in _UNBEGUN:
            self.ready.pop(0)
        handed = self.attempts.hand_out()
        if self.ready:
            assert handed is self.ready[0]
            self.out.append(self.ready.pop(0))
        else:
            assert handed is None

    @rule()
    def forget_begun(self) -> None:
        self.attempts.forget_begun()
        self.ready = [attempt for attempt in self.ready if self.state[attempt] in _UNBEGUN]

    @rule(attempt=attempts_made)
    def free_thread(self, attempt: Attempt) -> None:
        self.attempts.thread_is_free(attempt, 0)
        if attempt in self.out:
            self.out.remove(attempt)

    @rule(attempt=attempts_made)
    def prepare(self, attempt: Attempt) -> None:
        attempt.prepare(claimed(*attempt.id))
        self.prepared.add(attempt)

    @invariant()
    def states_are_those_of_the_model(self) -> None:
        assert {attempt: attempt.state for attempt in self.state} == self.state
        assert self.attempts.held() == {a.id for a, state in self.state.items() if state in _HELD}
        assert set(self.attempts.unbegun()) == {a for a, state in self.state.items() if state in _UNBEGUN}
        unstored = {a for a, state in self.state.items() if state is State.UNSTORED}
        assert set(self.attempts.unstored()) == unstored

    @invariant()
    def the_ledger_has_the_claimed_ones(self) -> None:
        wanted = {a.id for a, state in self.state.items() if state is State.CLAIMED}
        assert {AttemptId(*found) for found in self.ledger.all()} == wanted
        assert self.attempts.claimed_count() == len(wanted)

    @invariant()
    def ready_and_out_are_those_of_the_model(self) -> None:
        assert self.attempts.ready_count == len(self.ready)
        assert self.attempts.first_ready() is (self.ready[0] if self.ready else None)
        assert self.attempts.out_count == len(self.out)

    @invariant()
    def those_whose_handlers_are_called_are_those_of_the_model(self) -> None:
        handlers = {a for a, state in self.state.items() if state is State.RUNNING} & self.prepared
        assert set(self.attempts.running()) == handlers
        assert self.attempts.load == len(handlers)
        for attempt in handlers:
            assert self.attempts.runs(attempt.id.task_id)


TestHolder = _Holder.TestCase
TestHolder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- the holder, from threads --------------------------------------------------


@pytest.fixture
def attempts() -> Attempts:
    return Attempts(ClaimLedger())


@pytest.mark.parametrize("to", [State.CLAIMED, State.RUNNING, State.HANDED_BACK, State.DROPPED])
def test_of_several_threads_that_want_an_attempt_one_gets_it(attempts: Attempts, to: State) -> None:
    threads = 8
    gate = Barrier(threads)
    made = [attempt_of(fetched()) for _ in range(100)]
    attempts.add(made)

    def want_all(_: int) -> list[bool]:
        gate.wait()
        return [attempts.step(attempt, to) for attempt in made]

    with ThreadPoolExecutor(threads) as pool:
        got = list(pool.map(want_all, range(threads)))
    assert [sum(one) for one in zip(*got, strict=True)] == [1] * len(made)


def test_of_threads_that_want_different_things_one_gets_it(attempts: Attempts) -> None:
    ways = (State.RUNNING, State.HANDED_BACK, State.DROPPED)
    gate = Barrier(2 * len(ways))
    made = [attempt_of(fetched()) for _ in range(200)]
    attempts.add(made)

    def want_all(to: State) -> list[bool]:
        gate.wait()
        return [attempts.step(attempt, to) for attempt in made]

    with ThreadPoolExecutor(2 * len(ways)) as pool:
        got = list(pool.map(want_all, [*ways, *ways]))
    for attempt, *taken in zip(made, *got, strict=True):
        # RUNNING → DROPPED is a way, too: then both got what they wanted.
        wanted = [to for to, was_taken in zip([*ways, *ways], taken, strict=True) if was_taken]
        assert wanted in ([State.RUNNING], [State.HANDED_BACK], [State.DROPPED]) or sorted(
            to.name for to in wanted
        ) == ["DROPPED", "RUNNING"]
        assert attempt.state in wanted


def test_every_attempt_is_handed_out_to_one_thread(attempts: Attempts) -> None:
    made = [attempt_of(fetched()) for _ in range(500)]
    attempts.add(made)

    def take_all(_: int) -> list[Attempt]:
        return list(iter(attempts.hand_out, None))

    with ThreadPoolExecutor(8) as pool:
        taken = [attempt for some in pool.map(take_all, range(8)) for attempt in some]
    assert sorted(attempt.id for attempt in taken) == sorted(attempt.id for attempt in made)


def test_a_claim_is_not_made_where_the_ledger_has_no_place(attempts: Attempts) -> None:
    made = [attempt_of(fetched()) for _ in range(SLOTS + 1)]
    attempts.add(made)
    assert [attempts.step(attempt, State.CLAIMED) for attempt in made] == [True] * SLOTS + [False]
    assert made[-1].state is State.FETCHED
    assert attempts.step(made[0], State.RUNNING)
    assert attempts.step(made[-1], State.CLAIMED)


def test_those_that_were_fetched_before_a_moment(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock.of(monkeypatch, module)
    early, late = attempt_of(fetched()), attempt_of(fetched())
    attempts.add([early])
    clock.now += 5
    attempts.add([late])
    assert attempts.unbegun(clock.now - 1) == [early]
    assert attempts.unbegun(clock.now) == attempts.unbegun() == [early, late]


def test_who_waits_for_a_thread_is_woken_when_enough_are_free(attempts: Attempts) -> None:
    attempts.add(attempt_of(fetched()) for _ in range(3))
    out = [attempt for attempt in (attempts.hand_out() for _ in range(3)) if attempt]
    looked = Event()

    def stopping() -> bool:
        looked.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(attempts.wait_for_thread, 2, 60, stopping)
        assert looked.wait(60)
        attempts.thread_is_free(out[0], enough=1)
        attempts.thread_is_free(out[1], enough=1)
        assert waiter.result(60)
    assert not attempts.wait_for_thread(1, 0.001, lambda: False)


def test_who_waits_for_a_thread_waits_no_longer_when_it_stops(attempts: Attempts) -> None:
    attempts.add([attempt_of(fetched())])
    attempts.hand_out()
    looked, stop = Event(), Event()

    def stopping() -> bool:
        looked.set()
        return stop.is_set()

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(attempts.wait_for_thread, 1, 60, stopping)
        assert looked.wait(60)
        stop.set()
        attempts.wake()
        assert not waiter.result(60)


def test_threads_that_are_busy_say_since_when(attempts: Attempts) -> None:
    attempts.add(attempt_of(fetched()) for _ in range(2))
    first, second = attempts.hand_out(), attempts.hand_out()
    assert first is not None
    assert second is not None
    first.begun_at = 7.0
    assert attempts.begun_at() == [7.0]
    attempts.thread_is_free(first, 0)
    assert attempts.begun_at() == []


def test_two_attempts_of_a_task_that_run_at_a_time_are_both_watched(attempts: Attempts) -> None:
    """The first was given up on and does not stop; the second is its retry, in the same process."""
    task = task_id()
    first, second = (attempt_of(fetched(task, number)) for number in (1, 2))
    attempts.add([first, second])
    for attempt in (first, second):
        assert attempts.step(attempt, State.RUNNING)
        attempt.prepare(claimed(*attempt.id))
    assert attempts.running() == [first, second]
    assert attempts.load == 2
    for attempt, left in ((second, [first]), (first, [])):
        assert attempts.runs(task)
        assert attempts.step(attempt, State.ENDING)
        assert attempts.running() == left
    assert not attempts.runs(task)


# -- one attempt ---------------------------------------------------------------


class _Handle:
    def __init__(self) -> None:
        self.pressed: list[tuple[Kind, float]] = []

    def press(self, interruption: Interruption, elapsed: float) -> None:
        self.pressed.append((interruption.kind, elapsed))


def test_the_first_reason_to_stop_counts_and_is_pressed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock.of(monkeypatch, module)
    attempt = attempt_of(fetched())
    attempt.interrupt(Kind.CANCEL)
    assert attempt.interruption is None, "it does not run"
    attempt.prepare(claimed(attempt.id.task_id, timeout_ms=1500))
    assert attempt.deadline == clock.now + 1.5
    handle = attempt.handle = _Handle()
    attempt.press()
    assert not handle.pressed
    attempt.interrupt(Kind.CANCEL, "ann")
    attempt.interrupt(Kind.TIMEOUT)
    clock.now += 0.25
    attempt.press()
    assert handle.pressed == [(Kind.CANCEL, 0.0), (Kind.CANCEL, 0.25)]
    assert attempt.interruption == Interruption(Kind.CANCEL, "ann", clock.now - 0.25)
    assert not attempt.noticed
    assert attempt.context is not None
    assert attempt.context.cancelled
    assert attempt.noticed


def test_an_attempt_without_a_limit_has_no_deadline() -> None:
    attempt = Attempt(AttemptId(task_id(), 1))
    attempt.prepare(claimed(attempt.id.task_id))
    assert attempt.deadline is None
    assert not attempt.cancelled_before


def test_two_threads_do_not_press_at_the_same_time() -> None:
    attempt = attempt_of(fetched())
    attempt.prepare(claimed(attempt.id.task_id))
    pressing, go_on = Event(), Event()
    pressed: list[float] = []

    class Slow:
        def press(self, interruption: Interruption, elapsed: float) -> None:
            pressed.append(elapsed)
            pressing.set()
            assert go_on.wait(60)

    attempt.handle = Slow()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(attempt.interrupt, Kind.DRAIN)
        assert pressing.wait(60)
        attempt.press()  # returns at once
        go_on.set()
        first.result(60)
    assert len(pressed) == 1
