"""Status, executions, changes and cancels of orders, order events live, long history: each as a program against a real
server, its --json or --csv, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import new_client_order_id
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_cli.history import command_to_go_on
from ibkr_gateway_cli.order_changes import terms_now

from tests.cli.conftest import Run, command, lines
from tests.conftest import program

# Bars of several days by the minute: more than a pipe holds that nobody reads, so that it is not over when interrupted.
LONG = ("bars", "AAPL", "--size", "1 min", "--csv")


_CANCEL = ("ORDER_STATE_WORKING", "ORDER_STATE_CANCELLED")


def placed(run: Run, *options: str, limit: str = "10") -> str:
    """The client_order_id of a working order that is too far from the market to fill."""
    key = new_client_order_id()
    arguments = ("place", "buy", "10", "AAPL", "--limit", limit, "--yes", "--client-order-id", key, *options)
    assert lines(run("order", *arguments, "--json"))[0]["client_order_id"] == key
    return key


def status_of(run: Run, key: str) -> dict[str, Any]:
    """How the first leg of an order stands."""
    return lines(run("order", "status", key, "--json"))[0]


def days_ago(days: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=days)).isoformat()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_version_is_of_the_program_the_contract_and_the_server(run: Run, tmp_path: Path, unused_tcp_port: int) -> None:
    (found,) = lines(run("version", "--json"))
    assert found["contract"] == "ibkr_gateway.v1"
    assert {"cli", "server", "broker_library"} <= found.keys()
    alone = command("--port", str(unused_tcp_port), "version", cwd=tmp_path)
    assert alone.returncode == 0
    assert "server" not in alone.stdout
    assert "none answers" in alone.stderr


def test_start_api_is_serve(tmp_path: Path) -> None:
    with program("ibkr_gateway_cli", "start-api", "--mode", "simulation", "--port", "0", cwd=tmp_path) as (_, told):
        port = told.rpartition(":")[2]
        assert command("--port", port, "version", "--server", cwd=tmp_path).returncode == 0


def test_status_shows_trading_session_and_limits(run: Run) -> None:
    done = run("status")
    assert done.returncode == 0, done.stderr
    for word in ("simulation", "READY", "market data lines", "history"):
        assert word in done.stdout
    (found,) = lines(run("status", "--json"))
    assert found["session"]["state"] == "SESSION_STATE_READY"  # type: ignore[index]
    assert {"messages", "history"} <= {limit["name"] for limit in found["limits"]}  # type: ignore[attr-defined]


def test_status_names_each_thing_in_the_way_with_its_remedy(run: Run) -> None:
    assert run("halt", "--comment", "lunch").returncode == 0
    try:
        done = run("status")
        (event,) = lines(run("status", "--watch", "--count", "1", "--json"))
    finally:
        assert run("resume", "--yes").returncode == 0
    assert done.returncode == 0
    assert "TRADING_HALTED" in done.stdout
    assert "lunch" in done.stdout
    (blocker,) = event["status"]["blockers"]  # type: ignore[index]
    assert blocker["remedy"] in " ".join(done.stdout.split())


def test_status_without_a_server_ends_with_3(tmp_path: Path, unused_tcp_port: int) -> None:
    for arguments in (("status",), ("executions",), ("order", "cancel-all", "--yes"), ("order", "watch")):
        done = command("--port", str(unused_tcp_port), *arguments, cwd=tmp_path)
        assert done.returncode == 3
        assert "Next: start the server" in done.stderr


def test_executions_come_as_table_json_and_csv_up_to_the_limit(run: Run) -> None:
    for _ in range(3):
        assert run("order", "place", "buy", "1", "AAPL", "--yes").returncode == 0
    found = lines(run("executions", "--symbol", "AAPL", "--limit", "2", "--json"))
    assert len(found) == 2
    newest = found[0]
    assert str(newest["client_order_id"]) in run("executions").stdout
    table = rows(run("executions", "--order", str(newest["client_order_id"]), "--csv").stdout)
    assert {row["execution_id"] for row in table} >= {newest["execution_id"]}
    assert {(row["symbol"], row["side"], row["price"]) for row in table} == {("AAPL", "BUY", newest["price"])}


def test_executions_refuse_what_is_no_time_and_two_forms_at_once(run: Run) -> None:
    assert run("executions", "--since", "yesterday").returncode == 2
    assert run("executions", "--csv", "--json").returncode == 2
    assert run("executions", "--until", "2001-01-01", "--csv").stdout.count("\n") == 1


def test_a_change_restates_the_order_as_it_is_now(run: Run) -> None:
    key = placed(run)
    done = run("order", "modify", key, "--limit", "11", "--yes")
    assert done.returncode == 0, done.stderr
    assert re.search(r"limit price +10 +11", done.stdout)
    assert re.search(r"modify_id \w{32}", done.stderr)
    # The second change keeps what the first has changed.
    (changed,) = lines(run("order", "modify", key, "--quantity", "5", "--yes", "--json"))
    assert changed["modify_id"]
    status = status_of(run, key)
    assert (status["limit_price"], status["quantity"]) == ("11", "5")


def test_the_same_modify_id_is_one_change(run: Run, tmp_path: Path) -> None:
    key, change = placed(run), new_client_order_id()
    arguments = ("order", "modify", key, "--limit", "12", "--modify-id", change, "--yes", "--json")
    (first,), (second,) = lines(run(*arguments)), lines(run(*arguments))
    assert first["modify_id"] == second["modify_id"] == change
    assert first["status"]["last_sequence"] == second["status"]["last_sequence"]  # type: ignore[index]
    other = run("order", "modify", key, "--limit", "13", "--modify-id", change, "--yes")
    assert other.returncode == 4
    assert change in (tmp_path / "ibkr-gateway" / "orders.jsonl").read_text()


def test_a_leg_of_a_bracket_is_changed_and_the_others_stay(run: Run) -> None:
    key = placed(run, "--take-profit", "400", "--stop-loss", "9")
    assert run("order", "modify", key, "--stop-loss", "8", "--yes").returncode == 0
    assert run("order", "modify", key, "--take-profit", "390", "--yes").returncode == 0
    entry, profit, loss = lines(run("order", "status", key, "--json"))
    assert (entry["limit_price"], profit["limit_price"], loss["stop_price"]) == ("10", "390", "8")


def test_what_ibkr_moves_by_itself_is_no_term_of_the_order() -> None:
    spec = pb.OrderSpec(quantity="10", order_type=pb.ORDER_TYPE_TRAIL, trailing_amount="5")
    leg = pb.OrderStatus(quantity="8", trailing_amount="5", stop_price="251.17", leg_role=pb.LEG_ROLE_ENTRY)
    now = terms_now(pb.Order(spec=spec, legs=[leg]))
    assert now.quantity == "8"
    assert not now.HasField("stop_price")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "nothing to change"),
        (("--limit", "ten", "--yes"), 2, "not a decimal"),
        (("--limit", "11.005", "--yes"), 2, "TICK_SIZE"),
        (("--limit", "11"), 2, "--yes"),
    ],
    ids=str,
)
def test_a_change_that_fails_changes_nothing(run: Run, options: Sequence[str], code: int, said: str) -> None:
    key = placed(run)
    done = run("order", "modify", key, *options, stdin="y\n")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert status_of(run, key)["limit_price"] == "10"


def test_an_order_that_is_not_there_cannot_be_changed(run: Run) -> None:
    assert run("order", "modify", "no-such-order-here", "--limit", "1", "--yes").returncode == 6


def test_at_a_terminal_a_person_is_asked(run: Run, address: str, tmp_path: Path) -> None:
    key = placed(run)
    for question, words, field, old, new in (
        ("Change this order?", ("modify", key, "--limit", "11"), "limit_price", "10", "11"),
        ("Cancel those of them that you placed?", ("cancel-all",), "state", *_CANCEL),
    ):
        for answer, code, value in (("n", 1, old), ("y", 0, new)):
            done = answered(answer, "--port", address.rpartition(":")[2], "order", *words, cwd=tmp_path)
            assert done.returncode == code, done.stderr
            assert question in done.stderr
            assert status_of(run, key)[field] == value
    refused = answered("n", "--port", address.rpartition(":")[2], "order", "place", "buy", "1", "AAPL", cwd=tmp_path)
    assert refused.returncode == 1
    assert "Nothing was placed." in refused.stderr


def test_cancel_all_asks_and_then_tells_the_fate_of_each(run: Run) -> None:
    keys = {placed(run), placed(run)}
    refused = run("order", "cancel-all", stdin="y\n")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert all(key in refused.stdout for key in keys)
    assert status_of(run, min(keys))["state"] == "ORDER_STATE_WORKING"
    (answer,) = lines(run("order", "cancel-all", "--yes", "--json"))
    cancelled = {result["order"].get("client_order_id") for result in answer["results"]}  # type: ignore[attr-defined]
    assert keys <= cancelled
    assert {status_of(run, key)["state"] for key in keys} == {"ORDER_STATE_CANCELLED"}


def test_cancel_all_is_of_an_account_or_of_the_login_and_not_of_both(run: Run) -> None:
    one = placed(run)
    assert run("order", "cancel-all", "--account", "DU7654321", "--yes").returncode in (0, 6)
    assert status_of(run, one)["state"] == "ORDER_STATE_WORKING"
    assert "CANCELLED" in run("order", "cancel-all", "--account", "DU1234567", "--yes").stdout
    assert status_of(run, one)["state"] == "ORDER_STATE_CANCELLED"
    another = placed(run)
    assert run("order", "cancel-all", "--global", "--yes").returncode == 0
    assert status_of(run, another)["state"] == "ORDER_STATE_CANCELLED"
    assert run("order", "cancel-all", "--global", "--account", "DU1234567", "--yes").returncode == 2


def test_watch_tells_where_to_go_on_and_goes_on_there(run: Run) -> None:
    placed(run)
    first = run("order", "watch", "--after", "0", "--count", "2", "--json")
    told = lines(first)
    cursor = json.loads(first.stderr)["resume_after_sequence"]
    assert int(str(told[-1]["sequence"])) == cursor
    second = run("order", "watch", "--after", str(cursor), "--count", "1")
    assert second.returncode == 0
    place = re.search(r"order watch --after (\d+)", second.stderr)
    assert place is not None
    assert int(place[1]) > cursor


def test_one_order_is_watched_by_its_id(run: Run) -> None:
    key, _ = placed(run), placed(run)
    first = run("order", "watch", key, "--after", "0", "--count", "4")
    assert first.returncode == 0, first.stderr
    assert f"order watch {key} --after" in first.stderr
    told = lines(run("order", "watch", key, "--after", "0", "--count", "4", "--json"))
    assert {event["client_order_id"] for event in told} == {key}


def test_an_order_that_there_is_not_is_not_watched_for_ever(run: Run) -> None:
    done = run("order", "watch", "an-order-that-is-not-there")
    assert done.returncode == 6
    assert "ORDER_NOT_FOUND" in done.stderr


def test_watch_is_ended_by_ctrl_c_and_has_told_open_orders_first(run: Run, address: str, tmp_path: Path) -> None:
    key = placed(run)
    port = address.rpartition(":")[2]
    process = started("--port", port, "order", "watch", "--json", cwd=tmp_path)
    assert process.stdout is not None
    while key.encode() not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"resume_after_sequence" in said


def test_long_history_is_csv_json_or_a_table(run: Run) -> None:
    span = ("--size", "1 hour", "--start", days_ago(60), "--end", days_ago(10))
    table = rows(run("bars", "AAPL", *span, "--csv").stdout)
    starts = [row["start"] for row in table]
    assert starts == sorted(set(starts))
    assert days_ago(60) <= starts[0][:10]
    assert starts[-1] < days_ago(10)
    assert len(lines(run("bars", "AAPL", *span, "--json"))) == len(table)
    shown = run("bars", "AAPL", *span)
    assert "AAPL" in shown.stdout
    assert starts[0].replace("T", " ").replace("+00:00", "Z") in shown.stdout
    assert shown.stderr == ""


def test_short_history_is_csv_as_well(run: Run) -> None:
    table = rows(run("bars", "AAPL", "--duration", "1 W", "--csv").stdout)
    assert len(table) >= 4
    assert all(float(row["low"]) <= float(row["close"]) <= float(row["high"]) for row in table)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--end", "2026-01-01"), 2, "--start"),
        (("--resume", "abc"), 2, "--start"),
        (("--start", "once"), 2, "no time"),
        (("--start", "2026-10-01", "--resume", "nonsense"), 2, "resume_token"),
        (("--start", "2026-10-01", "--csv", "--json"), 2, "exclude"),
    ],
    ids=str,
)
def test_long_history_that_cannot_be_is_refused(run: Run, options: Sequence[str], code: int, said: str) -> None:
    done = run("bars", "AAPL", *options)
    assert done.returncode == code
    assert said in done.stderr
    assert "to go on" not in done.stderr


def test_after_ctrl_c_the_command_that_it_tells_gives_the_rest(address: str, run: Run, tmp_path: Path) -> None:
    span = ("--start", days_ago(9), "--end", days_ago(1))
    process = started("--port", address.rpartition(":")[2], *LONG, *span, cwd=tmp_path)
    assert process.stdout is not None
    begun = process.stdout.readline() + process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=30)
    assert process.returncode == 130
    program_name, *arguments = shlex.split(said.decode().strip().splitlines()[-1])
    assert program_name == "ibkr-gateway"
    resumed = command(*arguments, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    whole = run(*LONG, *span)
    assert whole.returncode == 0, whole.stderr
    assert (begun + rest).decode() + resumed.stdout == whole.stdout
    assert resumed.stdout


def test_a_terminal_sees_a_bar_of_the_progress(address: str, tmp_path: Path) -> None:
    mine, its = pty.openpty()
    port = address.rpartition(":")[2]
    arguments = ("bars", "MSFT", "--size", "1 hour", "--csv", "--start", days_ago(60))
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_gateway_cli", "--port", port, *arguments],
        stdout=subprocess.PIPE,
        stderr=its,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(its)
    out, _ = process.communicate(timeout=60)
    seen = os.read(mine, 65536).decode(errors="replace")
    os.close(mine)
    assert process.returncode == 0
    assert re.search(r"\d+/\d+ slices", seen)
    assert "slices" not in out.decode()


def test_the_command_to_go_on_replaces_an_earlier_place() -> None:
    typed = ["--port", "1", "bars", "AAPL", "--size", "1 min", "--resume", "old", "--resume=older"]
    assert command_to_go_on(typed, "new") == "ibkr-gateway --port 1 bars AAPL --size '1 min' --resume new"


def started(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    """A command that is not waited for; nothing read from it line by line is kept from `communicate`."""
    return subprocess.Popen(
        [sys.executable, "-m", "ibkr_gateway_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=cwd,
    )


def answered(answer: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command at whose terminal a person types an answer."""
    mine, its = pty.openpty()
    os.write(mine, f"{answer}\n".encode())
    try:
        return subprocess.run(
            [sys.executable, "-m", "ibkr_gateway_cli", *arguments],
            stdin=its,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, "HOME": str(cwd), "XDG_STATE_HOME": str(cwd)},
            timeout=60,
        )
    finally:
        os.close(its)
        os.close(mine)
