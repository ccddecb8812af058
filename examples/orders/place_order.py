"""Hands over an order and waits for its receipt: `python place_order.py`, while `atm up` runs."""

from atm.client import Client

with Client() as client:
    task = client.create_task("charge", {"customer": "Ada", "amount": 42}, priority="high")
    print(task.task_id, task.status)
    done = client.wait_for_task(
        task.task_id, timeout=30, on_change=lambda seen: print(f"{seen.progress:4.0%}")
    )
    print(done.status, done.result)
    for row in client.get_task_logs(done.task_id):
        print(row.created_at, row.log_type, row.to_status, row.message)
