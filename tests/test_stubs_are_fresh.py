"""What is generated from proto/ and committed is what the generator makes of it today."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from ibkr_gateway.v1 import error_reason_pb2 as pb
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "clients" / "python"
STUBS = CLIENT / "ibkr_gateway" / "v1"
REASONS: list[dict[str, Any]] = json.loads((CLIENT / "ibkr_gateway" / "errors.json").read_text())


def test_the_generator_makes_what_is_committed(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_stubs.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    made = _contents(tmp_path)
    committed = {name: text for name, text in _contents(CLIENT).items() if name in made or _is_generated(name)}
    assert sorted(committed) == sorted(made), "run make proto, and remove stubs whose proto is gone"
    assert [name for name in made if made[name] != committed[name]] == [], "run make proto"


@pytest.mark.parametrize(
    ("file", "pattern", "package"),
    [
        ("common_pb2.py", r"Protobuf Python Version: (\S+)", "protobuf"),
        ("audit_service_pb2_grpc.py", r"GRPC_GENERATED_VERSION = '(\S+)'", "grpcio"),
    ],
)
def test_stubs_run_on_the_oldest_version_that_we_allow(file: str, pattern: str, package: str) -> None:
    found = re.search(pattern, (STUBS / file).read_text())
    floor = re.search(rf'"{package}>=([\d.]+)', (CLIENT / "pyproject.toml").read_text())
    assert found
    assert floor
    assert Version(found[1]) <= Version(floor[1]) <= Version(version(package))


def test_every_error_reason_is_listed_once() -> None:
    listed = {f"ERROR_REASON_{entry['reason']}": entry["number"] for entry in REASONS}
    assert len(listed) == len(REASONS)
    assert listed == {name: number for name, number in pb.ErrorReason.items() if number}


@pytest.mark.parametrize("entry", REASONS, ids=lambda entry: str(entry["reason"]))
def test_an_error_reason_says_its_status_what_it_means_and_how_it_looks(entry: dict[str, Any]) -> None:
    assert entry["status"] in grpc.StatusCode.__members__
    assert entry["description"].endswith(".")
    assert entry["example"].keys() == {"reason", "domain", "metadata"}
    assert (entry["example"]["reason"], entry["example"]["domain"]) == (entry["reason"], "ibkr-gateway")
    assert all(isinstance(value, str) for value in entry["example"]["metadata"].values())


def _contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def _is_generated(name: str) -> bool:
    return name.startswith("ibkr_gateway/v1/")
