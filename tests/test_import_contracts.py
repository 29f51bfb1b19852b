"""Who may import whom: the contracts of pyproject.toml hold, and each of them notices the import it is there for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("clients/python", "server", "mcp_adapter", "cli")

# contract, the module that gets the import, what it imports
FORBIDDEN = [
    ("packages", "ibkr_gateway_cli.market", "ibkr_gateway_server.settings"),
    ("packages", "ibkr_gateway_mcp", "ibkr_gateway_server.app"),
    ("packages", "ibkr_gateway.connection", "ibkr_gateway_cli.render"),
    ("rooms", "ibkr_gateway_server.domain.errors", "ibkr_gateway_server.settings"),
    ("rooms", "ibkr_gateway_server.credentials.files", "ibkr_gateway_server.settings"),
    ("rooms", "ibkr_gateway_server.broker.session", "ibkr_gateway_server.trading.desk"),
    ("rooms", "ibkr_gateway_server.streams.quotes", "ibkr_gateway_server.trading.desk"),
    ("rooms", "ibkr_gateway_server.simulator.session", "ibkr_gateway_server.domain.errors"),
    ("simulator", "ibkr_gateway_server.broker.session", "ibkr_gateway_server.simulator.listener"),
    ("simulator", "ibkr_gateway_server.__main__", "ibkr_gateway_server.simulator"),
    ("edge", "ibkr_gateway_server.trading.desk", "grpc"),
    ("edge", "ibkr_gateway_server.domain.orders", "google.protobuf.timestamp_pb2"),
    ("edge", "ibkr_gateway_server.streams.orders", "ibkr_gateway.v1.orders_service_pb2"),
    ("edge", "ibkr_gateway_server.simulator.session", "grpc"),
    ("protocol", "ibkr_gateway_cli.market", "mcp"),
    ("protocol", "ibkr_gateway.connection", "uvicorn"),
    ("library", "ibkr_gateway_server.broker.accounts", "ib_async"),
    ("library", "ibkr_gateway_server.simulator.wire", "ib_async.decoder"),
    ("orders", "ibkr_gateway_server.rpc.orders", "ibkr_gateway_server.broker.orders"),
    ("orders", "ibkr_gateway_server.trading.reconcile", "ibkr_gateway_server.broker.orders"),
    ("sql", "ibkr_gateway_server.rpc.audit", "sqlalchemy"),
]


@pytest.fixture
def workbench(tmp_path: Path) -> Path:
    """A copy of the four packages and their contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_contract_holds(workbench: Path) -> None:
    checked = _check(workbench)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(("contract", "importer", "imported"), FORBIDDEN)
def test_a_contract_notices_the_import_it_forbids(workbench: Path, contract: str, importer: str, imported: str) -> None:
    source = _source(workbench, importer)
    source.write_text(f"{source.read_text()}\nimport {imported}\n")
    checked = _check(workbench, "--contract", contract)
    # Modules of other distributions are known by their package alone.
    known = imported if imported.startswith("ibkr_gateway") else imported.partition(".")[0]
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert f"{importer} -> {known}" in checked.stdout


def test_a_room_that_no_layer_names_is_noticed(workbench: Path) -> None:
    (workbench / "server/ibkr_gateway_server/attic.py").write_text('"""A module in no room."""\n')
    checked = _check(workbench, "--contract", "rooms")
    assert checked.returncode == 1
    assert "attic" in checked.stdout


def test_every_contract_is_proven() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert {contract["id"] for contract in settings["contracts"]} == {contract for contract, _, _ in FORBIDDEN}


@pytest.mark.parametrize("room", ["domain", "simulator"])
def test_the_domain_and_the_simulator_need_nothing_but_the_standard_library(room: str) -> None:
    assert _foreign(f"ibkr_gateway_server.{room}") == set()


def test_what_a_room_needs_beyond_the_standard_library_is_seen() -> None:
    assert "sqlalchemy" in _foreign("ibkr_gateway_server.audit")


def _foreign(room: str) -> set[str]:
    graph = grimp.build_graph("ibkr_gateway_server", include_external_packages=True, cache_dir=None)
    imported = {
        name for module in graph.find_descendants(room) for name in graph.find_modules_directly_imported_by(module)
    }
    return {name for name in imported if not name.startswith("ibkr_gateway_server")} - sys.stdlib_module_names


def _check(workbench: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # The copies come before the installed packages; lines are as long as they need to be.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS), "COLUMNS": "400"}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", *options]
    return subprocess.run(command, cwd=workbench, env=environment, capture_output=True, text=True, timeout=60)


def _source(workbench: Path, module: str) -> Path:
    path = next(workbench.glob(f"**/{module.partition('.')[0]}")).parent / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
