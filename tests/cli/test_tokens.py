"""Tokens from their making to their use: the command line against a server with TLS and tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ibkr_gateway import Tls
from ibkr_gateway_server.credentials.tokens import load_tokens
from ibkr_gateway_server.domain.scopes import Scope

from tests.certificates import Authority
from tests.cli.conftest import Run, command, ready_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tokens, made by the command; the server's file of them, and its certificate."""
    path = tmp_path_factory.mktemp("server")
    lines = ""
    for name, scopes in (("reader", ["read"]), ("trader", ["read", "preview", "trade"]), ("boss", ["read", "admin"])):
        options = [option for scope in scopes for option in ("--scope", scope)]
        made = command("token", "create", name, *options, "--out", f"{name}.token", cwd=path)
        assert made.returncode == 0, made.stderr
        lines += made.stdout
    (path / "tokens.toml").touch(0o600)
    (path / "tokens.toml").write_text(lines)
    Authority(path).issue("server")
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A server with TLS and tokens."""
    settings = {"TOKENS_FILE": "tokens.toml", "TLS_CERT_FILE": "server.pem", "TLS_KEY_FILE": "server.key"}
    tls = Tls(folder / "authority.pem")
    with ready_server(folder, tls=tls, token_file=folder / "reader.token", **settings) as at:
        yield at


@pytest.fixture
def run(address: str, folder: Path) -> Run:
    """Runs a command against the server, over TLS."""
    port = address.rpartition(":")[2]
    return lambda *arguments, **environment: command(
        "--port", port, "--tls-ca", "authority.pem", *arguments, cwd=folder, **environment
    )


def test_a_token_is_shown_once_and_the_server_knows_its_hash(tmp_path: Path) -> None:
    made = command("token", "create", "bot", "--scope", "read", "--scope", "trade", "--json", cwd=tmp_path)
    shown = json.loads(made.stdout)
    assert shown["token"] not in shown["toml"]
    (tmp_path / "tokens.toml").write_text(shown["toml"])
    caller = load_tokens(tmp_path / "tokens.toml").caller(shown["token"])
    assert (caller.name, caller.scopes) == ("bot", {Scope.READ, Scope.TRADE})


def test_a_token_of_its_own_file_is_not_shown_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = command("token", "create", "bot", "--scope", "read", "--out", "bot.token", cwd=tmp_path)
    token = (tmp_path / "bot.token").read_text().strip()
    assert token not in made.stdout + made.stderr
    assert (tmp_path / "bot.token").stat().st_mode & 0o777 == 0o600
    again = command("token", "create", "bot", "--scope", "read", "--out", "bot.token", cwd=tmp_path)
    assert again.returncode == 2
    assert (tmp_path / "bot.token").read_text().strip() == token


def test_two_tokens_are_never_the_same(tmp_path: Path) -> None:
    made = [command("token", "create", "bot", "--scope", "read", cwd=tmp_path).stdout for _ in range(2)]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("bot",),
        ("bot", "--scope", "root"),
        ("a b", "--scope", "read"),
        ("bot", "--scope", "read", "--expires", "tomorrow"),
        ("bot", "--scope", "read", "--expires", "20270101"),
    ],
)
def test_a_token_that_the_server_would_not_read_is_not_made(arguments: tuple[str, ...], tmp_path: Path) -> None:
    made = command("token", "create", *arguments, cwd=tmp_path)
    assert made.returncode == 2
    assert made.stdout == ""


def test_a_token_in_its_file_lets_in(run: Run) -> None:
    assert run("--token-file", "reader.token", "positions").returncode == 0
    assert run("positions", IBKR_GATEWAY_TOKEN_FILE="reader.token").returncode == 0


def test_without_a_token_it_says_where_to_name_one(run: Run) -> None:
    done = run("positions")
    assert done.returncode == 4
    assert "TOKEN_MISSING" in done.stderr
    assert "--token-file" in done.stderr


def test_a_scope_that_is_missing_ends_with_4(run: Run) -> None:
    done = run("--token-file", "reader.token", "order", "place", "buy", "1", "AAPL", "--yes")
    assert done.returncode == 4
    assert "SCOPE_MISSING" in done.stderr
    placed = run("--token-file", "trader.token", "order", "place", "buy", "1", "AAPL", "--yes")
    assert placed.returncode == 0, placed.stderr


def test_a_healthcheck_needs_no_token(run: Run) -> None:
    assert run("healthcheck").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--token-file", "missing.token"), "missing.token cannot be read"),
        (("--tls-ca", "missing.pem"), "missing.pem cannot be read"),
        (("--token-file", "tokens.toml"), "a token is 32 to 256"),
        (("--tls-ca", "", "--tls-key", "server.key"), "need --tls-ca"),
        (("--tls-key", "server.key"), "needs its key"),
    ],
)
def test_a_file_that_is_none_ends_with_2_and_is_named(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, "positions")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_file_that_others_can_read_is_not_used(run: Run, folder: Path) -> None:
    open_to_all = folder / "open.token"
    open_to_all.write_text((folder / "reader.token").read_text())
    open_to_all.chmod(0o644)
    done = run("--token-file", "open.token", "positions")
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_a_token_is_not_sent_to_another_machine_in_plain_text(folder: Path) -> None:
    done = command("--host", "192.0.2.1", "--token-file", "reader.token", "positions", cwd=folder)
    assert done.returncode == 2
    assert "plain text" in done.stderr
