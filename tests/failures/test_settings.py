"""Settings that are not safe: the program does not start, and says which setting and what would be allowed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from ibkr_gateway import connect_sync
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from tests.certificates import Authority, Identity
from tests.conftest import program

# In the program under test: whoever binds or connects a socket ends it at once, with a code that nothing else has.
NO_SOCKETS = """
import os, sys
def no_sockets(event, _arguments):
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo"):
        os._exit(99)
sys.addaudithook(no_sockets)
"""
LIVE = {"TRADING_MODE": "live", "ORDERS_ENABLED": "true", "MAX_NOTIONAL": "1000", "MAX_SIZE_PER_SYMBOL": "10"}
TOKEN = "0123456789abcdef0123456789abcdef0123456789a"

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Starts the server with settings that must end it, and gives what it said. No socket is opened, no file made."""
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "sitecustomize.py").write_text(NO_SOCKETS)

    def start(**settings: str | Path) -> str:
        cwd = tmp_path / "cwd"
        cwd.mkdir(exist_ok=True)
        before = sorted(cwd.iterdir())
        environment = {name: str(value) for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-m", "ibkr_gateway_server"],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "watched"), **environment},
            timeout=30,
        )
        assert done.returncode == 78, done.stderr
        assert done.stdout == ""
        assert sorted(cwd.iterdir()) == before
        return done.stderr

    return start


def private(path: Path, text: str = "") -> Path:
    """A file that is its owner's alone."""
    path.touch(0o600)
    path.write_text(text)
    return path


def tokens_of(path: Path, sha256: str = hashlib.sha256(TOKEN.encode()).hexdigest()) -> Path:
    return private(path, f'[tokens.strategy]\nsha256 = "{sha256}"\nscopes = ["read"]\n')


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Authority(tmp_path).issue("server")


def test_the_program_that_must_not_open_sockets_is_ended_when_it_does(tmp_path: Path, refused: Refused) -> None:
    with pytest.raises(AssertionError):
        refused(IBKR_MODE="simulation", GRPC_PORT="0", AUDIT_DB_PATH=tmp_path / "audit.db")


@pytest.mark.parametrize("value", ["Live", "live ", "", "lvie"])
def test_F01_a_mode_that_is_misspelt(refused: Refused, value: str) -> None:
    """`TRADING_MODE` is `Live`, `LIVE`, `live` with a blank, empty or misspelt.

    The server ends with 78 before it opens a socket, and says that `TRADING_MODE` must be `paper` or `live`.
    """
    said = refused(TRADING_MODE=value)
    assert "TRADING_MODE: Input should be 'paper' or 'live'" in said
    assert not value or value not in said.replace("'live'", "")


@pytest.mark.parametrize("name", ["IBKR_ACCOUNTS", "LIVE_TRADING_OVERRIDE"])
def test_F01_a_variable_that_is_no_setting(refused: Refused, name: str) -> None:
    """A variable begins like our settings and is none, as `IBKR_ACCOUNTS`.

    The server ends with 78 before it opens a socket, names the variable, and the setting that is likely meant.
    """
    said = refused(**{name: "hunter2"})
    assert f"{name}: is not a setting" in said
    assert "hunter2" not in said


def test_F01_a_misspelt_setting_in_the_file(refused: Refused, tmp_path: Path) -> None:
    """A line of `.env` has a name like a setting's, as `MAX_NOTINAL`; others of other programs are beside it.

    The server ends with 78 before it opens a socket, and asks whether `MAX_NOTIONAL` is meant; it ignores the others.
    """
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / ".env").write_text("MAX_NOTINAL=1000\nTWS_USERID=hunter2\n")
    said = refused()
    assert "MAX_NOTINAL: is not a setting; is MAX_NOTIONAL meant?" in said
    assert "TWS_USERID" not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("ORDERS_ENABLED", value) for value in ("yes", "1", "TRUE", "", "garbage")), ("ALLOW_PORT_MISMATCH", "on")],
)
def test_F02_a_switch_that_is_neither_true_nor_false(refused: Refused, name: str, value: str) -> None:
    """`ORDERS_ENABLED`, or another switch, is `yes`, `1`, `TRUE`, `on`, empty or garbage.

    The server ends with 78 before it opens a socket, and says that the switch must be true or false.
    """
    assert f"{name}: must be true or false" in refused(**{name: value})


