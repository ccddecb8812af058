"""What a request may hold. Pure: each check names every field that is wrong, and changes nothing."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

from atm.errors import FieldViolation, InvalidArgumentError, TaskNotFoundError
from atm.models import ACTOR_LENGTH, REQUEST_ID_LENGTH, TASK_TYPE_LENGTH
from atm.retrying import MAX_BACKOFF_RATE, MAX_DELAY_MS, MAX_RETRIES, MAX_TIMEOUT_MS, STRATEGIES
from atm.states import Status

#: Names and values of a payload together, in bytes of UTF-8. What is larger
#: belongs in a file store, and its address in the payload.
MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_PAYLOAD_KEYS = 256
MAX_PAYLOAD_KEY_LENGTH = 255
#: 366 days.
MAX_START_DELAY_MS = 366 * 24 * 3600 * 1000
#: The longest that a WaitTask waits, and what 0 stands for.
MAX_WAIT_MS = 60_000
DEFAULT_WAIT_MS = 30_000
#: Tasks of one BatchCreateTasks.
MAX_BATCH = 1000
DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 500

#: What a page shows of its tasks: all, or no payloads and results.
FULL, BASIC = 0, 1

#: How much of a digest a page token holds: enough to notice a mistake.
_SEAL_LENGTH = 12
_TASK_ID = re.compile(r"[0-9A-Za-z-]{1,36}")


class NewTask(NamedTuple):
    """What a client asks to be run. None and "": as the type's configuration says."""

    task_type: str
    priority: int = 0
    payload: Mapping[str, str] = MappingProxyType({})
    max_retry: int | None = None
    timeout_ms: int | None = None
    retry_strategy: str = ""
    retry_delay_ms: int | None = None
    retry_backoff_rate: float | None = None
    retry_max_delay_ms: int | None = None
    delay_ms: int = 0
    # Not part of what is asked for: the name of the asking.
    request_id: str = ""

    def digest(self) -> str:
        """The same for requests that ask for the same."""
        asked = {**self._asdict(), "payload": dict(self.payload)}
        del asked["request_id"]
        return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Listing:
    """Which tasks a client asks for: "" and -1 mean any, 0 the default."""

    status: str = ""
    priority: int = -1
    task_type: str = ""
    page: int = 0
    page_size: int = 0
    page_token: str = ""
    view: int = FULL

    @property
    def basic(self) -> bool:
        """Whether payloads and results are not asked for."""
        return self.view == BASIC

    def token(self, after: str) -> str:
        """What asks for the tasks of this listing that come after the one with this id."""
        return urlsafe_b64encode(f"{self._seal(after)}{after}".encode()).decode()

    def after(self) -> str:
        """The id that `page_token` stands for. Raises InvalidArgumentError when it is of another listing."""
        try:
            text = urlsafe_b64decode(self.page_token.encode()).decode("ascii")
        except ValueError:
            text = ""
        seal, after = text[:_SEAL_LENGTH], text[_SEAL_LENGTH:]
        if seal != self._seal(after):
            said = "is not one that ListTasks gave for this status, priority and task_type"
            raise InvalidArgumentError([FieldViolation("page_token", said)])
        return after

    def _seal(self, after: str) -> str:
        """Not against forgery: a page can be asked for anyway. It finds mistakes."""
        bound = json.dumps([self.status, self.priority, self.task_type, after])
        return sha256(bound.encode()).hexdigest()[:_SEAL_LENGTH]


class _Violations:
    """What is wrong so far. `prefix` stands before the name of each field.

    Words are made only for what is wrong: nearly nothing ever is, and each
    CreateTask comes by here.
    """

    def __init__(self) -> None:
        self.prefix = ""
        self.found: list[FieldViolation] = []

    def add(self, field_name: str, description: str) -> None:
        self.found.append(FieldViolation(self.prefix + field_name, description))

    def within(self, value: float | None, low: float, high: float, field_name: str, unit: str = "") -> None:
        # A NaN is within nothing.
        if value is not None and not low <= value <= high:
            self.add(field_name, f"must be from {low:g} to {high:.0f}{unit}, not {value!r}")

    def raise_if_any(self) -> None:
        if self.found:
            raise InvalidArgumentError(self.found)


def check_new_task(new: NewTask, batch: _Violations | None = None) -> None:
    """Raises InvalidArgumentError for a task that cannot be accepted; in a batch, only notes what is."""
    wrong = _Violations() if batch is None else batch
    _check_task_type(wrong, new.task_type)
    if new.priority not in (0, 1):
        wrong.add("priority", f"must be 0 (Normal) or 1 (High), not {new.priority}")
    _check_payload(wrong, new.payload)
    wrong.within(new.max_retry, 0, MAX_RETRIES, "max_retry")
    wrong.within(new.timeout_ms, 0, MAX_TIMEOUT_MS, "timeout_ms", " ms")
    if new.retry_strategy and new.retry_strategy not in STRATEGIES:
        wrong.add("retry.strategy", f"must be FIXED or EXPONENTIAL, not {_shown(new.retry_strategy)}")
    wrong.within(new.retry_delay_ms, 0, MAX_DELAY_MS, "retry.delay_ms", " ms")
    wrong.within(new.retry_backoff_rate, 1, MAX_BACKOFF_RATE, "retry.backoff_rate")
    wrong.within(new.retry_max_delay_ms, 0, MAX_DELAY_MS, "retry.max_delay_ms", " ms")
    wrong.within(new.delay_ms, 0, MAX_START_DELAY_MS, "delay_ms", " ms")
    if new.request_id:
        _check_name(wrong, "request_id", new.request_id, REQUEST_ID_LENGTH)
    if batch is None:
        wrong.raise_if_any()


