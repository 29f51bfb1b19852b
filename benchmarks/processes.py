"""The processes of a measurement, each on its core (a firehose, a server, a client), and what they took."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.harness import ROOT, cores, pin

# A client says so when its warm-up is over and it has begun to count.
BEGIN = "begin"
START_S = 30.0


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
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline())["sent"])


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
        _wait_until_ready(started.port)
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

            began = process.stdout.readline()
            before = metered() if began.strip() == BEGIN else {}
            told = process.stdout.readline()
            after = metered() if told else {}
            process.communicate(timeout=60)
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
    return subprocess.Popen(
        [sys.executable, "-m", *module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
        preexec_fn=lambda: pin(core),
    )


def _wait_until_ready(port: int) -> None:
    """Until the session with the broker stands."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    until = time.monotonic() + START_S
    asked = health_pb2.HealthCheckRequest(service="ibkr_gateway.v1.MarketDataService")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        while (
            health.Check(asked, timeout=START_S, wait_for_ready=True).status != health_pb2.HealthCheckResponse.SERVING
        ):
            if time.monotonic() > until:
                raise RuntimeError("the gateway is not ready")
            time.sleep(0.05)
