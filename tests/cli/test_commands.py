"""Every command as a program against a real server: what it shows, its --json, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from ibkr_gateway_cli.__main__ import app
from ibkr_gateway_cli.session import EXIT_CODES

from tests.cli.conftest import Run, command, lines
from tests.conftest import program


def test_quote_shows_a_row_for_each_instrument(run: Run) -> None:
    done = run("quote", "AAPL", "MES:FUT", "EUR.USD", "SPX:IND")
    assert done.returncode == 0, done.stderr
    for name in ("AAPL", "MESZ6", "EUR.USD", "SPX", "bid", "ask"):
        assert name in done.stdout
    assert "\x1b[" not in done.stdout


def test_quote_as_json_is_one_result_a_line(run: Run) -> None:
    one, two = lines(run("quote", "AAPL", "AAPLL", "--json"))
    assert one["quote"]["instrument"]["symbol"] == "AAPL"  # type: ignore[index]
    assert two["error"]["error_code"] == "CONTRACT_NOT_FOUND"  # type: ignore[index]


def test_quote_of_nothing_known_says_why_and_ends_with_6(run: Run) -> None:
    done = run("quote", "AAPLL")
    assert done.returncode == 6
    assert "AAPLL" in done.stdout


def test_quote_watch_streams_for_a_pipe_as_events(run: Run) -> None:
    events = lines(run("quote", "AAPL", "--watch", "--count", "3", "--json"))
    assert sum("quote" in event for event in events) >= 3
    sequences = [int(str(event["sequence"])) for event in events]
    assert sequences == sorted(set(sequences))


def test_quote_watch_without_a_terminal_is_a_line_a_change(run: Run) -> None:
    done = run("quote", "AAPL", "--watch", "--count", "3")
    assert done.returncode == 0
    assert all("  AAPL  bid " in line for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) >= 3


def test_ctrl_c_ends_a_watch_with_130(address: str, tmp_path: Path) -> None:
    port = address.rpartition(":")[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_gateway_cli", "--port", port, "quote", "AAPL", "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_search_finds_symbols_and_ends_with_6_when_there_are_none(run: Run) -> None:
    done = run("search", "apple")
    assert done.returncode == 0, done.stderr
    for word in ("265598", "AAPL", "NASDAQ", "APPLE INC", "OPT"):
        assert word in done.stdout
    (found,) = lines(run("search", "apple", "--json"))
    assert found["description"] == "APPLE INC"
    assert run("search", "NOSUCH").returncode == 6


def test_chain_counts_expiries_and_strikes_and_has_each_as_json(run: Run) -> None:
    done = run("chain", "AAPL", "--exchange", "SMART")
    assert done.returncode == 0, done.stderr
    (listed,) = lines(run("chain", "AAPL", "--exchange", "SMART", "--json"))
    expiries, strikes = listed["expiries"], listed["strikes"]
    assert f"{len(expiries)}: {expiries[0]} … {expiries[-1]}" in done.stdout  # type: ignore[arg-type,index]
    assert f"{len(strikes)}: {strikes[0]} … {strikes[-1]}" in done.stdout  # type: ignore[arg-type,index]
    assert run("chain", "AAPLL").returncode == 6
    assert run("chain", "EUR.USD").returncode == 6


def test_sigterm_to_the_launcher_ends_the_program_it_has_launched(tmp_path: Path) -> None:
    with program("ibkr_gateway_cli", "simulate", "--port", "0", cwd=tmp_path) as (process, told):
        host, _, port = told.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


def test_bars_are_a_table_or_json(run: Run) -> None:
    done = run("bars", "AAPL", "--size", "1 day", "--duration", "1 M")
    assert re.search(r"\d{4}-\d{2}-\d{2}", done.stdout)
    assert len(lines(run("bars", "AAPL", "--json"))) >= 19


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--size", "7 mins"), "1 min"),
        (("--duration", "forever"), "1 W"),
        (("--show", "NOTHING"), "MIDPOINT"),
    ],
)
def test_bars_with_a_bad_word_name_those_that_are_right(run: Run, arguments: tuple[str, str], said: str) -> None:
    done = run("bars", "AAPL", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_account_and_positions(run: Run) -> None:
    assert "net liquidation" in run("account").stdout
    assert {row["instrument"]["symbol"] for row in lines(run("positions", "--json"))} >= {"SPY", "MES"}  # type: ignore[index]
    assert "MESZ6" in run("positions").stdout
    (summary,) = lines(run("account", "--json"))
    assert float(str(summary["net_liquidation"])) > 0
    done = run("account", "--account", "U7654321")
    assert done.returncode == 6
    assert "ACCOUNT_NOT_FOUND" in done.stderr


def test_an_order_from_preview_to_cancel(run: Run) -> None:
    assert "IBKR's what-if" in run("order", "preview", "buy", "10", "AAPL").stdout
    (preview,) = lines(run("order", "preview", "buy", "10", "AAPL", "--json"))
    assert preview["margin_source"] == "MARGIN_SOURCE_BROKER_WHATIF"
    (placed,) = lines(run("order", "place", "buy", "10", "AAPL", "--limit", "10.00", "--yes", "--json"))
    key = str(placed["client_order_id"])
    (status,) = lines(run("order", "status", key, "--json"))
    assert status["state"] == "ORDER_STATE_WORKING"
    assert key in run("order", "list").stdout
    assert "CANCELLED" in run("order", "cancel", key).stdout
    assert key not in run("order", "list").stdout
    assert key in run("order", "list", "--all").stdout
    assert "WORKING" in run("order", "events", "--order", key).stdout
    events = lines(run("order", "events", "--order", key, "--json"))
    assert events[-1]["client_order_id"] == key


def test_the_id_of_an_order_is_shown_and_kept_before_it_leaves(run: Run, tmp_path: Path) -> None:
    done = run("order", "place", "buy", "1", "AAPL", "--yes")
    assert done.returncode == 0, done.stderr
    key = re.search(r"client_order_id (\w+)", done.stderr)
    assert key is not None
    assert key[1] in (tmp_path / "ibkr-gateway" / "orders.jsonl").read_text()


def test_the_same_id_is_the_same_order(run: Run) -> None:
    arguments = (
        "order",
        "place",
        "buy",
        "1",
        "AAPL",
        "--limit",
        "10",
        "--yes",
        "--json",
        "--client-order-id",
        "k" * 20,
    )
    (first,), (second,) = lines(run(*arguments)), lines(run(*arguments))
    assert first["order_id"] == second["order_id"]
    conflict = run("order", "place", "buy", "2", "AAPL", "--limit", "10", "--yes", "--client-order-id", "k" * 20)
    assert conflict.returncode == 4
    assert "CLIENT_ORDER_ID_CONFLICT" in conflict.stderr


def test_without_a_terminal_nothing_is_placed_unless_yes_is_given(run: Run) -> None:
    before = len(lines(run("order", "list", "--all", "--json")))
    done = run("order", "place", "buy", "1", "AAPL", stdin="y\n")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(lines(run("order", "list", "--all", "--json"))) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("place", "buy", "-1", "AAPL", "--yes"), 2, ""),
        (("place", "hold", "1", "AAPL", "--yes"), 2, "neither buy nor sell"),
        (("place", "buy", "ten", "AAPL", "--yes"), 2, "not a decimal"),
        (("place", "buy", "1", "AAPL", "--limit", "187.305", "--yes"), 2, "TICK_SIZE"),
        (("place", "buy", "1", "AAPLL", "--yes"), 6, "CONTRACT_NOT_FOUND"),
        (("place", "buy", "10000000", "AAPL", "--yes"), 4, ""),
        (("status", "no-such-order-here"), 6, "ORDER_NOT_FOUND"),
        (("cancel", "no-such-order-here"), 6, "ORDER_NOT_FOUND"),
    ],
)
def test_an_order_that_fails_has_its_class_of_exit_code(
    run: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = run("order", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_errors_as_json_have_the_flat_shape_on_stderr(run: Run) -> None:
    done = run("order", "status", "no-such-order-here", "--json")
    error = json.loads(done.stderr)
    assert error["error_code"] == "ORDER_NOT_FOUND"
    assert "correlation_id" in error["details"]
    assert done.stdout == ""


def test_healthcheck_and_version(run: Run) -> None:
    done = run("healthcheck")
    assert done.returncode == 0
    assert "simulation" in done.stdout
    (health,) = lines(run("healthcheck", "--json"))
    assert health["status"] == "HEALTH_STATUS_OK"
    assert "cli 0.1.0" in run("version").stdout
    (versions,) = lines(run("version", "--server", "--json"))
    assert str(versions["broker_library"]).startswith("ib_async")


@pytest.mark.parametrize(
    ("arguments", "code"), [(("healthcheck",), 69), (("quote", "AAPL"), 3), (("version", "--server"), 3)]
)
def test_without_a_server_it_says_how_to_start_one(
    arguments: tuple[str, ...], code: int, tmp_path: Path, unused_tcp_port: int
) -> None:
    done = command("--port", str(unused_tcp_port), *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert str(unused_tcp_port) in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def refusing_server() -> Iterator[int]:
    """A server that knows nobody. Gives its port."""

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        raise AssertionError

    handler = grpc.unary_unary_rpc_method_handler(refuse)
    service = grpc.method_handlers_generic_handler("ibkr_gateway.v1.GatewayService", {"GetHealth": handler})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


def test_healthcheck_of_a_server_that_refuses_the_caller_ends_with_77(tmp_path: Path) -> None:
    with refusing_server() as port:
        assert command("--port", str(port), "healthcheck", cwd=tmp_path).returncode == 77


def test_paper_and_live_are_a_guard_and_exclude_each_other(run: Run) -> None:
    assert run("--paper", "positions").returncode == 0
    for arguments in (
        ("--live", "positions"),
        ("positions", "--live"),
        ("--live", "version"),
        ("--live", "healthcheck"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 4
        assert "not live" in refused.stderr
        assert refused.stdout == ""
    assert run("--paper", "--live", "positions").returncode == 2


@pytest.mark.parametrize(("name", "said"), [("serve", "--mode"), ("start-api", "--mode"), ("simulate", "--seed")])
def test_starting_commands_explain_their_own_options(name: str, said: str, tmp_path: Path) -> None:
    done = command(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert said in done.stdout


def test_serve_passes_exit_codes_on(tmp_path: Path) -> None:
    assert command("serve", "--mode", "paper", "--broker-port", "4001", cwd=tmp_path).returncode == 78


def test_serve_ends_with_the_signal_it_gets(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_gateway_cli", "simulate", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on ")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_help_names_every_command_and_exit_code(tmp_path: Path) -> None:
    done = command("--help", cwd=tmp_path)
    for name in (
        "serve",
        "simulate",
        "healthcheck",
        "version",
        "demo",
        "quote",
        "bars",
        "search",
        "chain",
        "account",
        "positions",
        "pnl",
        "depth",
        "metrics",
        "order",
    ):
        assert name in done.stdout
    flat = " ".join(done.stdout.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in flat
    assert all((command.help or (command.callback and command.callback.__doc__)) for command in app.registered_commands)


def test_the_command_line_starts_without_loading_the_server(tmp_path: Path) -> None:
    program_text = (
        "import sys, ibkr_gateway_cli.__main__; "
        "print([name for name in sys.modules if name.startswith(('ib_', 'ibkr_gateway_server'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program_text], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert done.stdout.strip() == "[]"