@pytest.mark.parametrize(("mode", "port"), [("paper", "4001"), ("paper", "7496"), ("live", "4002")])
def test_F03_the_port_of_the_other_mode(refused: Refused, mode: str, port: str) -> None:
    """The port is the one that TWS or IB Gateway has in the other mode.

    The server ends with 78 before it opens a socket, and names `IBKR_GATEWAY_PORT`, `TRADING_MODE` and the switch
    `ALLOW_PORT_MISMATCH` for whoever means it.
    """
    said = refused(TRADING_MODE=mode, IBKR_GATEWAY_PORT=port)
    assert "IBKR_GATEWAY_PORT: is usually the other mode's port" in said
    assert "ALLOW_PORT_MISMATCH=true" in said
    assert port not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("MAX_NOTIONAL", value) for value in ("-1", "NaN", "")), ("MAX_SIZE_PER_SYMBOL", "0"), ("MAX_NOTIONAL", "inf")],
)
def test_F04_a_limit_that_limits_nothing(refused: Refused, name: str, value: str) -> None:
    """A limit is negative, zero, not a number or infinite.

    The server ends with 78 before it opens a socket, and says what the limit must be.
    """
    assert f"{name}: Input should be" in refused(**{name: value})


@pytest.mark.parametrize("missing", ["MAX_NOTIONAL", "MAX_SIZE_PER_SYMBOL", "LIVE_TRADING_OVERRIDE_FILE"])
def test_F04_live_orders_without_a_limit(refused: Refused, tmp_path: Path, missing: str) -> None:
    """Live orders are enabled and a limit, or the file that allows them, is missing.

    The server ends with 78 before it opens a socket, and names what live orders need.
    """
    settings = {**LIVE, "LIVE_TRADING_OVERRIDE_FILE": str(private(tmp_path / "override"))}
    del settings[missing]
    assert f"{missing}: live orders need" in refused(**settings)


@pytest.mark.parametrize(
    ("host", "has"),
    [("0.0.0.0", "nothing"), ("0.0.0.0", "tokens"), ("::", "tls"), ("gateway.example", "nothing")],
)
def test_F05_other_machines_without_tls_and_tokens(
    refused: Refused, tmp_path: Path, identity: Identity, host: str, has: str
) -> None:
    """The address to listen on is reached from other machines, and TLS or the tokens are missing.

    The server ends with 78 before it opens a socket, and says which of the two is missing.
    """
    given = {
        "nothing": {},
        "tokens": {"TOKENS_FILE": tokens_of(tmp_path / "tokens.toml")},
        "tls": {"TLS_CERT_FILE": identity.cert, "TLS_KEY_FILE": identity.key},
    }[has]
    said = refused(GRPC_HOST=host, **given)
    assert "GRPC_HOST: other machines are served only with" in said
    assert ("TLS_CERT_FILE" in said) is (has != "tls")
    assert ("TOKENS_FILE" in said) is (has != "tokens")
    assert host not in said


def _readable_by_all(path: Path) -> Path:
    path.chmod(0o644)
    return path


def _readable_by_the_group(path: Path) -> Path:
    path.chmod(0o640)
    return path


def _linked(path: Path) -> Path:
    link = path.with_name(f"link-to-{path.name}")
    link.symlink_to(path)
    return link


def _missing(path: Path) -> Path:
    path.unlink()
    return path


@pytest.mark.parametrize(
    ("expose", "allowed"),
    [
        (_readable_by_all, "must be its owner's alone: chmod 600"),
        (_linked, "must be the file itself, not a link to it"),
        (_missing, "must name a file that is there"),
    ],
)
@pytest.mark.parametrize("name", ["TOKENS_FILE", "LIVE_TRADING_OVERRIDE_FILE", "TLS_KEY_FILE"])
def test_F06_a_file_that_is_not_its_owners_alone(
    refused: Refused, tmp_path: Path, identity: Identity, name: str, expose: Callable[[Path], Path], allowed: str
) -> None:
    """The file of tokens, the one that allows live orders or the key of TLS can be read by others, is a link, or is
    missing.

    The server ends with 78 before it opens a socket, names the setting, and says `chmod 600`.
    """
    path, settings = {
        "TOKENS_FILE": (tokens_of(tmp_path / "tokens.toml"), {}),
        "LIVE_TRADING_OVERRIDE_FILE": (private(tmp_path / "override"), LIVE),
        "TLS_KEY_FILE": (identity.key, {"TLS_CERT_FILE": identity.cert}),
    }[name]
    said = refused(**settings, **{name: expose(path)})
    assert f"{name}: {allowed}" in said
    assert str(tmp_path) not in said


