"""The broker on the simulator, without a gRPC server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.market_data import MarketData, MarketDataSettings
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.simulator import Address, Simulator

from tests.conftest import FAST


@dataclass
class Broker:
    """Every room of the broker, connected."""

    simulator: Simulator
    address: Address
    session: Session
    contracts: Contracts
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


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker that is READY."""
    async with AsyncExitStack() as stack:
        simulator = Simulator(seed=7, tick_interval_s=0.02)
        address = await stack.enter_async_context(simulator.listen())
        loop = asyncio.get_running_loop()
        pacer = Pacer(loop.time)
        session = Session(BrokerAddress(address.host, address.port), 1, pacer, FAST)
        accounts, contracts = Accounts(session, pacer), Contracts(session, pacer)
        market_data = MarketData(session, contracts, pacer, MarketDataSettings(linger_s=0.05, settle_s=0.5))
        history = History(session, contracts, pacer, loop.time)
        await stack.enter_async_context(running_session(session, market_data.run()))
        await session.wait_until_ready(10)
        yield Broker(simulator, address, session, contracts, market_data, accounts, history)
