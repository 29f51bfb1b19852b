"""What tests of commands share: one server for all of them, and each command as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ibkr_gateway import Tls, connect_sync
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb

from tests.cli.forked import run_forked
from tests.conftest import program

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `ibkr-gateway` in an environment of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    own = {"HOME": str(cwd), "XDG_STATE_HOME": str(cwd)}
    return run_forked(arguments, cwd, {**kept, **own, **environment}, stdin)


@contextmanager
def ready_server(
    cwd: Path, *, tls: Tls | None = None, token_file: Path | None = None, **environment: str
) -> Iterator[str]:
    """The address of a server on the simulator, READY, whose record is in `cwd`."""
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "ERROR")
    with program("ibkr_gateway_server", *arguments, cwd=cwd, **environment) as (_, at):
        with connect_sync(at, tls=tls or False, token_file=token_file) as gateway:
            for response in gateway.gateway.WatchSession(gateway_pb.WatchSessionRequest(), timeout=20):
                if response.status.state == common_pb2.SESSION_STATE_READY:
                    break
        yield at


def against(address: str, cwd: Path) -> Run:
    """Runs commands in a folder against the server there."""
    port = address.rpartition(":")[2]
    return lambda *arguments, **options: command("--port", port, *arguments, cwd=cwd, **options)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all commands."""
    with ready_server(tmp_path_factory.mktemp("server")) as at:
        yield at


@pytest.fixture
def run(address: str, tmp_path: Path) -> Run:
    """Runs a command against the server."""
    return against(address, tmp_path)


@pytest.fixture
def run_alone(tmp_path: Path) -> Iterator[Run]:
    """Runs a command against a server of its own, in whose folder it runs."""
    with ready_server(tmp_path) as at:
        yield against(at, tmp_path)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """What a command has printed with --json."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
