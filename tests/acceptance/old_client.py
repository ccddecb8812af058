"""A client of the older contract: `old_client.py ADDRESS FOLDER-OF-GENERATED-CODE`. Prints ok."""

from __future__ import annotations

import sys
import time

import grpc

sys.path.insert(0, sys.argv[2])
import old_contract_pb2 as pb
import old_contract_pb2_grpc


def main() -> None:
    """Creates, follows, lists, reads and cancels."""
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = old_contract_pb2_grpc.TaskServiceStub(channel)
        task = stub.CreateTask(pb.CreateTaskRequest(task_type="echo", priority=1, payload={"a": "b"})).task
        assert (task.status, task.priority, dict(task.payload)) == ("PENDING", 1, {"a": "b"})
        end = time.monotonic() + 20
        while (task := stub.GetTask(pb.GetTaskRequest(task_id=task.task_id)).task).status != "SUCCESS":
            assert time.monotonic() < end, task
            time.sleep(0.05)
        assert dict(task.result) == {"a": "b"}
        assert task.completed_at.ToNanoseconds() >= task.started_at.ToNanoseconds() > 0
        rows = stub.GetTaskLogs(pb.GetTaskLogsRequest(task_id=task.task_id)).logs
        first = rows[0]
        assert (first.log_type, first.from_status, first.to_status) == ("STATE_CHANGE", "", "PENDING")
        assert [row.to_status for row in rows] == ["PENDING", "PROCESSING", "SUCCESS"]
        answer = stub.CancelTask(pb.CancelTaskRequest(task_id=task.task_id))
        assert not answer.success
        assert "SUCCESS" in answer.message
        listed = stub.ListTasks(pb.ListTasksRequest(status="SUCCESS", priority=-1, page=1, page_size=5))
        assert task.task_id in [item.task_id for item in listed.tasks]
        assert listed.total >= 1
    print("ok")


main()
