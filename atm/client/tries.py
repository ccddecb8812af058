"""When a client makes a call again that the server had no room for: the same for both clients.

Only decisions, no calls and no sleeping. gRPC's own retries cannot do it: they
know codes only, and a message that is too large has the same one.
"""

from __future__ import annotations

import random
import time

from atm.errors import ExhaustedError, ServiceError

#: Each pause is so many times the one before.
_GROWTH = 1.5
#: ... and longer by up to this share, so that those who were turned away together do not come back together.
_SPREAD = 0.5


class Tries:
    """The tries of one call, which together may take `deadline` seconds; only one where not `patient`."""

    def __init__(self, deadline: float, *, patient: bool) -> None:
        self._end = time.monotonic() + deadline
        self._patient = patient
        self._factor = 1.0
        #: The seconds to wait before the next try.
        self.pause = 0.0

    def left(self) -> float:
        """The seconds that the next try may take."""
        return self._end - time.monotonic()

    def another(self, error: ServiceError) -> bool:
        """Whether to try again, after `pause`: the server has asked for that, and there is the time."""
        if not self._patient or not has_no_room(error) or error.retry_after is None:
            return False
        self.pause = error.retry_after * self._factor * random.uniform(1, 1 + _SPREAD)
        self._factor *= _GROWTH
        return self.left() > self.pause


def has_no_room(error: ServiceError) -> bool:
    """Whether a server turned the call away for now, and did nothing of it."""
    return isinstance(error, ExhaustedError) and error.retry_after is not None
