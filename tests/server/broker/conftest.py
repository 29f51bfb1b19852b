"""The broker on the simulator, without a gRPC server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.keeping import MarketDataSettings
from ibkr_gateway_server.broker.listings import Listings
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session, SessionTimings, SyncHook
from ibkr_gateway_server.simulator import Address, Simulator

from tests.conftest import FAST


@dataclass
class Broker:
    """Every room of the broker, connected."""

    simulator: Simulator
    address: Address
    session: Session
    contracts: Contracts
    listings: Listings
    market_data: MarketData
    accounts: Accounts
    history: History


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


MakeBroker = Callable[..., Awaitable[Broker]]


@pytest.fixture
async def make_broker() -> AsyncIterator[MakeBroker]:
    """Starts brokers that are READY; keyword arguments are settings of market data."""
    async with AsyncExitStack() as stack:

        async def make(
            *,
            tick_interval_s: float = 0.02,
            timings: SessionTimings = FAST,
            before_sync: SyncHook | None = None,
            **settings: Any,
        ) -> Broker:
            simulator = Simulator(seed=7, tick_interval_s=tick_interval_s)
            address = await stack.enter_async_context(simulator.listen())
            loop = asyncio.get_running_loop()
            pacer = Pacer(loop.time)
            session = Session(BrokerAddress(address.host, address.port), 1, pacer, timings)
            if before_sync is not None:
                session.on_sync(before_sync)
            accounts, contracts = Accounts(session, pacer), Contracts(session, pacer)
            chosen = MarketDataSettings(**{"linger_s": 0.05, "settle_s": 0.5, **settings})
            market_data = MarketData(session, contracts, pacer, chosen)
            history = History(session, contracts, pacer, loop.time)
            listings = Listings(session, contracts, pacer, loop.time)
            await stack.enter_async_context(running_session(session, market_data.run()))
            await session.wait_until_ready(10)
            return Broker(simulator, address, session, contracts, listings, market_data, accounts, history)

        yield make


@pytest.fixture
async def broker(make_broker: MakeBroker) -> Broker:
    """A broker that is READY."""
    return await make_broker()
