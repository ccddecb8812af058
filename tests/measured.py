"""Whether the coverage of processes is measured, and how to keep one out of it.

Python before 3.12, when it traces, stands still from the moment at which an
exception is raised in another thread until that thread takes it: as long as a
call into C, if the thread is in one.
"""

from __future__ import annotations

import os

MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ
#: The environment of a process that is not measured.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
