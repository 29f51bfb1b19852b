"""The broker on the simulator, without a gRPC server around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.depth import Depth
from ibkr_gateway_server.broker.feed import TickFeed
from ibkr_gateway_server.broker.feeds import TickFeeds
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.keeping import MarketDataSettings
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.broker.listings import Listings
from ibkr_gateway_server.broker.live_bars import LiveBars
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session, SessionTimings, SyncHook
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.simulator import Address, Simulator

from tests.conftest import FAST


@dataclass
class Broker:
    """Every room of the broker, connected."""

    simulator: Simulator
    address: Address
    pacer: Pacer
    session: Session
    contracts: Contracts
    listings: Listings
    market_data: MarketData
    feeds: TickFeeds
    accounts: Accounts
    history: History
    live_bars: LiveBars
    depth: Depth


@asynccontextmanager
async def running_session(session: Session, *more: object) -> AsyncIterator[None]:
    """The session's own task, and others that run beside it."""
    tasks = [asyncio.ensure_future(work) for work in (session.run(), *more)]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def running_broker(
    simulator: Simulator,
    *,
    timings: SessionTimings = FAST,
    before_sync: SyncHook | None = None,
    now: Callable[[], datetime] = utc_now,
    restarts: RestartWindows | None = None,
    **settings: Any,
) -> AsyncIterator[Broker]:
    """A broker on this simulator, on its way to READY; keyword arguments are settings of market data."""
    async with simulator.listen() as address:
        loop = asyncio.get_running_loop()
        pacer = Pacer(loop.time)
        session = Session(
            BrokerAddress(address.host, address.port),
            1,
            pacer,
            timings,
            jitter=random.Random(7),
            now=now,
            restarts=restarts,
        )
        if before_sync is not None:
            session.on_sync(before_sync)
        accounts = Accounts(session, pacer)
        contracts = Contracts(session, pacer, today=lambda: now().date())
        chosen = MarketDataSettings(**{"linger_s": 0.05, "settle_s": 0.5, **settings})
        market_data = MarketData(session, contracts, pacer, chosen)
        feeds = TickFeeds(session, contracts, pacer, chosen)
        history = History(session, contracts, pacer, loop.time, now)
        listings = Listings(session, contracts, pacer, loop.time, today=lambda: now().date())
        live_bars = LiveBars(session, contracts, pacer, history, chosen)
        depth = Depth(session, contracts, pacer, chosen)
        async with running_session(session, market_data.run(), feeds.run(), live_bars.run(), depth.run()):
            yield Broker(
                *(simulator, address, pacer, session, contracts, listings, market_data, feeds, accounts, history),
                *(live_bars, depth),
            )


def at_any_hour(kept: Line | TickFeed) -> None:
    """Its trading hours are not known: a test by the clock on the wall runs by night as well."""
    kept.details = None


MakeBroker = Callable[..., Awaitable[Broker]]


@pytest.fixture
async def make_broker() -> AsyncIterator[MakeBroker]:
    """Starts brokers that are READY; keyword arguments are settings of market data."""
    async with AsyncExitStack() as stack:

        async def make(*, tick_interval_s: float = 0.02, **settings: Any) -> Broker:
            simulator = Simulator(seed=7, tick_interval_s=tick_interval_s)
            broker = await stack.enter_async_context(running_broker(simulator, **settings))
            await broker.session.wait_until_ready(10)
            return broker

        yield make


@pytest.fixture
async def broker(make_broker: MakeBroker) -> Broker:
    """A broker that is READY."""
    return await make_broker()
