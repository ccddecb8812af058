"""Fills the tables of a MariaDB with tasks that have ended: millions of them in a minute or so."""

from __future__ import annotations

from sqlalchemy import text

from atm.store.database import Database

#: Rows of one statement.
_CHUNK = 100_000
_TASKS = """
INSERT INTO task (task_id, task_type, status, priority, payload, result, worker_id, attempt, retry_count,
    max_retry, timeout_ms, retry_strategy, retry_delay_ms, retry_backoff_rate, retry_max_delay_ms,
    error_message, error_reason, progress, progress_message, created_at, started_at, completed_at, due_at,
    cancel_requested_by, request_id, request_digest)
SELECT CONCAT('01900000-', LPAD(HEX(seq DIV 65536), 4, '0'), '-7000-8000-', LPAD(LOWER(HEX(seq)), 12, '0')),
    IF(seq % 10, 'example_task', 'http_request'), IF(seq % 50, 'SUCCESS', 'FAILED'), seq % 20 = 0,
    '{{"n":"1"}}', '{{"done":"1"}}', CONCAT('worker-', seq % 50), 1, 0, 3, 60000, 'FIXED', 1000, 1, 1000,
    '', '', 1, '', at, at, at, at, '', CONCAT('request-', seq), REPEAT('0', 64)
FROM (SELECT seq, TIMESTAMP('2026-01-01') + INTERVAL seq SECOND AS at FROM seq_{first}_to_{last}) AS numbered
"""
_LOGS = """
INSERT INTO task_log (task_id, log_type, from_status, to_status, message, worker_id, attempt, created_at)
SELECT CONCAT('01900000-', LPAD(HEX(seq DIV 65536), 4, '0'), '-7000-8000-', LPAD(LOWER(HEX(seq)), 12, '0')),
    'STATE_CHANGE', '', 'PENDING', 'task created', '', 0, TIMESTAMP('2026-01-01') + INTERVAL seq SECOND
FROM seq_{first}_to_{last}
"""


def fill(database: Database, count: int, *, first: int = 1, logs: bool = True) -> None:
    """Adds tasks number `first` and on, `count` of them, and a row of history for each."""
    if not count:
        return
    for start in range(first, first + count, _CHUNK):
        last = min(start + _CHUNK, first + count) - 1
        for statement in (_TASKS, _LOGS) if logs else (_TASKS,):
            filled = text(statement.format(first=start, last=last))
            database.write(lambda connection, filled=filled: connection.execute(filled))  # type: ignore[misc]
    database.write(lambda connection: connection.execute(text("ANALYZE TABLE task, task_log")).all())
