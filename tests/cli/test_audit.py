"""The record from the command line, against a server of its own."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Run, against, ready_server


@pytest.fixture
def run(run_alone: Run) -> Run:
    """Runs a command against a server of its own."""
    return run_alone


def place(run: Run) -> None:
    placed = run("order", "place", "buy", "1", "AAPL", "--limit", "10.00", "--yes")
    assert placed.returncode == 0, placed.stderr


def test_the_record_is_asked_exported_and_checked(run: Run, tmp_path: Path) -> None:
    place(run)
    (intent,) = map(json.loads, run("audit", "query", "--kind", "order.intent", "--json").stdout.splitlines())
    assert json.loads(intent["body_json"])["spec"]["limit_price"] == "10.00"
    shown = run("audit", "query", "--order", intent["client_order_id"], "--limit", "2")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count(intent["client_order_id"]) == 2
    assert not run("audit", "query", "--until", "2020-01-01", "--json").stdout
    exported = run("audit", "export", "--symbol", "AAPL", "--since", "2020-01-01")
    (row,) = csv.DictReader(io.StringIO(exported.stdout))
    assert (row["client_order_id"], row["limit_price"]) == (intent["client_order_id"], "10.00")
    assert run("audit", "export", "--output", "orders.csv").returncode == 0
    assert (tmp_path / "orders.csv").read_text() == exported.stdout
    again = run("audit", "export", "--output", "orders.csv")
    assert (again.returncode, "orders.csv cannot be written" in again.stderr) == (2, True)
    assert run("audit", "query", "--since", "yesterday").returncode == 2
    verified = run("audit", "verify")
    assert verified.returncode == 0, verified.stdout
    assert "events are as they were written" in verified.stdout
    assert run("audit", "accept-rollback", "--yes").returncode == 2


def test_verify_names_the_first_event_that_was_changed_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    place(run)
    with closing(sqlite3.connect(tmp_path / "data" / "simulation.db")) as database, database:
        database.execute("DROP TRIGGER events_are_final")
        database.execute("UPDATE events SET body_json = '{}' WHERE sequence = 2")
    done = run("audit", "verify")
    assert (done.returncode, done.stdout) == (1, "Event 2 was changed, removed or slipped in.\n")
    told = run("audit", "verify", "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["first_bad_sequence"] == "2"
    assert run("audit", "accept-rollback", "--yes").returncode == 1


def test_an_old_backup_is_taken_only_by_one_who_says_so(tmp_path: Path) -> None:
    record = tmp_path / "data" / "simulation.db"
    with ready_server(tmp_path) as address:
        run = against(address, tmp_path)
        place(run)
    shutil.copy(record, tmp_path / "backup.db")
    with ready_server(tmp_path) as address:
        run = against(address, tmp_path)
        place(run)
    shutil.copy(tmp_path / "backup.db", record)
    with ready_server(tmp_path) as address:
        run = against(address, tmp_path)
        refused = run("order", "place", "buy", "1", "AAPL", "--limit", "10.00", "--yes")
        assert refused.returncode == 4
        assert "AUDIT_ROLLED_BACK" in refused.stderr
        asked = run("audit", "accept-rollback")
        assert (asked.returncode, "no terminal to ask at" in asked.stderr) == (2, True)
        accepted = run("audit", "accept-rollback", "--yes", "--comment", "compared with the statement")
        assert accepted.returncode == 0, accepted.stderr
        assert "events are lost" in accepted.stdout
        (event,) = map(json.loads, run("audit", "query", "--kind", "rollback.accepted", "--json").stdout.splitlines())
        assert json.loads(event["body_json"])["comment"] == "compared with the statement"
        place(run)
        assert run("audit", "verify").returncode == 0
