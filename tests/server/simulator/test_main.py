"""The simulator as a program of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ibkr_gateway_server.simulator.__main__ import main

from tests.conftest import program

MODULE = "ibkr_gateway_server.simulator"


def test_it_says_where_it_listens_and_ends_at_a_signal_with_0(tmp_path: Path) -> None:
    with program(MODULE, "--port", "0", cwd=tmp_path) as (process, address):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0


def test_a_port_in_use_is_named_with_exit_code_69() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", MODULE, "--port", port], capture_output=True, text=True, timeout=20
        )
    assert done.returncode == 69
    assert port in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--port", "70000"],
        ["--port", "x"],
        ["--server-version", "201"],
        ["--speed", "0"],
        ["--account", "DU1:XAU"],
        ["--scenario", "/nowhere/at/all.toml"],
        ["--hours", "sometimes"],
        ["--start", "noon"],
        ["--start", "2026-11-23T14:30:00"],
        ["--tape", "/nowhere/at/all.csv"],
    ],
)
def test_wrong_arguments_are_named_with_exit_code_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 64
    assert arguments[-1] in capsys.readouterr().err


def test_help_explains_every_option() -> None:
    done = subprocess.run([sys.executable, "-m", MODULE, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert "--seed" in done.stdout
    assert "Any TWS API client" in done.stdout or "any TWS API client" in done.stdout


def test_a_wrong_scenario_is_named_by_its_place_with_exit_code_64(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('name = "x"\n\n[[event]]\nat = 1\nfault = "link_list"\n')
    with pytest.raises(SystemExit) as ended:
        main(["--scenario", str(path)])
    assert ended.value.code == 64
    told = capsys.readouterr().err
    assert f"{path}: event 1 (line 3): fault: 'link_list' is none of lose, " in told


def test_a_scenario_that_names_what_is_not_listed_ends_with_64(tmp_path: Path) -> None:
    path = tmp_path / "unlisted.toml"
    path.write_text('[[event]]\nat = 1\nquote = "NOSUCH"\nbid = 1\n')
    command = [sys.executable, "-m", MODULE, "--port", "0", "--scenario", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 64
    assert "event 1 (line 1): NOSUCH STK is not listed" in done.stderr


def test_a_scenario_happens_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text('[[event]]\nat = 0\nfault = "server_version"\nvalue = 176\n')
    with program(MODULE, "--port", "0", "--scenario", str(path), cwd=tmp_path) as (_, address):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"API\0\x00\x00\x00\x09v100..200")
            assert connection.recv(100)[4:8] == b"176\0"


def test_a_tape_is_played_from_its_beginning(tmp_path: Path) -> None:
    tape = tmp_path / "tape.csv"
    # As a spreadsheet saves it, with a mark before the heading.
    rows = "time,symbol,bid,ask,last\n2025-03-03T14:30:00Z,AAPL,241.79,241.80,241.80\n"
    tape.write_text(rows, encoding="utf-8-sig")
    with program(MODULE, "--port", "0", "--tape", str(tape), cwd=tmp_path) as (_, address):
        host, _, port = address.rpartition(":")
        with Raw(host, int(port)) as client:
            client.say("49", "1")
            # A few seconds may have passed.
            assert 1741012200 <= int(client.hear("49")[2]) < 1741012200 + 60
            client.say("1", "11", "7", "265598", *[""] * 6, "SMART", *[""] * 4, "0", "", "1", "0", "")
            assert client.hear("1")[3:5] == ["1", "241.79"]


def test_it_begins_when_and_with_the_hours_that_are_asked_for(tmp_path: Path) -> None:
    # Thanksgiving: nobody bids.
    options = ("--start", "2026-11-26T17:00:00Z", "--hours", "exchange")
    with program(MODULE, "--port", "0", *options, cwd=tmp_path) as (_, address):
        host, _, port = address.rpartition(":")
        with Raw(host, int(port)) as client:
            client.say("49", "1")
            assert 1795712400 <= int(client.hear("49")[2]) < 1795712400 + 60
            client.say("1", "11", "7", "265598", *[""] * 6, "SMART", *[""] * 4, "0", "", "1", "0", "")
            assert client.hear("1")[3:5] == ["1", "-1"]


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ("2025-03-03T14:30:00Z,NOSUCH,1,2,1\n", "what is not listed: NOSUCH"),
        ("2025-03-03T14:30:00Z,AAPL,2,1,1\n", "line 2: the bid 2 is not below the ask 1"),
    ],
)
def test_a_tape_that_cannot_be_played_is_named_with_exit_code_64(tmp_path: Path, rows: str, cause: str) -> None:
    tape = tmp_path / "tape.csv"
    tape.write_text(f"time,symbol,bid,ask,last\n{rows}")
    command = [sys.executable, "-m", MODULE, "--port", "0", "--tape", str(tape)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 64
    assert cause in done.stderr


class Raw:
    """A client that has connected, in raw fields over TCP."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(b"API\0" + (9).to_bytes(4, "big") + b"v157..200")
        self._frame()
        self.say("71", "2", "1", "")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()
        self._socket.close()

    def say(self, *fields: str) -> None:
        payload = "".join(f"{field}\0" for field in fields).encode()
        self._socket.sendall(len(payload).to_bytes(4, "big") + payload)

    def hear(self, message_id: str) -> list[str]:
        """The next message of a kind."""
        while (fields := self._frame())[0] != message_id:
            pass
        return fields

    def _frame(self) -> list[str]:
        length = int.from_bytes(self._stream.read(4), "big")
        return self._stream.read(length).decode().split("\0")[:-1]
