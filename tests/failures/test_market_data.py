"""Market data that is missing, refused, doubled, silent, somebody else's, or nonsense."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from ibkr_gateway import stock
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.streams import DataTypeChanged, Gap, QuoteEvent, Resumed, Stale
from ibkr_gateway_server.domain.tallies import (
    BROKER_TIMEOUTS,
    COMPETING_SESSIONS,
    CONFLATED,
    LATE_TICKS,
    LINES,
    RESUBSCRIBES,
    SENTINELS,
)
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.streams.quotes import QuoteHub

from tests.conftest import Gateway, MakeGateway, eventually
from tests.failures.conftest import inject, tally, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MSFT = Instrument(symbol="MSFT", security_type=SecurityType.STK)
SPY = Instrument(symbol="SPY", security_type=SecurityType.STK)
# Requests, and the message that carries a price.
SUBSCRIBE, CANCEL, DATA_TYPE = 1, 2, 59
PRICE, SIZE = 1, 2
VIRTUAL_S = 300.0


@asynccontextmanager
async def reading(broker: Broker, *instruments: Instrument) -> AsyncIterator[list[QuoteEvent]]:
    """A reader of quotes, and all that it has been told."""
    hub = QuoteHub(broker.market_data, lambda: broker.session.status)
    events: list[QuoteEvent] = []

    async def read() -> None:
        async with hub.subscribe(instruments) as stream:
            async for batch in stream:
                events.extend(batch)

    task = asyncio.ensure_future(read())
    try:
        yield events
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def told(events: list[QuoteEvent], *kinds: type) -> list[Any]:
    """What was told of these kinds."""
    return [event.happening for event in events if isinstance(event.happening, kinds)]


def count(broker: Broker, cause: str) -> float:
    """Subscriptions that were asked for again for this cause."""
    return broker.session.tallies.value(RESUBSCRIBES, cause)


async def soon(condition: Callable[[], Any]) -> None:
    """Returns once it holds, in virtual time."""
    await eventually(condition, VIRTUAL_S)


@asynccontextmanager
async def ready(**settings: Any) -> AsyncIterator[Broker]:
    """A broker in virtual time that is READY."""
    async with virtual_broker(**settings) as broker:
        await broker.session.wait_until_ready(20)
        yield broker


async def told_by(gateway: Gateway, kind: str, *symbols: str) -> pb.QuoteEvent:
    """The first event of a kind that a stream of these stocks tells."""
    request = pb.StreamQuotesRequest(instruments=[stock(symbol) for symbol in symbols or ("AAPL",)])
    async with asyncio.timeout(15):
        async for response in gateway.client.market_data.StreamQuotes(request):
            for event in response.events:
                if event.WhichOneof("event") == kind:
                    return event
    raise AssertionError(f"the stream has ended without {kind}")


def test_M01_a_line_without_a_tick_is_a_timeout_and_is_given_back() -> None:
    """reqMktData is answered by nothing.

    GetQuote fails with BROKER_TIMEOUT after its own 11 s; the line is cancelled after its linger, and none is in use.
    """

    async def main() -> None:
        async with ready() as broker:
            inject(broker.simulator, Fault.LOSE, SUBSCRIBE)
            began = asyncio.get_running_loop().time()
            with pytest.raises(BrokerTimeout):
                await broker.market_data.snapshot(AAPL, 11.0)
            assert asyncio.get_running_loop().time() - began <= 11.1
            tallies = broker.session.tallies
            assert (tallies.value(LINES), tallies.value(BROKER_TIMEOUTS, "reqMktData")) == (1, 1)
            await soon(lambda: broker.simulator.frames_received(CANCEL) == 1)
            assert tallies.value(LINES) == 0

    virtually(main)


@pytest.mark.parametrize("value", ["nan", "-1", "max_double", "max_int", "empty", "?"])
def test_M02_a_sentinel_in_every_figure_is_an_absent_field(value: str) -> None:
    """Every price and size of a line is nan, -1, the largest double, the largest int, empty or a question mark.

    The fields are absent, never 0 and never -1; prices that were there before are gone, or stand where TWS said nothing.
    """

    async def main() -> None:
        async with ready() as broker:
            line = await broker.market_data.acquire(AAPL)
            inject(broker.simulator, Fault.SENTINEL, times=None, value=value)
            await asyncio.sleep(20)
            values = dict(line._values)
            prices = {name: found for name, found in values.items() if name.endswith(("price", "size", "volume"))}
            assert prices == {}
            if value not in ("empty", "?"):
                # What cannot be read at all does not come this far.
                assert broker.session.tallies.value(SENTINELS) >= 8
            broker.market_data.release(line)

    virtually(main)
