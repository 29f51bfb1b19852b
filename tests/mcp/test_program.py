"""The adapter as a program: how it starts, what it says when it cannot, and who may reach it by HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_mcp import __version__
from mcp import Client, StdioServerParameters

from tests.callers import TokenFile
from tests.conftest import MakeGateway
from tests.mcp.conftest import Agent, served

NOBODY = "127.0.0.1:1"
TOKEN = "0123456789abcdef0123456789abcdef0123456789a"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program until it ends; its input is empty."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "ibkr_gateway_mcp", *arguments],
        input="",
        capture_output=True,
        text=True,
        env={**kept, **environment},
        timeout=60,
    )


def private(path: Path, text: str) -> str:
    path.touch(0o600)
    path.write_text(text)
    return str(path)


async def test_without_a_gateway_it_says_so_and_lists_its_tools() -> None:
    command = StdioServerParameters(command=sys.executable, args=["-m", "ibkr_gateway_mcp", "--target", NOBODY])
    async with Client(command) as client:
        agent = Agent(client)
        assert len((await client.list_tools()).tools) == 18
        refusal = await agent.refusal("get_quote", symbol="AAPL")
        assert refusal["error_code"] == "GATEWAY_UNREACHABLE"
        assert "ibkr-gateway serve" in refusal["details"]["next_step"]
        assert (await agent.refusal("place_order", **TERMS))["error_code"] == "GATEWAY_UNREACHABLE"


TERMS = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "order_type": "MKT"}


def test_the_log_says_which_gateway_does_not_answer_and_stdout_stays_empty() -> None:
    ended = run(IBKR_GATEWAY_TARGET=NOBODY)
    assert (ended.returncode, ended.stdout) == (0, "")
    (line,) = [json.loads(line) for line in ended.stderr.splitlines() if "does not answer" in line]
    assert line["level"] == "ERROR"
    assert line["target"] == NOBODY
    assert "IBKR_GATEWAY_TARGET" in line["message"]


def test_the_log_says_to_which_gateway_it_is_a_client(server: str) -> None:
    ended = run("--target", server)
    (line,) = [json.loads(line) for line in ended.stderr.splitlines() if '"connected"' in line]
    assert line["target"] == server
    assert line["gateway"]["trading_mode"] == "SIMULATION"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--http", "nowhere"], 64, "HOST:PORT"),
        (["--orders-per-minute", "many"], 64, "0 to 1000"),
        (["--orders-per-minute", "2.5"], 64, "whole number"),
        (["--allowed-host", "desk.lan"], 78, "need --http"),
        (["--unknown"], 64, "usage:"),
        (["--http", "0.0.0.0:0"], 78, "--http-token-file"),
        (["--token-file", "/nowhere"], 78, "/nowhere"),
        (["--tls-cert", "/nowhere"], 78, "--tls-ca"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_on_stderr(arguments: list[str], code: int, said: str) -> None:
    ended = run("--target", NOBODY, *arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr


def test_help_and_version() -> None:
    assert run("--version").stdout.strip() == __version__
    shown = run("--help")
    assert (shown.returncode, shown.stdout) == (0, "")
    for option in ("--target", "--token-file", "--http", "--read-only", "--orders-per-day"):
        assert option in shown.stderr


async def test_a_token_file_is_shown_to_the_gateway(make_gateway: MakeGateway, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml")
    shown = private(tmp_path / "token", tokens.issue("reader", "read"))
    gateway = await make_gateway(tokens_file=tokens.path)
    arguments = ["-m", "ibkr_gateway_mcp", "--target", gateway.running.target]
    async with Client(StdioServerParameters(command=sys.executable, args=arguments)) as client:
        refusal = await Agent(client).refusal("get_quote", symbol="AAPL")
        assert (refusal["error_code"], "--token-file" in refusal["details"]["next_step"]) == ("TOKEN_MISSING", True)
    environment = {**os.environ, "IBKR_GATEWAY_TOKEN_FILE": shown}
    async with Client(StdioServerParameters(command=sys.executable, args=arguments, env=environment)) as client:
        assert (await Agent(client).call("get_quote", symbol="AAPL"))["instrument"]["symbol"] == "AAPL"
        assert "place_order" not in {tool.name for tool in (await client.list_tools()).tools}


def post(url: str, headers: dict[str, str]) -> int:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    wanted = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, wanted), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def test_http_clients_must_show_the_token_where_one_is_set(tmp_path: Path) -> None:
    shown = private(tmp_path / "token", TOKEN)
    with served("--target", NOBODY, "--http-token-file", shown) as url:
        for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            assert post(url, wrong) == 401
        assert post(url, {"Authorization": f"Bearer {TOKEN}"}) not in (401, 403, 421)


def test_http_answers_to_names_that_were_allowed() -> None:
    with served("--target", NOBODY, "--allowed-host", "desk.local:8000") as url:
        assert post(url, {"Host": "desk.local:8000"}) not in (403, 421)
        assert post(url, {"Host": "desk.local:8001"}) == 421
        assert post(url, {"Origin": "https://desk.local:8000"}) not in (403, 421)
        assert post(url.replace("127.0.0.1", "localhost"), {}) not in (403, 421)


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = await asyncio.to_thread(run, "--target", NOBODY, "--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert ended.returncode == 78
    assert "cannot start" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_while_it_waits_for_its_client(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_gateway_mcp", "--target", NOBODY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first: dict[str, Any] = json.loads(await asyncio.to_thread(process.stderr.readline))
    assert first["level"] == "ERROR"
    process.send_signal(number)
    out, _ = await asyncio.to_thread(process.communicate, timeout=20)
    assert out == ""
    assert process.returncode in (0, -signal.SIGTERM)
