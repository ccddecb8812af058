"""How failed attempts are tried again: the policy, and the wait it gives.

Pure: no clock, no SQL. Used where a policy is written (handlers, requests,
`task_config`) and where it is applied (the retry middleware).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, TypeGuard

from atm.errors import SettingsError

Strategy = Literal["FIXED", "EXPONENTIAL"]
STRATEGIES: tuple[Strategy, ...] = ("FIXED", "EXPONENTIAL")

#: No policy waits longer than this: 30 days.
MAX_DELAY_MS = 30 * 24 * 3600 * 1000
#: No attempt has longer than this: 30 days.
MAX_TIMEOUT_MS = MAX_DELAY_MS
MAX_RETRIES = 1000
MAX_BACKOFF_RATE = 100.0
#: Each wait is shortened by up to this share, so that tasks that failed
#: together do not come back together.
JITTER = 0.2


@dataclass(frozen=True)
class Retry:
    """When a failed attempt is tried again.

    FIXED waits `delay` seconds each time. EXPONENTIAL waits `delay` seconds,
    then `backoff_rate` times as long after each further failure, and never
    longer than `max_delay` seconds. Either wait is shortened by up to a fifth
    at random (JITTER).
    """

    strategy: Strategy = "EXPONENTIAL"
    delay: float = 1.0
    backoff_rate: float = 2.0
    max_delay: float = 600.0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise SettingsError(f"retry strategy {self.strategy!r}: FIXED or EXPONENTIAL")
        for name, seconds in (("delay", self.delay), ("max_delay", self.max_delay)):
            if not (is_number(seconds) and 0 <= seconds * 1000 <= MAX_DELAY_MS):
                raise SettingsError(
                    f"retry {name} {seconds!r}: a number of seconds from 0 to {MAX_DELAY_MS // 1000}"
                )
        if not (is_number(self.backoff_rate) and 1 <= self.backoff_rate <= MAX_BACKOFF_RATE):
            raise SettingsError(f"retry backoff_rate {self.backoff_rate!r}: a number from 1 to 100")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def wait_ms(
    *,
    strategy: str,
    delay_ms: int,
    backoff_rate: float,
    max_delay_ms: int,
    retry: int,
    rng: random.Random | None = None,
) -> int:
    """The milliseconds to wait before retry number `retry` (1 is the first).

    At most `max_delay_ms`, at least 0, and within JITTER of the policy's wait;
    so for numbers, too, that no policy may have, as an import may bring them.
    """
    wait = float(delay_ms)
    if strategy == "EXPONENTIAL":
        # A float power overflows past 1e308; the cap is far below that.
        exponent = max(0, min(retry - 1, 1000))
        try:
            wait = delay_ms * min(max(1.0, backoff_rate), MAX_BACKOFF_RATE) ** exponent
        except OverflowError:
            wait = float(max_delay_ms)
    wait = min(wait, max_delay_ms, MAX_DELAY_MS)
    shortened = (rng or random).random() * JITTER
    return max(0, round(wait * (1 - shortened)))
