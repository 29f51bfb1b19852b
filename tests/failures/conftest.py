"""Failures, injected at the simulator's socket: through gRPC in real time, or at the broker in virtual time.

Every test here is named after what it injects (`test_C07_...`), and its docstring is a row of docs/failures.md: first
what happens, then, after an empty line, what a client sees.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ibkr_gateway import connect
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway_server.app import running
from ibkr_gateway_server.broker.session import SessionTimings
from ibkr_gateway_server.domain.tallies import Count, Level
from ibkr_gateway_server.settings import load_settings
from ibkr_gateway_server.simulator import Fault, Rule, Simulator
from ibkr_gateway_server.simulator.virtual_time import run_virtually

from tests.conftest import FAST, Gateway
from tests.server.broker.conftest import Broker, running_broker

# What it finds broken is to be read in the test's report.
pytest.register_assert_rewrite("tests.failures.dealings")

T = TypeVar("T")

# A Monday at 10:00 in New York: exchanges are open.
BEGIN = datetime(2026, 11, 23, 15, tzinfo=UTC).timestamp()


def tally(gateway: Gateway, kind: Count | Level, label: str = "") -> float:
    """What the gateway has counted."""
    return gateway.running.session.tallies.value(kind, label)


def inject(simulator: Any, fault: Fault, message_id: int | None = None, **how: Any) -> None:
    """Let this go wrong at the simulator."""
    simulator.inject(Rule(fault, message_id, **how))


@asynccontextmanager
async def gateway_at(simulator: Simulator, folder: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway on paper at a simulator of its own, which may have gone wrong before; not READY yet.

    `session_timings` and `desk_timings` are its waits, everything else settings.
    """
    waits = {name: settings.pop(name) for name in ("session_timings", "desk_timings") if name in settings}
    async with simulator.listen() as address:
        chosen = {"ibkr_gateway_port": address.port, "grpc_port": 0, "audit_db_path": folder / "audit.db"}
        loaded = load_settings({**chosen, "orders_enabled": True, **settings}, env_file=None)
        made = running(loaded, drain_s=2.0, **{"session_timings": FAST, **waits})
        async with made as started, connect(started.target, timeout_s=10.0) as client:
            yield Gateway(replace(started, simulator=simulator), client)


async def recorded(gateway: Gateway, kind: str) -> list[dict[str, Any]]:
    """What the record holds of one kind, oldest first."""
    request = audit_pb.QueryAuditEventsRequest(kind=kind, page_size=1000)
    events = (await gateway.client.audit.QueryAuditEvents(request)).events
    return [json.loads(event.body_json) for event in reversed(events)]


async def eventually_recorded(
    gateway: Gateway, kind: str, is_enough: Callable[[list[dict[str, Any]]], object], timeout_s: float = 15.0
) -> list[dict[str, Any]]:
    """What the record holds of one kind, once that is enough; fails when it is not in time."""
    async with asyncio.timeout(timeout_s):
        while not is_enough(found := await recorded(gateway, kind)):
            await asyncio.sleep(0.01)
    return found


def virtually(main: Callable[[], Awaitable[T]]) -> T:
    """Run a test's body in virtual time: minutes of waiting take none."""

    async def run() -> T:
        return await main()

    return run_virtually(run())


@asynccontextmanager
async def virtual_broker(
    *,
    timings: SessionTimings | None = None,
    prepare: Callable[[Simulator], None] = lambda _: None,
    tick_interval_s: float = 0.25,
    **settings: Any,
) -> AsyncIterator[Broker]:
    """A broker on a simulator in virtual time, with the waits of production unless others are given.

    `prepare` injects what must be there before the first connection. Not READY yet when it is yielded.
    """
    loop = asyncio.get_running_loop()
    simulator = Simulator(seed=7, tick_interval_s=tick_interval_s, clock=lambda: BEGIN + loop.time())
    prepare(simulator)
    made = running_broker(
        simulator,
        timings=timings or SessionTimings(),
        now=lambda: datetime.fromtimestamp(BEGIN + loop.time(), UTC),
        **{"linger_s": 5.0, "settle_s": 2.0, **settings},
    )
    async with made as broker:
        yield broker
