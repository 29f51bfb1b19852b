"""The root and its parts say the same, and every part builds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import ibkr_gateway
import ibkr_gateway_cli
import ibkr_gateway_mcp
import ibkr_gateway_server
import pytest
import yaml

ROOT = Path(__file__).parent.parent
PARTS = {"clients/python": "client", "server": "server", "mcp_adapter": "mcp", "cli": "cli"}


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


def test_every_version_is_the_same() -> None:
    versions = {project(folder)["version"] for folder in ("", *PARTS)}
    modules = (ibkr_gateway, ibkr_gateway_server, ibkr_gateway_mcp, ibkr_gateway_cli)
    assert versions | {module.__version__ for module in modules} == {project("")["version"]}


def test_the_root_needs_what_its_parts_need() -> None:
    wanted = {need for folder in PARTS for need in project(folder)["dependencies"] if "ibkr-gateway" not in need}
    assert wanted == set(project("")["dependencies"])


def test_the_command_line_and_the_adapter_depend_on_the_client_alone_of_ours() -> None:
    for folder in ("cli", "mcp_adapter"):
        ours = [need for need in project(folder)["dependencies"] if need.startswith("ibkr-gateway")]
        assert ours == [f"ibkr-gateway-client=={project('')['version']}"]


def test_the_root_cannot_be_uploaded_by_mistake() -> None:
    assert "Private :: Do Not Upload" in project("")["classifiers"]


@pytest.mark.parametrize("folder", ["", *PARTS], ids=lambda folder: folder or "root")
def test_a_part_builds_a_typed_wheel(folder: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT / folder),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packages
    for package in packages:
        assert f"{package}/py.typed" in names
    if "ibkr_gateway" in packages:
        assert "ibkr_gateway/errors.json" in names
        assert "ibkr_gateway/v1/orders_service_pb2.pyi" in names


def test_the_contract_imports_only_protobufs_own_and_itself() -> None:
    for path in (ROOT / "proto").rglob("*.proto"):
        for imported in re.findall(r'^import "(.*?)";', path.read_text(), re.MULTILINE):
            assert imported.startswith(("google/protobuf/", "ibkr_gateway/v1/")), f"{path.name} imports {imported}"


def test_the_workflow_and_hooks_are_readable() -> None:
    for name in (".github/workflows/ci.yml", ".pre-commit-config.yaml"):
        assert yaml.safe_load((ROOT / name).read_text())
