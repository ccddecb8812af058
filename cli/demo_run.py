"""What the cases of the demo share: the client, what they made, and how they are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atm.errors import AtmError
from atm_cli import console
from atm_cli.escape import visible
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


@dataclass(frozen=True)
class Case:
    """One case: its title, and the function that shows and checks it.

    The function raises CaseFailed, or the client's errors.
    """

    title: str
    run: Callable[[DemoRun], None]


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
        self._screen = console.out()

    def run(self, cases: Sequence[Case]) -> bool:
        """Runs the cases in turn, whatever becomes of each. True if all of them hold."""
        self._line(("The demo of ATM", "bold"), (f"  on {visible(self.server)}", "dim"))
        passed = sum(self._run_case(number, case) for number, case in enumerate(cases, start=1))
        good = passed == len(cases)
        self._line()
        self._line((f"{passed} of {len(cases)} cases passed", "bold green" if good else "bold red"))
        return good

    def say(self, text: str, *, status: str = "") -> None:
        """One line of what happens in a case; `status` is added in its colour."""
        parts = [(f"    {visible(text)}", "")]
        if status:
            parts.append((f" {visible(status)}", status_style(status)))
        self._line(*parts)

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

    def _run_case(self, number: int, case: Case) -> bool:
        started = time.monotonic()
        self._line()
        self._line((f"{number}  {case.title}", "bold"))
        problem = ""
        try:
            case.run(self)
        except (CaseFailed, AtmError) as error:
            problem = str(error)
        took = f"{time.monotonic() - started:.1f} s"
        if problem:
            self._line(("  ✗ ", "bold red"), (visible(problem), "red"), (f"  ({took})", "dim"))
        else:
            self._line(("  ✓ ", "bold green"), ("as promised", "green"), (f"  ({took})", "dim"))
        return not problem

    def _line(self, *parts: tuple[str, str]) -> None:
        from rich.text import Text

        self._screen.print(Text.assemble(*parts), soft_wrap=True)


def require(condition: bool, otherwise: str) -> None:
    """Raises CaseFailed with `otherwise` unless the condition holds."""
    if not condition:
        raise CaseFailed(otherwise)
