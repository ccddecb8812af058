"""An attempt in this process: its states, the steps between them, and the one holder of all of them.

FETCHED ──→ CLAIMED ──→ RUNNING ──→ ENDING ──→ STORED
   │           │           │           ├─────→ HANDED_BACK
   │           │           │           └─────→ UNSTORED ──→ STORED
   ├───────────┼───────────┼─────→ DROPPED
   └───────────┴───────────┴─────→ HANDED_BACK

CLAIMED → ENDING is an attempt that is handed back before a thread got to it,
CLAIMED → FETCHED one whose claim was turned away before it was sent, and
FETCHED → RUNNING one that its thread claims itself; where that claim is refused,
it is dropped, and handed back where SQL does not say whose it is. An attempt
need not have a message (it may come from SQL) nor hold a thread: when its thread
is free is told apart from how it ends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from dramatiq import Message

from atm.batching.reply import Reply
from atm.broker.message import FetchedMessage, task_message
from atm.lists import TaskList
from atm.service.attempts import ChangeResult, ClaimedTask
from atm.worker.claim_ledger import ClaimLedger
from atm.worker.context import Context
from atm.worker.handlers import HandlerSpec
from atm.worker.interruption import Interruption, Kind
from atm.worker.log_buffer import LogBuffer


class State(Enum):
    """Where an attempt is on its way through this process."""

    # Its message was fetched (or it was found in SQL); nobody has asked SQL for it.
    FETCHED = auto()
    # Its claim is on its way to SQL or committed; no thread has begun with it.
    CLAIMED = auto()
    # A thread has begun with it.
    RUNNING = auto()
    # How it ended is on its way to SQL.
    ENDING = auto()
    # How it ended could not be stored. The reconciler ends it.
    UNSTORED = auto()
    # SQL has its end.
    STORED = auto()
    # Other workers may have it.
    HANDED_BACK = auto()
    # There was nothing to do: it was out of date, or cancelled before it began.
    DROPPED = auto()


#: Every step that an attempt can take. With a state without steps it leaves the process.
STEPS: dict[State, frozenset[State]] = {
    State.FETCHED: frozenset({State.CLAIMED, State.RUNNING, State.HANDED_BACK, State.DROPPED}),
    # Back to FETCHED: the claim was turned away before it was sent.
    State.CLAIMED: frozenset({State.FETCHED, State.RUNNING, State.ENDING, State.HANDED_BACK, State.DROPPED}),
    State.RUNNING: frozenset({State.ENDING, State.HANDED_BACK, State.DROPPED}),
    State.ENDING: frozenset({State.STORED, State.HANDED_BACK, State.UNSTORED}),
    State.UNSTORED: frozenset({State.STORED}),
    State.STORED: frozenset(),
    State.HANDED_BACK: frozenset(),
    State.DROPPED: frozenset(),
}
LEFT = frozenset(state for state, steps in STEPS.items() if not steps)
#: The states in which SQL may rightly say that the attempt runs here.
_HELD = frozenset({State.CLAIMED, State.RUNNING, State.ENDING})
#: No thread has begun with it.
_UNBEGUN = frozenset({State.FETCHED, State.CLAIMED})


_NONE = TaskList("", 0)
#: The log of those that have not run: nothing is ever said in it.
_SILENT = LogBuffer()


class AttemptId(NamedTuple):
    """A task, and the number of one of its attempts."""

    task_id: str
    number: int


class Handle(Protocol):
    """How an executor stops a handler that was told to stop."""

    def press(self, interruption: Interruption, elapsed: float) -> None:
        """Called again and again, `elapsed` seconds after the interruption. Must not block."""


class Attempt:
    """One attempt of a task: what asks for it, where it is, and, once it runs, what it is and says.

    `fetched` is its message; None: it has none, and its task is `of` this
    list. Only `Attempts.step` changes `state`.
    """

    def __init__(
        self, attempt_id: AttemptId, fetched: FetchedMessage | None = None, *, of: TaskList = _NONE
    ) -> None:
        self.id = attempt_id
        self.fetched = fetched
        self._of = of
        #: The cancel flag of its task was up when its message was fetched.
        self.cancelled_before = fetched is not None and fetched.cancelled
        self.state = State.FETCHED
        #: When it was fetched and when a thread began with it (`time.monotonic`); 0: not yet.
        self.fetched_at = 0.0
        self.begun_at = 0.0
        #: What becomes of its claim, once SQL was asked for it.
        self.claim: Reply[ChangeResult] | None = None

        # Once it runs:
        self.task: ClaimedTask
        self.spec: HandlerSpec
        self.context: Context | None = None
        self.log = _SILENT
        #: When its time is over (`time.monotonic`); None: no limit.
        self.deadline: float | None = None
        #: The thread that runs it.
        self.thread_id = 0
        self.interruption: Interruption | None = None
        self._pressing = threading.Lock()
        #: Set by the executor while there is something to stop.
        self.handle: Handle | None = None
        #: What came out of the handler's own code, if it raised.
        self.raised: BaseException | None = None
        #: What came out of its execution.
        self.failure: BaseException | None = None
        #: SQL was told of an end that the handler has not reached.
        self.given_up = False
        #: Its end is reported from elsewhere, after its thread is free.
        self.ends_elsewhere = False

    @property
    def message(self) -> Message[Any]:
        """What Dramatiq is given: its message, or one that is like it."""
        return task_message(*self.id, self._of) if self.fetched is None else self.fetched.message

    def prepare(self, task: ClaimedTask, log: LogBuffer | None = None) -> None:
        """Makes the context that its handler gets; the attempt's time runs from now on."""
        self.task = task
        self.log = LogBuffer() if log is None else log
        self.deadline = time.monotonic() + task.timeout_ms / 1000 if task.timeout_ms else None
        self.thread_id = threading.get_ident()
        self.context = Context(task, self.log)

    @property
    def cancel_grace(self) -> float:
        """How many seconds its handler has to stop by itself, once it is told to."""
        spec: HandlerSpec | None = getattr(self, "spec", None)
        return 0.0 if spec is None else spec.cancel_grace

    @property
    def noticed(self) -> bool:
        """Whether its handler has seen that it should stop."""
        return self.context is not None and self.context.noticed

    def interrupt(self, kind: Kind, requested_by: str = "") -> None:
        """Tells the handler to stop. The first reason counts."""
        if self.interruption is None and self.context is not None:
            self.interruption = Interruption(kind, requested_by, time.monotonic())
            self.context.interrupt(self.interruption)
            self.press()

    def press(self) -> None:
        """Goes on stopping a handler that was told to stop."""
        handle, interruption = self.handle, self.interruption
        if handle is None or interruption is None or not self._pressing.acquire(blocking=False):
            return
        try:
            handle.press(interruption, time.monotonic() - interruption.at)
        finally:
            self._pressing.release()


