"""Depth streams on the simulator, in virtual time: the newest book, never one from before a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ibkr_gateway_server.domain.depth import DepthRequest, DepthRow, MarketDepth
from ibkr_gateway_server.domain.errors import (
    ContractNotFound,
    DomainError,
    MarketDataNotSubscribed,
    Reason,
    ShuttingDown,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, Resumed, Stale
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.streams.depth import STATES_KEPT, BookShown, DepthHub

from tests.failures.conftest import inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = DepthRequest(Instrument(symbol="AAPL", security_type=SecurityType.STK))
IBM = DepthRequest(Instrument(symbol="IBM", security_type=SecurityType.STK))
NONSENSE = DepthRequest(Instrument(symbol="AAPLL", security_type=SecurityType.STK))
NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)


@asynccontextmanager
async def ready() -> AsyncIterator[tuple[Broker, DepthHub]]:
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)
        yield broker, DepthHub(broker.depth, lambda: broker.session.status)


@asynccontextmanager
async def reading(hub: DepthHub, wanted: DepthRequest = AAPL, heartbeat_s: float = 15.0) -> AsyncIterator[list[Any]]:
    """A reader, and all that it has been told."""
    events: list[Any] = []

    async def read() -> None:
        with suppress(DomainError):
            async with hub.subscribe(wanted, heartbeat_s=heartbeat_s) as stream:
                async for batch in stream:
                    assert batch
                    events.extend(batch)

    task = asyncio.ensure_future(read())
    try:
        yield events
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def of(events: list[Any], *kinds: type) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


def book(*bids: float) -> MarketDepth:
    return MarketDepth(tuple(DepthRow(price, 1.0) for price in bids))


def test_readers_share_a_book_and_each_sees_the_rows_that_it_wants() -> None:
    async def main() -> None:
        few = DepthRequest(AAPL.instrument, row_count=1)
        async with ready() as (broker, hub), reading(hub) as whole, reading(hub, few) as top:
            await asyncio.sleep(20)
            assert len(broker.depth.open_feeds) == 1
            assert {len(shown.book.bids) for shown in of(whole, BookShown)} == {5}
            tops = [shown.book for shown in of(top, BookShown)]
            assert {len(shown.bids) for shown in tops} == {1}

    virtually(main)


def test_changes_below_the_rows_that_are_wanted_are_no_news() -> None:
    async def main() -> None:
        async with ready() as (_, hub), hub.subscribe(DepthRequest(AAPL.instrument, row_count=1)) as stream:
            stream.book(book(3.0, 2.0))
            assert stream._take() == [BookShown(book(3.0))]
            stream.book(book(3.0, 1.0))
            assert stream._take() == []
            stream.book(book(4.0, 1.0))
            assert stream._take() == [BookShown(book(4.0))]

    virtually(main)


def test_who_comes_later_gets_the_book_at_once() -> None:
    async def main() -> None:
        async with ready() as (_, hub), reading(hub) as first:
            await asyncio.sleep(5)
            async with hub.subscribe(AAPL) as stream:
                (shown,) = await anext(aiter(stream))
                assert isinstance(shown, BookShown)
                assert shown.book == of(first, BookShown)[-1].book

    virtually(main)


def test_a_slow_reader_gets_the_newest_book_and_how_many_it_replaced() -> None:
    async def main() -> None:
        async with ready() as (_, hub), hub.subscribe(AAPL) as stream:
            for price in (1.0, 2.0, 3.0, 3.0):
                stream.book(book(price))
            assert stream._take() == [BookShown(book(3.0), 2)]
            stream.book(book(3.0))
            assert stream._take() == []

    virtually(main)


def test_a_book_from_before_a_gap_is_not_told_after_it_and_one_that_grows_old_is_told_before() -> None:
    async def main() -> None:
        async with ready() as (_, hub), hub.subscribe(AAPL) as stream:
            gap, stale = Gap("LOST", NOW), Stale(NOW, "NO_TICKS")
            stream.book(book(1.0))
            assert stream._take() == [BookShown(book(1.0))]
            stream.book(book(2.0))
            stream.gap(gap)
            assert stream._take() == [gap]
            # The same book as before is news after a gap.
            stream.resumed(Resumed(False, NOW))
            stream.book(book(1.0))
            stream.stale(stale)
            assert stream._take() == [Resumed(False, NOW), BookShown(book(1.0)), stale]
            for _ in range(10 * STATES_KEPT):
                stream.gap(gap)
            assert len(stream._take()) == STATES_KEPT

    virtually(main)


def test_a_disconnect_is_a_gap_and_the_book_comes_back_whole() -> None:
    async def main() -> None:
        async with ready() as (broker, hub), reading(hub) as events:
            await asyncio.sleep(5)
            inject(broker.simulator, Fault.DISCONNECT)
            await asyncio.sleep(10)
            (gap,) = of(events, Gap)
            assert gap.reason == Reason.BROKER_DISCONNECTED
            (resumed,) = of(events, Resumed)
            place = events.index(gap)
            assert events[place + 1] == resumed
            assert len(events[place + 2].book.bids) == 5

    virtually(main)


def test_what_ibkr_refuses_is_the_last_event_and_the_end() -> None:
    async def main() -> None:
        async with ready() as (broker, hub):
            async with reading(hub, IBM) as events:
                await asyncio.sleep(2)
                assert [type(event) for event in events] == [MarketDataNotSubscribed]
            assert broker.depth.open_feeds == ()
            with pytest.raises(ContractNotFound):
                await hub.subscribe(NONSENSE).__aenter__()

    virtually(main)


def test_heartbeats_come_to_a_reader_for_whom_there_is_always_news() -> None:
    async def main() -> None:
        async with ready() as (_, hub), hub.subscribe(AAPL, heartbeat_s=2.0) as stream:
            batches, told = aiter(stream), []
            for _ in range(3):
                await asyncio.sleep(3)
                told.append([*await anext(batches)])
            assert all(of(batch, BookShown) for batch in told)
            assert all(of(batch, Heartbeat) for batch in told[1:])

    virtually(main)


def test_draining_tells_every_stream_and_opens_no_more() -> None:
    async def main() -> None:
        async with ready() as (_, hub), reading(hub) as events:
            await asyncio.sleep(2)
            hub.drain(NOW + timedelta(seconds=5))
            await asyncio.sleep(0.1)
            assert isinstance(events[-1], Draining)
            with pytest.raises(ShuttingDown):
                hub.subscribe(AAPL)

    virtually(main)