def check_new_tasks(batch: Sequence[NewTask]) -> None:
    """Raises InvalidArgumentError for a batch that cannot be accepted as a whole."""
    wrong = _Violations()
    if not 0 < len(batch) <= MAX_BATCH:
        wrong.add("tasks", f"must be from 1 to {MAX_BATCH} tasks, not {len(batch)}")
    wrong.raise_if_any()
    places: dict[str, int] = {}
    for place, new in enumerate(batch):
        wrong.prefix = f"tasks[{place}]."
        check_new_task(new, wrong)
        if new.request_id:
            first = places.setdefault(new.request_id, place)
            if first != place:
                wrong.add("request_id", f"is that of tasks[{first}], too")
    wrong.raise_if_any()


def check_listing(listing: Listing) -> None:
    """Raises InvalidArgumentError for a page that cannot be."""
    wrong = _Violations()
    if listing.status not in ("", *Status):
        wrong.add("status", f"must be one of {', '.join(Status)}, not {_shown(listing.status)}")
    if listing.priority not in (-1, 0, 1):
        wrong.add("priority", f"must be -1 (any), 0 or 1, not {listing.priority}")
    if listing.task_type:
        _check_task_type(wrong, listing.task_type)
    if listing.page < 0:
        wrong.add("page", f"must be 1 or more, not {listing.page}")
    wrong.within(listing.page_size, 0, MAX_PAGE_SIZE, "page_size")
    if listing.view not in (FULL, BASIC):
        wrong.add("view", f"must be FULL (0) or BASIC (1), not {listing.view}")
    wrong.raise_if_any()


def check_log_page(page_size: int, largest: int) -> None:
    """Raises InvalidArgumentError for a number of rows that no page has."""
    wrong = _Violations()
    wrong.within(page_size, 0, largest, "page_size")
    wrong.raise_if_any()


def check_task_id(task_id: str) -> None:
    """Raises InvalidArgumentError for no id, TaskNotFoundError for one that no task can have."""
    if not task_id:
        raise InvalidArgumentError([FieldViolation("task_id", "is required")])
    if not _TASK_ID.fullmatch(task_id):
        raise TaskNotFoundError(task_id, f"no task has the id {_shown(task_id)}")


def check_wait(timeout_ms: int) -> int:
    """The milliseconds that a WaitTask waits. Raises InvalidArgumentError."""
    wrong = _Violations()
    wrong.within(timeout_ms, 0, MAX_WAIT_MS, "timeout_ms", " ms")
    wrong.raise_if_any()
    return timeout_ms or DEFAULT_WAIT_MS


def check_actor(requested_by: str) -> None:
    """Raises InvalidArgumentError for a name of a person or service that cannot be kept."""
    wrong = _Violations()
    if len(requested_by) > ACTOR_LENGTH or not requested_by.isprintable():
        wrong.add("requested_by", f"must be printable and at most {ACTOR_LENGTH} characters")
    wrong.raise_if_any()


def _check_task_type(wrong: _Violations, task_type: str) -> None:
    if not task_type:
        wrong.add("task_type", "is required")
    _check_name(wrong, "task_type", task_type, TASK_TYPE_LENGTH)


def _check_name(wrong: _Violations, field_name: str, name: str, longest: int) -> None:
    if len(name) > longest:
        wrong.add(field_name, f"must be at most {longest} characters, not {len(name)}")
    # Of all white space only this one counts as printable.
    elif not name.isprintable() or " " in name:
        wrong.add(field_name, "must not hold spaces or control characters")


def _check_payload(wrong: _Violations, payload: Mapping[str, str]) -> None:
    if len(payload) > MAX_PAYLOAD_KEYS:
        wrong.add("payload", f"must have at most {MAX_PAYLOAD_KEYS} keys, not {len(payload)}")
        return
    size = 0
    for key, value in payload.items():
        size += len(key.encode()) + len(value.encode())
        if not key:
            wrong.add("payload", "a key must not be empty")
        if len(key) > MAX_PAYLOAD_KEY_LENGTH:
            wrong.add("payload", f"the key {_shown(key)} is longer than {MAX_PAYLOAD_KEY_LENGTH} characters")
    if size > MAX_PAYLOAD_BYTES:
        wrong.add("payload", f"must be at most {MAX_PAYLOAD_BYTES} bytes, not {size}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 64 else text[:64] + "…")