class Attempts:
    """All attempts of this process, from the fetch until they leave it. Safe to use from several threads.

    An attempt is *ready* until it is handed out to Dramatiq, and *out* until
    the thread that got it is free again; neither says how it ends. `ledger`
    mirrors those that are claimed and not begun with, in memory that outlives
    the process.
    """

    def __init__(self, ledger: ClaimLedger) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._ledger = ledger
        self._all: dict[AttemptId, Attempt] = {}
        self._ready: deque[Attempt] = deque()
        self._out: set[Attempt] = set()
        #: How many threads have begun with, of all that ever were here.
        self.begun_count = 0

    # -- states ---------------------------------------------------------------

    def add(self, fetched: Iterable[Attempt]) -> list[Attempt]:
        """Takes attempts in, ready to be handed out; those that are new: a message may be delivered twice.

        The message of one that came from SQL goes with it: it is acknowledged at its end.
        """
        at = time.monotonic()
        new = []
        with self._changed:
            for attempt in fetched:
                known = self._all.setdefault(attempt.id, attempt)
                if known is attempt:
                    attempt.fetched_at = at
                    new.append(attempt)
                elif known.fetched is None:
                    known.fetched = attempt.fetched
            self._ready += new
        return new

    def step(self, attempt: Attempt, to: State) -> bool:
        """Takes the step, if it may be taken from the state that the attempt is in; whether it was.

        Of several threads that want to take an attempt somewhere, one does. A
        step to CLAIMED is not taken where the ledger has no place for it.
        """
        with self._changed:
            state = attempt.state
            if to not in STEPS[state]:
                return False
            if to is State.CLAIMED and not self._ledger.add(*attempt.id):
                return False
            if state is State.CLAIMED:
                self._ledger.remove(*attempt.id)
            attempt.state = to
            self.begun_count += to is State.RUNNING
            if to in LEFT:
                self._all.pop(attempt.id, None)
            return True

    def unbegun(self, since: float | None = None) -> list[Attempt]:
        """Those that no thread has begun with: all, or those that were fetched before this moment."""
        with self._changed:
            found = [attempt for attempt in self._all.values() if attempt.state in _UNBEGUN]
        return found if since is None else [attempt for attempt in found if attempt.fetched_at <= since]

    def known(self) -> set[AttemptId]:
        """All that are here."""
        with self._changed:
            return set(self._all)

    def held(self) -> set[AttemptId]:
        """Those that SQL may rightly say run here."""
        with self._changed:
            return {attempt.id for attempt in self._all.values() if attempt.state in _HELD}

    def unended(self) -> list[Attempt]:
        """Those of them that nobody has ended in SQL."""
        with self._changed:
            return [a for a in self._all.values() if a.state in _HELD and not a.given_up]

    def unstored(self) -> list[Attempt]:
        """Those whose end could not be stored."""
        with self._changed:
            return [attempt for attempt in self._all.values() if attempt.state is State.UNSTORED]

    def claimed_count(self) -> int:
        """How many are claimed and not begun with."""
        return len(self._ledger)

    # -- threads --------------------------------------------------------------

    @property
    def ready_count(self) -> int:
        """How many wait here to be handed out."""
        return len(self._ready)

    def first_ready(self) -> Attempt | None:
        """The one that is handed out next."""
        return self._ready[0] if self._ready else None

    def hand_out(self) -> Attempt | None:
        """The next one for a thread; None when none waits here."""
        with self._changed:
            while self._ready:
                attempt = self._ready.popleft()
                if attempt.state in _UNBEGUN:
                    self._out.add(attempt)
                    return attempt
        return None

    def forget_begun(self) -> None:
        """Those that were handed back are not ready any more."""
        with self._changed:
            self._ready = deque(attempt for attempt in self._ready if attempt.state in _UNBEGUN)

    def thread_is_free(self, attempt: Attempt, enough: int) -> None:
        """The thread that got this one is free; wakes `wait_for_thread` when at most `enough` are out."""
        with self._changed:
            self._out.discard(attempt)
            if len(self._out) <= enough:
                self._changed.notify()

    def wait_for_thread(self, room: int, seconds: float, stopping: Callable[[], bool]) -> bool:
        """Waits until fewer than `room` are out, up to `seconds`, or until it stops; whether they are."""
        with self._changed:
            self._changed.wait_for(lambda: stopping() or len(self._out) < room, seconds)
            return len(self._out) < room

    def wake(self) -> None:
        """Has `wait_for_thread` look again."""
        with self._changed:
            self._changed.notify_all()

    @property
    def out_count(self) -> int:
        """How many are handed out and their thread not free yet."""
        return len(self._out)

    def stuck(self) -> list[Attempt]:
        """Those that were given up on and hold their thread."""
        with self._changed:
            return [attempt for attempt in self._out if attempt.given_up]

    def begun_at(self) -> list[float]:
        """For each thread that is busy when it began (`time.monotonic`)."""
        with self._changed:
            return [attempt.begun_at for attempt in self._out if attempt.begun_at]

    # -- handlers -------------------------------------------------------------

    def running(self) -> list[Attempt]:
        """Those whose handler is being called, even where SQL was told of their end already.

        Two may be of one task: the first was given up on, and does not stop.
        """
        with self._changed:
            return [a for a in self._all.values() if a.state is State.RUNNING and a.context is not None]

    def runs(self, task_id: str) -> bool:
        """Whether a handler is being called for this task."""
        return any(attempt.id.task_id == task_id for attempt in self.running())

    @property
    def load(self) -> int:
        """How many handlers are being called."""
        return len(self.running())
