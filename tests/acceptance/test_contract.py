"""The wire contract: names and numbers that existing clients rely on, and a client that knows no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from fix_system import System
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from atm.rpc import task_service_pb2 as pb

ROOT = Path(__file__).parents[2]
OLD_PROTO = Path(__file__).with_name("old_contract.proto")


def _compile(folder: Path, file: Path) -> FileDescriptorProto:
    target = folder / "set"
    assert (
        protoc.main(
            ["", f"-I{file.parent}", f"-I{_well_known()}", f"--descriptor_set_out={target}", str(file)]
        )
        == 0
    )
    return FileDescriptorSet.FromString(target.read_bytes()).file[0]


def _well_known() -> str:
    return str(Path(protoc.__file__).parent / "_proto")


def _fields(file: FileDescriptorProto) -> dict[str, dict[str, tuple[int, int, int, str]]]:
    return {
        message.name: {f.name: (f.number, f.type, f.label, f.type_name) for f in message.field}
        for message in file.message_type
    }


def _forget_json_names(messages: Iterable[DescriptorProto]) -> None:
    """protoc writes them into a descriptor set, and not into code."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _forget_json_names(message.nested_type)


def test_the_contract_of_the_older_service_is_part_of_the_proto(tmp_path: Path) -> None:
    old = _compile(tmp_path, OLD_PROTO)
    new = _compile(tmp_path, ROOT / "proto/task_service.proto")
    assert new.package == old.package == "taskservice"
    known = _fields(new)
    for message, fields in _fields(old).items():
        assert fields.items() <= known[message].items(), message
    methods = {m.name: (m.input_type, m.output_type) for m in new.service[0].method}
    assert {m.name: (m.input_type, m.output_type) for m in old.service[0].method}.items() <= methods.items()
    assert new.service[0].name == "TaskService"


def test_the_committed_code_is_made_from_the_proto(tmp_path: Path) -> None:
    fresh = _compile(tmp_path, ROOT / "proto/task_service.proto")
    committed = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    fresh.name = committed.name
    for file in (fresh, committed):
        _forget_json_names(file.message_type)
    assert fresh == committed, "stale: run `nox -s proto`"


def test_a_client_that_knows_only_the_older_contract_works(system: System, tmp_path: Path) -> None:
    arguments = ["", f"-I{OLD_PROTO.parent}", f"-I{_well_known()}"]
    arguments += [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", str(OLD_PROTO)]
    assert protoc.main(arguments) == 0
    # A process of its own: one process cannot hold both versions of a message.
    script = Path(__file__).with_name("old_client.py")
    run = subprocess.run(
        [sys.executable, str(script), system.address, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip() == "ok"


@pytest.mark.parametrize("name", ["task_service_pb2.py", "task_service_pb2_grpc.py"])
def test_the_generated_code_imports_by_its_package(name: str) -> None:
    text = (ROOT / "atm/rpc" / name).read_text()
    assert "import task_service_pb2" not in text.replace("from atm.rpc import task_service_pb2", "")
