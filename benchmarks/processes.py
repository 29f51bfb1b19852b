"""The processes of a measurement, each on its core (a firehose, a server, a client), and what they took."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from grpc_health.v1 import health_pb2

from benchmarks.clients.http2 import Grpc, connect
from benchmarks.harness import ROOT, cores, pin

# A client says so when its warm-up is over and it has begun to count.
BEGIN = "begin"
START_S = 30.0
# What takes longer than this does not end.
LONGEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens."""

    process: subprocess.Popen[str]
    port: int

    def cpu_s(self) -> float:
        """Processor time of all its threads since it began, by the operating system."""
        import psutil

        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def memory_kib(self) -> float:
        """What it holds of the machine's memory: its resident set."""
        import psutil

        return float(psutil.Process(self.process.pid).memory_info().rss) / 1024

    def sent(self) -> int:
        """Of a firehose: the ticks that it has sent so far."""
        return int(self._told()["sent"])

    def placed(self) -> list[float]:
        """Of a firehose: when it read each order, on the clock that all processes share, in seconds."""
        return [float(moment) for moment in self._told()["placed"]]

    def _told(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told


@contextmanager
def server(
    core: set[int], module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A module as a process of its own that prints the port it listens on. Its working folder is new and empty, so that
    no settings are found there; what it writes to standard error goes to a file, as a service's does."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        process = _spawn(core, [module, *arguments], folder, environment, errors)
        try:
            assert process.stdout is not None
            with _at_most(START_S, process):
                line = process.stdout.readline()
            match = re.search(r":(\d+)\s*$", line)
            if match is None:
                process.kill()
                errors.seek(0)
                raise RuntimeError(f"{module} did not start: {line!r}\n{errors.read()[-2000:]}")
            yield Server(process, int(match[1]))
        finally:
            process.terminate()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@contextmanager
def firehose(rate: float) -> Iterator[Server]:
    """A simulated IB Gateway that sends so many ticks a second over all lines; on the clients' core."""
    with server(cores()[1], "benchmarks.firehose", "--rate", str(rate)) as started:
        yield started


@contextmanager
def gateway(
    broker_port: int, module: str = "ibkr_gateway_server", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Our server as it is shipped, on the measured core, connected to this broker and ready."""
    settings = {
        "IBKR_MODE": "paper",
        "IBKR_GATEWAY_PORT": str(broker_port),
        "ALLOW_PORT_MISMATCH": "true",
        "GRPC_PORT": "0",
        "AUDIT_DB_PATH": "audit.db",
    }
    with server(cores()[0], module, environment={**settings, **(environment or {})}) as started:
        asyncio.run(_wait_until_ready(started.port))
        yield started


def watched(
    module: str, *arguments: object, meter: Callable[[], Mapping[str, float]] = dict, core: set[int] | None = None
) -> dict[str, float]:
    """Run a client to its end. Its figures are the JSON line that it prints; beside them is by how much `meter`'s have
    changed from the moment it began to count until then, and the client's own processor time ("client")."""
    command = [f"benchmarks.clients.{module}", *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as errors:
        process = _spawn(cores()[1] if core is None else core, command, ROOT, None, errors)
        try:
            assert process.stdout is not None
            client = Server(process, 0)

            def metered() -> dict[str, float]:
                return {**meter(), "client": client.cpu_s()}

            with _at_most(LONGEST_S, process):
                began = process.stdout.readline()
                before = metered() if began.strip() == BEGIN else {}
                told = process.stdout.readline()
                after = metered() if told else {}
                process.communicate()
        finally:
            process.kill()
            process.wait()
        if not told or process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{module} failed: {began}{errors.read()[-2000:]}")
    found: dict[str, float] = json.loads(told)
    return found | {name: after[name] - value for name, value in before.items()}


def _spawn(
    core: set[int],
    module: Sequence[str],
    folder: Path | str,
    environment: Mapping[str, str] | None,
    errors: IO[Any],
) -> subprocess.Popen[str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
    )
    # From here and not in the child before it begins: this process may have threads, and code between fork and exec may
    # then wait for ever. Its own threads, later ones, inherit it.
    pin(core, process.pid)
    return process


@contextmanager
def _at_most(seconds: float, process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process that takes longer; whoever reads from it sees its end."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


async def _wait_until_ready(port: int) -> None:
    """Until the session with the broker stands.

    Not by the gRPC library: a process that has used it must not fork, and this one forks for every run.
    """
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    asked = health_pb2.HealthCheckRequest(service="ibkr_gateway.v1.MarketDataService").SerializeToString()
    async with asyncio.timeout(START_S):
        connection = await connect(port, Grpc(lambda _stream, message: answers.put_nowait(message)))
        # The stream begins with the state and goes on with its changes.
        connection.call("/grpc.health.v1.Health/Watch", asked)
        state = None
        while state != health_pb2.HealthCheckResponse.SERVING:
            state = health_pb2.HealthCheckResponse.FromString(await answers.get()).status
    connection.close()
