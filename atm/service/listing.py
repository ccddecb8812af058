"""One page of tasks: which, and how much of them fits into the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atm.models import Task
from atm.service import answers, validation
from atm.service.answers import READ_FACTOR, Reserve
from atm.service.validation import Listing
from atm.states import Status
from atm.store import tasks
from atm.store.database import Connection
from atm.store.tasks import Filter


@dataclass(frozen=True)
class Page:
    """Some of the tasks that match, how many do in all (0: not counted), and what asks for the next page."""

    tasks: Sequence[Task]
    total: int
    next_token: str


def filter_of(listing: Listing) -> Filter:
    """Which tasks it asks for."""
    return Filter(
        status=Status(listing.status) if listing.status else None,
        priority=None if listing.priority < 0 else listing.priority,
        task_type=listing.task_type or None,
    )


def read_page(connection: Connection, listing: Listing, reserve: Reserve) -> tuple[list[Task], str]:
    """The tasks of a page, and the token of the next one. Raises ExhaustedError of `reserve`.

    By token a page ends where the next task would not fit; by number it has
    every task, and leaves out values that do not fit.
    """
    limit = listing.page_size or validation.DEFAULT_PAGE_SIZE
    after = listing.after() if listing.page_token else ""
    offset = (max(1, listing.page) - 1) * limit
    # One more than is asked for tells whether there is another page.
    ids = tasks.page_ids(connection, filter_of(listing), limit=limit + 1, offset=offset, after=after)
    found = _read(connection, ids[:limit], basic=listing.basic)
    taken = found[: answers.beginning(found)] if after else found
    last = ids[limit - 1] if len(ids) > limit else ""
    if len(taken) < len(found):
        last = taken[-1].task_id
    if chosen := taken if after else answers.to_read(taken):
        _read_values(connection, [task for task in chosen if task.unread], reserve)
    return taken, listing.token(last) if last else ""


def _read(connection: Connection, ids: Sequence[str], *, basic: bool) -> list[Task]:
    if basic:
        rows = tasks.get_basic(connection, ids)
    else:
        rows = tasks.get_all(connection, ids, answers.inline_bytes(len(ids)))
    return [rows[task_id] for task_id in ids if task_id in rows]


def _read_values(connection: Connection, chosen: Sequence[Task], reserve: Reserve) -> None:
    if chosen:
        reserve(READ_FACTOR * sum(task.unread for task in chosen))
        tasks.read_values(connection, chosen)
