"""Many subscriptions on one connection, in virtual time: a slow reader, an end by itself, the server's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from ibkr_gateway_server.domain.depth import MarketDepth
from ibkr_gateway_server.domain.errors import DomainError, ReaderTooSlow, ShuttingDown
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.domain.streams import Draining, Heartbeat
from ibkr_gateway_server.domain.ticks import Tick, TickType
from ibkr_gateway_server.streams.bars import BarHub
from ibkr_gateway_server.streams.depth import DepthHub
from ibkr_gateway_server.streams.market_data import (
    Accepted,
    Channel,
    Command,
    Hubs,
    Item,
    ListOpen,
    MarketDataHub,
    Open,
    Subscribe,
    Unsubscribe,
)
from ibkr_gateway_server.streams.quotes import QuoteHub
from ibkr_gateway_server.streams.ticks import TickHub

from tests.failures.conftest import virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
DEADLINE = datetime(2026, 11, 23, 15, tzinfo=UTC)


@asynccontextmanager
async def ready() -> AsyncIterator[tuple[Broker, MarketDataHub]]:
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)

        def status() -> Any:
            return broker.session.status

        hubs = Hubs(
            QuoteHub(broker.market_data, status),
            TickHub(broker.feeds, status, waiting_limit=8),
            BarHub(broker.live_bars, status),
            DepthHub(broker.depth, status),
        )
        yield broker, MarketDataHub(hubs, broker.contracts, status)


async def saying(*commands: Command, then_wait: bool = True) -> AsyncIterator[Command]:
    """A client that says these, and nothing more."""
    for command in commands:
        yield command
    if then_wait:
        await asyncio.sleep(1e9)


def want(request_id: str, channel: Channel, tick_type: TickType = TickType.BID_ASK) -> Command:
    return Command(request_id, Subscribe(AAPL, channel, 5, tick_type))


def of(items: Sequence[Item], request_id: str, *kinds: type) -> list[Any]:
    return [item.happening for item in items if item.request_id == request_id and isinstance(item.happening, kinds)]


def test_for_a_slow_reader_quotes_and_books_give_way_and_ticks_end_alone() -> None:
    async def main() -> None:
        async with ready() as (broker, hub):
            commands = saying(want("q", Channel.QUOTES), want("d", Channel.DEPTH), want("t", Channel.TICKS))
            async with hub.connect(commands) as connection:
                items: list[Item] = []
                batches = aiter(connection)
                while len(of(items, "", Heartbeat)) < 6:
                    await asyncio.sleep(4)
                    batch = await anext(batches)
                    # One at a time, and nothing gathers between.
                    assert len(batch) <= 12
                    items += batch
                for request_id, kind in (("q", Quote), ("d", MarketDepth)):
                    assert of(items, request_id, kind)
                    assert any(item.conflated_count > 5 for item in items if item.request_id == request_id)
                assert [type(each) for each in of(items, "t", DomainError)] == [ReaderTooSlow]
                last = max(place for place, item in enumerate(items) if item.request_id == "t")
                assert isinstance(items[last].happening, ReaderTooSlow)
                assert of(items[last:], "q", Quote)
                assert of(items, "t", Tick)
                assert len(broker.feeds.open_feeds) == 0

    virtually(main)


def test_one_that_is_ended_before_it_began_is_no_more() -> None:
    async def main() -> None:
        async with ready() as (broker, hub):
            commands = saying(
                want("q", Channel.QUOTES),
                Command("x", Unsubscribe("q")),
                Command("l", ListOpen()),
                then_wait=False,
            )
            async with asyncio.timeout(60), hub.connect(commands) as connection:
                items = [item async for batch in connection for item in batch]
            assert items == [Item("x", Accepted()), Item("l", Open(()))]
            assert broker.market_data.lines == ()

    virtually(main)


def test_draining_is_told_once_and_ends_the_iteration() -> None:
    async def main() -> None:
        async with ready() as (_, hub):
            async with hub.connect(saying(want("q", Channel.QUOTES), want("d", Channel.DEPTH))) as connection:
                items: list[Item] = []

                async def read() -> None:
                    async for batch in connection:
                        items.extend(batch)

                reader = asyncio.ensure_future(read())
                await asyncio.sleep(5)
                for part in (hub, hub.hubs.quotes, hub.hubs.ticks, hub.hubs.bars, hub.hubs.books):
                    part.drain(DEADLINE)
                async with asyncio.timeout(60):
                    await reader
            assert [item for item in items if isinstance(item.happening, Draining)] == [Item("", Draining(DEADLINE))]
            assert items[-1].happening == Draining(DEADLINE)
            with pytest.raises(ShuttingDown):
                hub.connect(saying())

    virtually(main)


def test_a_connection_without_subscriptions_hears_at_once_that_the_server_stops() -> None:
    async def main() -> None:
        async with ready() as (_, hub), hub.connect(saying()) as connection:
            batch = asyncio.ensure_future(anext(aiter(connection)))
            await asyncio.sleep(1)
            hub.drain(DEADLINE)
            assert await asyncio.wait_for(batch, 1) == (Item("", Draining(DEADLINE)),)

    virtually(main)


def test_a_fault_of_ours_ends_the_call_instead_of_silence() -> None:
    async def broken() -> AsyncIterator[Command]:
        yield want("q", Channel.QUOTES)
        raise ZeroDivisionError

    async def main() -> None:
        async with ready() as (_, hub), hub.connect(broken()) as connection:

            async def read() -> None:
                async for _ in connection:
                    pass

            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(read(), 60)

    virtually(main)
