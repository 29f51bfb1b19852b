"""What tests share: a whole gateway on the real simulator, in this process or as a program of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ibkr_gateway import AsyncGateway, connect
from ibkr_gateway_server.app import Running, running
from ibkr_gateway_server.broker.session import SessionTimings
from ibkr_gateway_server.rpc.server import SESSION
from ibkr_gateway_server.settings import load_settings
from ibkr_gateway_server.trading.desk import DeskTimings

# A shell without job control starts what is in the background deaf to Ctrl-C, and so would be what the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Short waits, so that a test of a lost connection takes a moment; a test that needs others says so.
FAST = SessionTimings(backoff_floor_s=0.0, first_backoff_s=0.01, backoff_limit_s=0.05, connect_timeout_s=2.0)


@dataclass
class Gateway:
    """A gateway and a client connected to it."""

    running: Running
    client: AsyncGateway

    @property
    def simulator(self) -> Any:
        """The simulator behind it."""
        assert self.running.simulator is not None
        return self.running.simulator


MakeGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def make_gateway(tmp_path: Path) -> AsyncIterator[MakeGateway]:
    """Starts gateways in this process; keyword arguments are settings."""
    async with AsyncExitStack() as stack:

        async def make(
            *, session_timings: SessionTimings = FAST, desk_timings: DeskTimings | None = None, **settings: Any
        ) -> Gateway:
            chosen = {"ibkr_mode": "simulation", "grpc_port": 0, "audit_db_path": tmp_path / "audit.db", **settings}
            made = running(
                load_settings(chosen, env_file=None),
                session_timings=session_timings,
                desk_timings=desk_timings,
                drain_s=2.0,
            )
            started = await stack.enter_async_context(made)
            await started.session.wait_until_ready(10)
            client = await stack.enter_async_context(connect(started.target, timeout_s=10.0))
            return Gateway(started, client)

        yield make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway in simulation."""
    return await make_gateway()


async def eventually(condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
    """Returns once the condition holds; fails when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@contextmanager
def program(module: str, *arguments: str, cwd: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """One of our programs as a process, with the address it said it listens on; ended with the context."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**kept, **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise AssertionError(f"{module} did not start: {process.communicate(timeout=10)}")
        yield process, line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def starting_server(tmp_path: Path) -> Iterator[str]:
    """The address of a server on the simulator that is a process of its own; its session may not be there yet."""
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "ERROR")
    with program("ibkr_gateway_server", *arguments, cwd=tmp_path) as (_, address):
        yield address


@pytest.fixture
def server(starting_server: str) -> str:
    """The address of a server on the simulator that is a process of its own, with a session that is READY."""
    request = health_pb2.HealthCheckRequest(service=SESSION)
    with grpc.insecure_channel(starting_server) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for told in stub.Watch(request, timeout=60):
            if told.status == health_pb2.HealthCheckResponse.SERVING:
                return starting_server
    raise AssertionError("the session of the server did not become READY")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped: what is missing there is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
