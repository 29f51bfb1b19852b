"""Halt and resume from the command line, against a server of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ibkr_gateway import connect_sync
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from tests.conftest import program

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs a command against the server."""
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "ERROR")
    with program("ibkr_gateway_server", *arguments, cwd=tmp_path) as (_, address):
        with connect_sync(address) as gateway:
            for response in gateway.gateway.WatchSession(pb.WatchSessionRequest(), timeout=20):
                if response.status.state == common_pb2.SESSION_STATE_READY:
                    break
        environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        yield lambda *arguments: subprocess.run(
            [sys.executable, "-m", "ibkr_gateway_cli", "--port", address.rpartition(":")[2], *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
            timeout=60,
        )


def test_a_halt_from_its_beginning_to_its_end(run: Run) -> None:
    placed = run("order", "place", "buy", "1", "AAPL", "--limit", "10.00", "--yes")
    assert placed.returncode == 0, placed.stderr
    halted = run("halt", "--comment", "prices look wrong")
    assert halted.returncode == 0, halted.stderr
    assert re.search(r"halted: BLOCK_NEW since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ; cancels requested: 0", halted.stdout)
    refused = run("order", "place", "buy", "1", "AAPL", "--yes")
    assert refused.returncode == 4
    assert "TRADING_HALTED" in refused.stderr
    assert "ibkr-gateway resume --yes" in refused.stderr
    asked = run("resume")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    harder = json.loads(run("halt", "--level", "cancel-own", "--json").stdout)
    assert harder["status"]["halt_level"] == "HALT_LEVEL_CANCEL_OWN"
    assert harder["status"]["halt_comment"] == "prices look wrong"
    assert harder["cancel_requested_count"] == 1
    assert run("resume", "--yes").stdout == "resumed; orders are sent\n"
    assert run("order", "place", "buy", "1", "AAPL", "--yes").returncode == 0


def test_resuming_says_why_orders_still_wait(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "HALT").touch()
    refused = run("resume", "--yes")
    assert refused.returncode == 4
    assert "TRADING_HALTED" in refused.stderr
    (tmp_path / "data" / "HALT").unlink()
    resumed = json.loads(run("resume", "--yes", "--json").stdout)
    assert resumed["status"]["can_send_orders"] is True


def test_a_level_that_is_none_ends_with_2(run: Run) -> None:
    assert run("halt", "--level", "gently").returncode == 2