@pytest.mark.parametrize(
    ("suffix", "expose"), [(".db", _readable_by_the_group), (".db", _linked), (".key", _readable_by_all)]
)
def test_F06_a_record_that_is_not_its_owners_alone(
    refused: Refused, tmp_path: Path, suffix: str, expose: Callable[[Path], Path]
) -> None:
    """The record's database or its key can be read by others, or is a link.

    The server ends with 78 before it opens a socket or the record, and names `AUDIT_DB_PATH`.
    """
    exposed = expose(private(tmp_path / f"audit{suffix}"))
    said = refused(AUDIT_DB_PATH=exposed.with_suffix(".db"))
    assert f"AUDIT_DB_PATH: the record's {suffix} must be" in said


@pytest.mark.parametrize("written", [TOKEN, ""])
def test_F06_a_token_that_is_short_or_written_down_itself(refused: Refused, tmp_path: Path, written: str) -> None:
    """The file of tokens has a token itself, a short one, or none, where the token's SHA-256 must be.

    The server ends with 78 before it opens a socket, names the entry, and repeats nothing of the token. A token of less
    than 32 characters is never accepted, whatever its hash.
    """
    said = refused(TOKENS_FILE=tokens_of(tmp_path / "tokens.toml", written))
    assert "TOKENS_FILE: strategy.sha256 must be the SHA-256 of a token" in said
    assert not written or written not in said


def test_F07_the_key_of_another_certificate(refused: Refused, tmp_path: Path) -> None:
    """`TLS_KEY_FILE` is the key of another certificate than `TLS_CERT_FILE`.

    The server ends with 78 before it opens a socket, and says that the two must belong together.
    """
    authority = Authority(tmp_path)
    said = refused(TLS_CERT_FILE=authority.issue("server").cert, TLS_KEY_FILE=authority.issue("other").key)
    assert "TLS_KEY_FILE: must be the key of the certificate in TLS_CERT_FILE" in said


def test_F07_a_certificate_that_has_expired(refused: Refused, tmp_path: Path) -> None:
    """The server's certificate has expired.

    The server ends with 78 before it opens a socket, and says so: clients would refuse it.
    """
    expired = Authority(tmp_path).issue("server", valid_for=timedelta(seconds=-1))
    said = refused(TLS_CERT_FILE=expired.cert, TLS_KEY_FILE=expired.key)
    assert "TLS_CERT_FILE: its certificate has expired" in said


@pytest.mark.parametrize("name", ["TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"])
def test_F07_half_of_tls(refused: Refused, identity: Identity, name: str) -> None:
    """Only one of the files of TLS is set.

    The server ends with 78 before it opens a socket, and names what is missing: it never serves without TLS by mistake.
    """
    said = refused(**{name: identity.key if name == "TLS_KEY_FILE" else identity.cert})
    assert "TLS_" in said
    assert "needs" in said


def test_F08_settings_changed_while_it_runs(tmp_path: Path) -> None:
    """A limit and the tokens are changed in their files while the server runs.

    It goes on with those it was started with: status and callers see no difference. The log names each file that was
    changed, and `GetMetrics` has their number as `settings_changed_files`.
    """
    (tmp_path / ".env").write_text("MAX_NOTIONAL=1000\nTOKENS_FILE=tokens.toml\n")
    tokens_of(tmp_path / "tokens.toml")
    with ExitStack() as stack:
        arguments = ("--mode", "simulation", "--port", "0")
        process, address = stack.enter_context(program("ibkr_gateway_server", *arguments, cwd=tmp_path))
        client = stack.enter_context(connect_sync(address, token=TOKEN))
        (tmp_path / ".env").write_text("MAX_NOTIONAL=1000000\nTOKENS_FILE=tokens.toml\n")
        (tmp_path / "tokens.toml").write_text("")
        assert process.stderr is not None
        lines = (line for line in process.stderr if "not used before a restart" in line)
        told = next(lines) + next(lines)
        assert '"changed": ".env"' in told
        assert '"changed": "TOKENS_FILE"' in told
        status = client.gateway.GetTradingStatus(pb.GetTradingStatusRequest()).status
        assert status.max_notional == "1000"
        gauges = client.gateway.GetMetrics(pb.GetMetricsRequest()).gauges
        assert {gauge.name: gauge.value for gauge in gauges}["settings_changed_files"] == 2
