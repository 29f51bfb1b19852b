"""Builds the examples of other languages and runs each against a server on the simulator of its own. `make examples`.

Last of all the MCP Inspector lists the adapter's tools and calls one, as docs/mcp.md tells its readers to.

A language whose tools are not on this machine is skipped, and said to be; with CI=true it is a failure. What is built
is kept, in the folders that each language's .gitignore names. Usage: run_examples.py [LANGUAGE...]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent
SERVER = (sys.executable, "-m", "ibkr_gateway_server")
# The service that the server's health calls serving once its session with the simulator is READY.
READY = health_pb2.HealthCheckRequest(service="ibkr_gateway.v1.OrdersService")
RUN_S, BUILD_S, START_S = 120, 1200, 60

# By go install, at a version that is pinned here, since it is a program and no library of an example.
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
GRPCURL_FOLDER = EXAMPLES / "go" / "bin"


@dataclass(frozen=True)
class Example:
    """How one language is built and run, in examples/<language>."""

    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    """The address of the server follows, or takes the place of ADDRESS."""


EXAMPLE_OF = {
    "typescript": Example(
        ("node", "npm"),
        (("npm", "run", "--silent", "build"),),
        ("npm", "start", "--silent", "--", "ADDRESS"),
    ),
    "go": Example(
        ("go",),
        (("buf", "generate"), ("go", "build", "-buildvcs=false", "-o", "bin/example", ".")),
        ("bin/example", "ADDRESS"),
    ),
    "java": Example(
        ("javac", "mvn"),
        (("mvn", "-q", "-B", "-Dstyle.color=never", "compile"),),
        ("mvn", "-q", "-B", "-Dstyle.color=never", "exec:java", "-Dexec.args=ADDRESS"),
    ),
    "rust": Example(
        ("cargo",),
        (("cargo", "build", "--quiet", "--locked"),),
        ("target/debug/ibkr-gateway-example", "ADDRESS"),
    ),
}

# The newest that runs on Node 20.
INSPECTOR = "@modelcontextprotocol/inspector@0.15.0"

# What every example says, in this order: all that it is there to show.
SHOWN = ("quote ", "error CONTRACT_NOT_FOUND", "preview ", "the same id again: the same order", "WORKING", "CANCELLED")


def main(wanted: Sequence[str]) -> int:
    """Builds and runs what is wanted, by default everything; the number of those that failed."""
    if unknown := set(wanted) - {*EXAMPLE_OF, "inspector"}:
        print(f"there is no example {', '.join(sorted(unknown))}: {', '.join([*EXAMPLE_OF, 'inspector'])}", flush=True)
        return len(unknown)
    failed = sum(not _attempt(name, example) for name, example in EXAMPLE_OF.items() if not wanted or name in wanted)
    if not wanted or "go" in wanted:
        failed += not _cookbook()
    if not wanted or "inspector" in wanted:
        failed += not _inspector()
    return failed


def _attempt(name: str, example: Example) -> bool:
    missing = [tool for tool in example.tools if shutil.which(tool) is None]
    if missing:
        return _skipped(name, missing[0])
    folder = EXAMPLES / name
    began = time.monotonic()
    print(f"=== {name}: building", flush=True)
    try:
        if name == "typescript" and _is_behind(
            folder / "node_modules/.package-lock.json", folder / "package-lock.json"
        ):
            _do(("npm", "ci", "--silent"), folder)
        for command in example.build:
            _do(command, folder)
        print(f"=== {name}: built in {time.monotonic() - began:.0f} s; running", flush=True)
        with _server() as address:
            said = _run([part.replace("ADDRESS", address) for part in example.run], folder)
    except subprocess.SubprocessError as error:
        print(f"=== {name}: failed: {error}", flush=True)
        return False
    lacking = first_lacking(said)
    print(f"=== {name}: {'ok' if lacking is None else f'did not show {lacking!r}'}", flush=True)
    return lacking is None


def _cookbook() -> bool:
    """The commands of docs/cookbook.md that need grpcurl: its test runs them where there is one."""
    if shutil.which("go") is None:
        return _skipped("grpcurl's part of docs/cookbook.md", "go")
    print("=== docs/cookbook.md with grpcurl", flush=True)
    try:
        if not (GRPCURL_FOLDER / "grpcurl").exists():
            _do(("go", "install", GRPCURL), ROOT, GOBIN=str(GRPCURL_FOLDER))
        _do((sys.executable, "-m", "pytest", "-q", "tests/test_cookbook.py", "-k", "grpcurl"), ROOT)
    except subprocess.SubprocessError as error:
        print(f"=== docs/cookbook.md: failed: {error}", flush=True)
        return False
    return True


def _inspector() -> bool:
    """An MCP client that none of us wrote."""
    if shutil.which("npx") is None:
        return _skipped("MCP Inspector", "npx")
    print("=== MCP Inspector", flush=True)
    try:
        with _server() as address:
            adapter = ("npx", "-y", INSPECTOR, "--cli", str(BIN / "ibkr-gateway-mcp"), "--target", address, "--method")
            tools = json.loads(_captured((*adapter, "tools/list")))["tools"]
            answer = json.loads(
                _captured((*adapter, "tools/call", "--tool-name", "get_quote", "--tool-arg", "symbol=AAPL"))
            )
    except subprocess.SubprocessError as error:
        print(f"=== MCP Inspector: failed: {error}", flush=True)
        return False
    quote = answer.get("structuredContent", {})
    print(f"{len(tools)} tools; get_quote AAPL: bid {quote.get('bid_price')}, ask {quote.get('ask_price')}")
    is_right = any(tool["name"] == "place_order" for tool in tools) and quote.get("ask_price", 0) > 0
    print(f"=== MCP Inspector: {'ok' if is_right else 'did not show the tools and a quote'}", flush=True)
    return is_right


def _skipped(name: str, tool: str) -> bool:
    in_ci = os.environ.get("CI") == "true"
    print(f"=== {name}: {'failed' if in_ci else 'skipped'}: no {tool} on this machine", flush=True)
    return not in_ci


def _is_behind(made: Path, source: Path) -> bool:
    return not made.exists() or made.stat().st_mtime < source.stat().st_mtime


def _environment(**more: str) -> dict[str, str]:
    """buf is beside the interpreter; grpcurl where we install it."""
    return {**os.environ, "PATH": os.pathsep.join([str(BIN), str(GRPCURL_FOLDER), os.environ["PATH"]]), **more}


def _do(command: Sequence[str], folder: Path, **more: str) -> None:
    subprocess.run(command, cwd=folder, env=_environment(**more), check=True, timeout=BUILD_S)


def _run(command: Sequence[str], folder: Path) -> str:
    said = _captured(command, folder)
    print(said, end="", flush=True)
    return said


def _captured(command: Sequence[str], folder: Path = ROOT) -> str:
    return subprocess.run(
        command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, text=True, check=True, timeout=RUN_S
    ).stdout


def first_lacking(said: str) -> str | None:
    """The first of what an example is to show that it did not, in this order."""
    place = 0
    for words in SHOWN:
        found = said.find(words, place)
        if found < 0:
            return words
        place = found
    return None


@contextmanager
def _server() -> Iterator[str]:
    """A server on the simulator with a record of its own, once it takes orders; gone with the context."""
    with tempfile.TemporaryDirectory(prefix="ibkr-gateway-examples-") as folder:
        # Nothing of the caller's settings may reach it: an example must never touch an account.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = subprocess.Popen(
            [*SERVER, "--mode", "simulation", "--port", "0", "--log-level", "ERROR"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=kept,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("listening on ").strip()
            _wait_until_ready(address)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for told in stub.Watch(READY, timeout=START_S):
            if told.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise subprocess.SubprocessError("the server did not become ready")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
