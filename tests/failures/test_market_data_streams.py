"""Live bars and order books that IBKR takes back, or stops."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from ibkr_gateway import bar_size, stock
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.domain.bars import Bar, BarSize, DurationUnit, HistorySpan, LiveBarsRequest
from ibkr_gateway_server.domain.depth import DepthRequest, MarketDepth
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.streams import Gap, Heartbeat, Resumed, SnapshotBegin
from ibkr_gateway_server.domain.tallies import RESUBSCRIBES
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.simulator.feeds.depth import Depth as SimulatedDepth
from ibkr_gateway_server.streams.bars import BarHub
from ibkr_gateway_server.streams.depth import DepthHub

from tests.conftest import Gateway
from tests.failures.conftest import inject, tally, virtual_broker, virtually

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MINUTES = LiveBarsRequest(AAPL, BarSize.MIN_1, history=HistorySpan(600, DurationUnit.SECOND))
REAL_TIME = LiveBarsRequest(AAPL, BarSize.SECS_5, is_real_time=True)
DEPTH, HISTORY, REAL_TIME_BARS = 10, 20, 50


async def told_of(wanted: LiveBarsRequest, fault: Fault, ask: int, cause: str) -> list[Any]:
    """All that a reader is told when this befalls its bars after a while; quotes beside it go on as they were."""
    events: list[Any] = []
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)
        hub = BarHub(broker.live_bars, lambda: broker.session.status)

        async def read() -> None:
            async with hub.subscribe(wanted) as stream:
                async for batch in stream:
                    events.extend(batch)

        line = await broker.market_data.acquire(AAPL)
        reader = asyncio.ensure_future(read())
        await asyncio.sleep(30)
        inject(broker.simulator, fault)
        await asyncio.sleep(30)
        # Another one soon after waits for a minute, lest IBKR be asked again and again.
        inject(broker.simulator, fault)
        await asyncio.sleep(20)
        assert broker.simulator.frames_received(ask) == 2
        await asyncio.sleep(30)
        assert broker.simulator.frames_received(ask) == 3
        assert (broker.session.status.epoch, line.gap) == (1, None)
        assert broker.simulator.frames_received(1) == 1
        assert broker.session.tallies.value(RESUBSCRIBES, cause) == 2
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader
    return events


@pytest.mark.parametrize(("wanted", "ask"), [(MINUTES, HISTORY), (REAL_TIME, REAL_TIME_BARS)], ids=["updated", "5 s"])
def test_M14_trades_are_busted_and_the_bars_with_them(wanted: LiveBarsRequest, ask: int) -> None:
    """10225 for bars that go on: trades were taken back.

    GAP (BARS_BUSTED), the bars asked for anew, RESUMED, a whole new history; quotes and the socket stay as they are.
    """
    events = virtually(lambda: told_of(wanted, Fault.BUST, ask, "bust"))
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [gap.reason for gap in gaps] == ["BARS_BUSTED"] * 2
    assert len([event for event in events if isinstance(event, Resumed)]) == 2
    assert len([event for event in events if isinstance(event, SnapshotBegin)]) == (3 if wanted is MINUTES else 0)
    assert isinstance(events[-1], Bar)


@pytest.mark.parametrize(("wanted", "ask"), [(MINUTES, HISTORY), (REAL_TIME, REAL_TIME_BARS)], ids=["updated", "5 s"])
def test_M15_the_updates_of_bars_are_lost(wanted: LiveBarsRequest, ask: int) -> None:
    """10182 for bars that go on: IBKR has ended their updates.

    GAP (LIVE_UPDATES_LOST), that stream alone asked for anew, RESUMED; quotes and the socket stay as they are.
    """
    events = virtually(lambda: told_of(wanted, Fault.LIVE_UPDATES_LOST, ask, "updates_lost"))
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [gap.reason for gap in gaps] == ["LIVE_UPDATES_LOST"] * 2
    assert len([event for event in events if isinstance(event, Resumed)]) == 2
    assert isinstance(events[-1], Bar)


async def test_M15_a_client_hears_of_the_lost_updates(gateway: Gateway) -> None:
    """10182 for one client's bars.

    The gRPC stream goes on: GAP (LIVE_UPDATES_LOST), RESUMED, and bars of a new request.
    """
    request = pb.StreamBarsRequest(instrument=stock("AAPL"), bar_size=bar_size("5 secs"), real_time=True)
    kinds: list[str] = []
    async with asyncio.timeout(30):
        async for response in gateway.client.market_data.StreamBars(request):
            for event in response.events:
                kinds.append(event.WhichOneof("event") or "")
                if kinds == ["bar"]:
                    inject(gateway.simulator, Fault.LIVE_UPDATES_LOST)
                elif kinds[-1] == "gap":
                    assert event.gap.reason == "LIVE_UPDATES_LOST"
            if "resumed" in kinds:
                break
    assert [kind for kind in kinds if kind != "heartbeat"] == ["bar", "gap", "resumed", "bar"]
    assert tally(gateway, RESUBSCRIBES, "updates_lost") == 1


async def books_after_a_reset(*, rows_follow: bool) -> tuple[list[Any], int]:
    """What a reader is told of a book that is reset, and how often the book was asked for."""
    events: list[Any] = []
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)
        hub = DepthHub(broker.depth, lambda: broker.session.status)

        async def read() -> None:
            async with hub.subscribe(DepthRequest(AAPL)) as stream:
                async for batch in stream:
                    events.extend(batch)

        reader = asyncio.ensure_future(read())
        await asyncio.sleep(30)
        inject(broker.simulator, Fault.DEPTH_RESET)
        if not rows_follow:
            for session in broker.simulator.gateway.sessions:
                session.feeds.stop(SimulatedDepth, broker.depth.open_feeds[0].request_id)
        await asyncio.sleep(20)
        assert broker.session.status.epoch == 1
        asked = broker.simulator.frames_received(DEPTH)
        assert broker.session.tallies.value(RESUBSCRIBES, "book_reset") == asked - 1
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader
    return events, asked


@pytest.mark.parametrize("rows_follow", [True, False])
def test_M14_a_book_is_reset(rows_follow: bool) -> None:
    """317 for a book, whose rows follow, or do not.

    GAP (BOOK_RESET) and an empty book, then RESUMED and the new book; it is asked for anew when no row comes in 5 s.
    """
    events, asked = virtually(lambda: books_after_a_reset(rows_follow=rows_follow))
    place = next(place for place, event in enumerate(events) if isinstance(event, Gap))
    assert events[place].reason == "BOOK_RESET"
    assert events[place + 1].book == MarketDepth()
    after = [event for event in events[place + 2 :] if not isinstance(event, Heartbeat)]
    assert isinstance(after[0], Resumed)
    assert len(after[1].book.bids) == len(after[1].book.asks) == 5
    assert asked == (1 if rows_follow else 2)


async def test_M14_a_client_hears_of_the_reset(gateway: Gateway) -> None:
    """317 for one client's book.

    The gRPC stream goes on: GAP (BOOK_RESET), an empty book, RESUMED, a whole one.
    """
    kinds: list[str] = []
    async with asyncio.timeout(30):
        request = pb.StreamMarketDepthRequest(instrument=stock("AAPL"))
        async for response in gateway.client.market_data.StreamMarketDepth(request):
            for event in response.events:
                kinds.append(event.WhichOneof("event") or "")
                if len(kinds) == 1:
                    assert event.depth.bids
                    inject(gateway.simulator, Fault.DEPTH_RESET)
                elif kinds[-2] == "gap":
                    assert not event.depth.bids
                elif kinds[-1] == "gap":
                    assert event.gap.reason == "BOOK_RESET"
                elif kinds[-2] == "resumed":
                    assert len(event.depth.bids) == 5
            if "resumed" in kinds[:-1]:
                break
    place = kinds.index("gap")
    assert kinds[place : place + 4] == ["gap", "depth", "resumed", "depth"]
