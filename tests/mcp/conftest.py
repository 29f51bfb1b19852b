"""The adapter as its clients reach it: in memory, on stdin and stdout of a process, by HTTP; in both eras of MCP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.options import Limits, Options
from ibkr_gateway_mcp.server import Server
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult

from tests.conftest import Gateway, MakeGateway

ERAS = ("auto", "legacy")
TRANSPORTS = ("memory", "stdio", "http")

BUY = {
    "symbol": "AAPL",
    "security_type": "STK",
    "side": "BUY",
    "quantity": 10,
    "order_type": "LMT",
    "limit_price": 100.5,
}
"""An order far below the market, as a model fills it in: it rests."""

Answer = Callable[[ClientRequestContext, ElicitRequestParams], Awaitable[ElicitResult]]


@dataclass
class Person:
    """Who is asked: says one thing, and remembers the questions."""

    says: ElicitResult = field(default_factory=lambda: ElicitResult(action="accept", content={"approve": True}))
    questions: list[str] = field(default_factory=list)

    async def __call__(self, _context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        return self.says


@dataclass
class Agent:
    """A model's client of the adapter."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers, which must not be an error."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def refusal(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The error that a tool answers, in its one shape."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        # Many clients hold structured content against the schema of answers, which an error is not of.
        assert result.structured_content is None
        (content,) = result.content
        found: dict[str, Any] = json.loads(content.text)  # type: ignore[union-attr]
        assert set(found) == {"error_code", "message", "details"}
        assert found["details"]["next_step"]
        return found


MakeAgent = Callable[..., AbstractAsyncContextManager[Agent]]


@asynccontextmanager
async def agent_of(
    target: str,
    transport: str = "memory",
    era: str = "auto",
    *,
    person: Answer | None = None,
    limits: Limits | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    **options: Any,
) -> AsyncIterator[Agent]:
    """A client of an adapter of a gateway. `person` None: a client that cannot ask anybody."""
    limits = limits or Limits()
    flags = ["--target", target, "--orders-per-minute", str(limits.per_minute)]
    if transport == "memory":
        made = Options(target, limits=limits, timeout_s=10.0, **options)
        async with (
            Adapter(made, now) as adapter,
            Client(Server(adapter), mode=era, elicitation_callback=person) as client,
        ):
            yield Agent(client)
    elif transport == "stdio":
        command = StdioServerParameters(command=sys.executable, args=["-m", "ibkr_gateway_mcp", *flags])
        async with Client(command, mode=era, elicitation_callback=person) as client:
            yield Agent(client)
    else:
        with served(*flags) as url:
            async with Client(url, mode=era, elicitation_callback=person) as client:
                yield Agent(client)


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """The adapter as a process that serves HTTP: its URL."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_gateway_mcp", "--http", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if (said := json.loads(line)).get("message") == "listening":
                yield said["url"]
                break
        else:
            raise AssertionError("the adapter did not start")
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=20)
        assert (out, process.returncode) == ("", 0)


@pytest.fixture
async def disabled(make_gateway: MakeGateway) -> Gateway:
    """A gateway that sends no orders."""
    return await make_gateway(orders_enabled=False)


async def told(bounded: Awaitable[Any], timeout_s: float = 15.0) -> Any:
    """What is waited for, within a bound."""
    async with asyncio.timeout(timeout_s):
        return await bounded
