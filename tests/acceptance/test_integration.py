"""The tests for a real IB Gateway work: here against the simulator, which is a program of its own as IB Gateway is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import program

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/integration", *arguments]
    kept = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=110)


@pytest.mark.slow
@pytest.mark.parametrize("orders_enabled", ["false", "true"])
def test_they_pass_where_there_is_a_gateway(orders_enabled: str, tmp_path: Path) -> None:
    with program("ibkr_gateway_server.simulator", "--port", "0", cwd=tmp_path) as (_, address):
        port = address.rpartition(":")[2]
        done = run("-m", "integration", IBKR_GATEWAY_PORT=port, ORDERS_ENABLED=orders_enabled)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_they_are_left_out_unless_they_are_asked_for() -> None:
    done = run("-m", "not slow")
    assert "6 deselected" in done.stdout
