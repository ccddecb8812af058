"""What gRPC logs of the faults of callers: a line now and then, instead of a traceback for each call."""

from __future__ import annotations

import logging

from atm.logs import Occasionally

_LOG_SECONDS = 60.0
#: gRPC's own logger.
_LOGGER = "grpc._cython.cygrpc"
#: How its lines begin, and what is said instead.
_FAULTS = {
    # It goes on with the value in Latin-1, and so does the call.
    "Invalid encoding on": "values of metadata were not UTF-8",
    "ExecuteBatchError raised in core": "answers could not be sent: their callers were gone",
}


class CallersFaults(logging.Filter):
    """A filter of gRPC's own logger; other lines pass as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._says = {begin: Occasionally(_LOG_SECONDS) for begin in _FAULTS}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; one of a caller's fault is changed then."""
        begin = next((begin for begin in _FAULTS if str(record.msg).startswith(begin)), None)
        if begin is None:
            return True
        count = self._says[begin].count()
        record.msg, record.args = "%d %s; the last: %.200s", (count, _FAULTS[begin], record.getMessage())
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return count > 0


def log_occasionally() -> None:
    """From here on this process says so now and then."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(one, CallersFaults) for one in logger.filters):
        logger.addFilter(CallersFaults())
