"""What tests of commands share: one server for all of them, and each command as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ibkr_gateway import connect_sync
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb

from tests.conftest import program

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `ibkr-gateway` in an environment of its own."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "ibkr_gateway_cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, "HOME": str(cwd), "XDG_STATE_HOME": str(cwd)},
        input=stdin,
        timeout=60,
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all commands."""
    cwd = tmp_path_factory.mktemp("server")
    with program("ibkr_gateway_server", "--mode", "simulation", "--port", "0", "--log-level", "ERROR", cwd=cwd) as (
        _,
        at,
    ):
        with connect_sync(at) as gateway:
            for response in gateway.gateway.WatchSession(gateway_pb.WatchSessionRequest(), timeout=20):
                if response.status.state == common_pb2.SESSION_STATE_READY:
                    break
        yield at


@pytest.fixture
def run(address: str, tmp_path: Path) -> Run:
    """Runs a command against the server."""
    port = address.rpartition(":")[2]
    return lambda *arguments, **options: command("--port", port, *arguments, cwd=tmp_path, **options)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """What a command has printed with --json."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
