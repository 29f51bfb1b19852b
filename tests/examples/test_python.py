"""The examples in Python, run as programs against a server on the simulator."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import connect_sync, market_order, new_client_order_id
from ibkr_gateway.v1 import orders_service_pb2 as pb

from tests.lives import free_port, life

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "options.py")


def run(script: str, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def bought(server: str) -> str:
    """The client_order_id of a share bought on the server."""
    placed = pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=market_order("AAPL", "BUY", 1))
    with connect_sync(server) as gateway:
        gateway.orders.PlaceOrder(placed)
    return placed.client_order_id


def test_there_are_as_many_examples_as_are_run_here() -> None:
    assert SCRIPTS == [
        "bracket_order.py",
        "export_order_history.py",
        "metrics_dashboard.py",
        "query_audit_log.py",
        "watch_quotes.py",
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_says_what_it_is_for(script: str) -> None:
    shown = run(script, "--help")
    assert "--target" in shown
    assert ("--json" in shown) is (script != "bracket_order.py")


def test_the_audit_log_is_queried_by_order_and_kind(server: str, bought: str) -> None:
    shown = objects(run("query_audit_log.py", "--target", server, "--order", bought, "--json"))
    assert {row["client_order_id"] for row in shown} == {bought}
    assert shown[-1]["kind"] == "order.intent"
    table = run("query_audit_log.py", "--target", server, "--kind", "order.intent", "--csv")
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["client_order_id"], row["kind"]) == (bought, "order.intent")
    assert run("query_audit_log.py", "--target", server, "--limit", "2").count("\n") == 2
    assert run("query_audit_log.py", "--target", server, "--until", "2020-01-01") == ""


def test_the_order_history_is_exported_as_csv_and_as_json(server: str, bought: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    run("export_order_history.py", "--target", server, "--output", str(file))
    (row,) = csv.DictReader(io.StringIO(file.read_text()))
    assert (row["client_order_id"], row["symbol"]) == (bought, "AAPL")
    assert objects(run("export_order_history.py", "--target", server, "--json")) == [row]
    assert objects(run("export_order_history.py", "--target", server, "--json", "--symbol", "MSFT")) == []


def test_the_dashboard_shows_the_requests_that_were_made(server: str, bought: str) -> None:
    shown = run("metrics_dashboard.py", "--target", server)
    assert "SIMULATION" in shown
    assert any("PlaceOrder" in line and line.endswith(" 1") for line in shown.splitlines())
    (metrics,) = objects(run("metrics_dashboard.py", "--target", server, "--json"))
    assert {"counters", "histograms", "gauges"} <= set(metrics)


def test_quotes_are_watched_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, str(EXAMPLES / "watch_quotes.py"), "AAPL", "--json", "--target", f"127.0.0.1:{port}"]
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}

    def until(process: subprocess.Popen[str], **wanted: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if wanted.items() <= json.loads(line).items():
                return
        raise AssertionError(process.communicate()[1])

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as watching:
        try:
            for _ in range(2):
                until(watching, reason="GATEWAY_DISCONNECTED")
                with life(port, tmp_path) as (server, _address):
                    until(watching, state="LIVE")
                    server.kill()
        finally:
            watching.terminate()


def test_a_bracket_is_previewed_placed_and_cancelled(server: str) -> None:
    terms = ("AAPL", "1", "--entry", "100", "--take-profit", "400", "--stop-loss", "90", "--target", server)
    shown = run("bracket_order.py", *terms)
    assert ("take profit" in shown, "client_order_id" in shown) == (True, False)
    shown = run("bracket_order.py", *terms, "--yes")
    for role in ("entry", "take profit", "stop loss"):
        assert any(role in line and line.endswith("CANCELLED") for line in shown.splitlines()), shown


def test_a_bracket_that_is_wrong_ends_with_its_reason(server: str) -> None:
    terms = ("NOSUCH", "1", "--take-profit", "400", "--stop-loss", "90", "--target", server)
    assert "CONTRACT_NOT_FOUND" in run("bracket_order.py", *terms, code=1)
