"""What the cases of the demo share: the client, what they made, and how they are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from atm.errors import AtmError
from atm.escape import visible
from atm_cli import console
from atm_cli.views import status_style
from atm_cli.waiting import wait

if TYPE_CHECKING:
    from atm.client import Client, Task

#: The built-in type that the demo makes: it works about two seconds and takes no payload.
TASK_TYPE = "example_task"
#: How long one task may take, in seconds; a shared server may have others first.
TASK_SECONDS = 60.0


class CaseFailed(Exception):  # noqa: N818 - an outcome of the demo, not a fault of it
    """What a case shows is not what it promises; the message says how."""


class DemoRun:
    """One walk through the cases. Only tasks that it made are looked at, so a shared server will do."""

    def __init__(self, client: Client, server: str) -> None:
        self.client = client
        self.server = server
        self.made: list[str] = []
        self.batch: list[str] = []
        self.succeeded: list[str] = []
        self.cancelled: list[str] = []
        self.before = client.get_statistics()
        self._screen = console.screen()

    def run(self, cases: Mapping[str, Callable[[DemoRun], None]]) -> bool:
        """Runs the cases, each under its title, in turn, whatever becomes of each. True if all of them hold.

        A case raises CaseFailed, or the client's errors.
        """
        self._line(("The demo of ATM", "bold"), (f"  on {visible(self.server)}", "dim"))
        passed = sum(
            self._run_case(f"{number}  {title}", cases[title]) for number, title in enumerate(cases, 1)
        )
        good = passed == len(cases)
        self._line()
        self._line((f"{passed} of {len(cases)} cases passed", "bold green" if good else "bold red"))
        return good

    def say(self, text: str, *, status: str = "") -> None:
        """One line of what happens in a case; `status` is added in its colour."""
        shown = f" {visible(status)}" if status else ""
        self._line((f"    {visible(text)}", ""), (shown, status_style(status)))

    def create(self, note: str = "", *, high: bool = False) -> Task:
        """A new task of TASK_TYPE, which must be as it was asked for."""
        task = self.client.create_task(TASK_TYPE, priority="high" if high else "normal")
        self.made.append(task.task_id)
        self.say(f"created {task.task_id}{note}:", status=task.status)
        require(task.task_type == TASK_TYPE, f"the type is {task.task_type}, not {TASK_TYPE}")
        require(task.priority == int(high), f"the priority is {task.priority}, not {int(high)}")
        return task

    def wait_for_success(self, task_id: str) -> Task:
        """The task, which must end in SUCCESS within TASK_SECONDS."""
        task = wait(self.client, task_id, TASK_SECONDS)
        self.say(f"{task.task_id} ended:", status=task.status)
        require(task.succeeded, f"{task_id} ended {task.status}: {task.error_message}")
        self.succeeded.append(task_id)
        return task

    def _run_case(self, title: str, case: Callable[[DemoRun], None]) -> bool:
        started = time.monotonic()
        self._line()
        self._line((title, "bold"))
        problem = ""
        try:
            case(self)
        except (CaseFailed, AtmError) as error:
            problem = str(error)
        mark, style = ("✗", "red") if problem else ("✓", "green")
        took = f"  ({time.monotonic() - started:.1f} s)"
        self._line((f"  {mark} ", f"bold {style}"), (visible(problem or "as promised"), style), (took, "dim"))
        return not problem

    def _line(self, *parts: tuple[str, str]) -> None:
        from rich.text import Text

        self._screen.print(Text.assemble(*parts), soft_wrap=True)


def require(condition: bool, otherwise: str) -> None:
    """Raises CaseFailed with `otherwise` unless the condition holds."""
    if not condition:
        raise CaseFailed(otherwise)
