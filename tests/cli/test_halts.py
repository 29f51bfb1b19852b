"""Halt and resume from the command line, against a server of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def run(run_alone: Run) -> Run:
    """Runs a command against a server of its own."""
    return run_alone


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
