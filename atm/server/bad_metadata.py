"""What gRPC logs of metadata that is no text: a line now and then instead of a traceback for each call."""

from __future__ import annotations

import logging

from atm.logs import Occasionally

_LOG_SECONDS = 60.0
#: Where gRPC says so, and how it begins. It goes on with the value in Latin-1, and so does the call.
_LOGGER = "grpc._cython.cygrpc"
_SAID = "Invalid encoding on"


class BadMetadata(logging.Filter):
    """A filter of gRPC's own logger; other lines pass."""

    def __init__(self) -> None:
        super().__init__()
        self._says = Occasionally(_LOG_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; it is changed then."""
        if not str(record.msg).startswith(_SAID):
            return True
        count = self._says.count()
        record.msg, record.args = (
            "%d values of metadata were not UTF-8; the last: %.100r",
            (count, record.args),
        )
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return count > 0


def log_occasionally() -> None:
    """From here on this process says so now and then."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(one, BadMetadata) for one in logger.filters):
        logger.addFilter(BadMetadata())
