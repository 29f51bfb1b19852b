"""Tick streams on the simulator: every tick in order, or a gap or an end that says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from ibkr_gateway import stock
from ibkr_gateway.v1 import gateway_service_pb2, market_data_service_pb2
from ibkr_gateway_server.broker.feeds import TickFeeds
from ibkr_gateway_server.broker.keeping import MarketDataSettings
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.domain.errors import (
    CompetingSession,
    ContractNotFound,
    DomainError,
    MarketDataLines,
    MarketDataNotSubscribed,
    NoData,
    ReaderTooSlow,
    Reason,
    ShuttingDown,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, Resumed, TickEvent
from ibkr_gateway_server.domain.tallies import FEEDS, SLOW_CONSUMERS
from ibkr_gateway_server.domain.ticks import Tick, TickType
from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.streams.ticks import TickHub, TickSubscription

from tests.conftest import Gateway, eventually
from tests.failures.conftest import virtual_broker, virtually
from tests.server.broker.conftest import Broker, at_any_hour, broker, make_broker

__all__ = ["broker", "make_broker"]

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MSFT = Instrument(symbol="MSFT", security_type=SecurityType.STK)
SUBSCRIBE = 97
IBM = Instrument(symbol="IBM", security_type=SecurityType.STK)
SPX = Instrument(symbol="SPX", security_type=SecurityType.IND)
NONSENSE = Instrument(symbol="AAPLL", security_type=SecurityType.STK)
SETTINGS = MarketDataSettings(linger_s=0.05, tick_interval_s=0.0)


@pytest.fixture
async def feeds(broker: Broker) -> AsyncIterator[TickFeeds]:
    """Feeds of a session that is ready: as if they had been there from its first sync."""
    made = TickFeeds(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), SETTINGS)
    await made._restore(broker.session.connection())
    task = asyncio.ensure_future(made.run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def hub(broker: Broker, feeds: TickFeeds) -> TickHub:
    return TickHub(feeds, lambda: broker.session.status)


def is_a(*wanted: type) -> Callable[[TickEvent], bool]:
    return lambda event: isinstance(event.happening, wanted)


async def take(stream: TickSubscription, enough: Callable[[TickEvent], bool]) -> list[TickEvent]:
    """Events until one satisfies `enough`."""
    events: list[TickEvent] = []
    async with asyncio.timeout(20):
        async for batch in stream:
            assert batch
            events += batch
            if any(enough(event) for event in batch):
                break
    return events


async def read(stream: TickSubscription, events: list[TickEvent]) -> None:
    """Read to the end, keeping what comes before it."""
    async with asyncio.timeout(15):
        async for batch in stream:
            events += batch


def kinds(events: list[TickEvent]) -> list[type]:
    return [type(event.happening) for event in events]


async def first_tick(hub: TickHub, tick_type: TickType) -> Tick:
    async with hub.subscribe(AAPL, tick_type) as stream:
        events = await take(stream, is_a(Tick))
    return next(event.happening for event in events if isinstance(event.happening, Tick))


@pytest.mark.parametrize("tick_type", [TickType.LAST, TickType.ALL_LAST])
async def test_a_trade_has_its_time_price_size_and_exchange_and_no_quote(hub: TickHub, tick_type: TickType) -> None:
    tick = await first_tick(hub, tick_type)
    assert tick.exchange_time is not None
    assert tick.price is not None
    assert tick.price > 0
    assert tick.size is not None
    assert tick.exchange
    assert (tick.bid_price, tick.ask_price) == (None, None)


async def test_a_change_of_the_quote_has_both_sides_and_no_trade(hub: TickHub) -> None:
    tick = await first_tick(hub, TickType.BID_ASK)
    assert tick.bid_price is not None
    assert tick.ask_price is not None
    assert tick.bid_price <= tick.ask_price
    assert (tick.price, tick.size, tick.exchange) == (None, None, "")


async def test_a_midpoint_is_a_price_alone(hub: TickHub) -> None:
    tick = await first_tick(hub, TickType.MIDPOINT)
    assert tick.price is not None
    assert tick.size is None


async def test_readers_of_one_contract_and_kind_share_a_feed_which_ends_after_the_last(
    hub: TickHub, feeds: TickFeeds
) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK) as one, hub.subscribe(AAPL, TickType.BID_ASK) as two:
        (feed,) = feeds.open_feeds
        assert feed.subscriber_count == 2
        for stream in (one, two):
            await take(stream, is_a(Tick))
        async with hub.subscribe(AAPL, TickType.LAST):
            assert len(feeds.open_feeds) == 2
    await eventually(lambda: feeds.open_feeds == () and not feeds._ended)


async def test_sequences_rise_and_a_busy_stream_has_heartbeats(hub: TickHub) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK, heartbeat_s=0.2) as stream:
        events = await take(stream, is_a(Heartbeat))
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))


@pytest.mark.parametrize(
    ("instrument", "expected"), [(IBM, MarketDataNotSubscribed), (SPX, NoData)], ids=["permission", "kind"]
)
async def test_what_ibkr_refuses_is_the_last_event_and_the_end(
    hub: TickHub, feeds: TickFeeds, instrument: Instrument, expected: type[DomainError]
) -> None:
    events: list[TickEvent] = []
    async with hub.subscribe(instrument, TickType.BID_ASK) as stream:
        with pytest.raises(expected) as refused:
            await read(stream, events)
    assert [event.happening for event in events] == [refused.value]
    assert refused.value.ibkr_code == 10189  # type: ignore[attr-defined]
    assert feeds.open_feeds == ()


async def test_another_login_that_takes_the_data_ends_the_stream_after_the_ticks_before_it(
    hub: TickHub, feeds: TickFeeds
) -> None:
    events: list[TickEvent] = []
    async with hub.subscribe(AAPL, TickType.BID_ASK) as stream:
        await take(stream, is_a(Tick))
        (feed,) = feeds.open_feeds
        feed.bid_ask_tick(1_700_000_000, 1.0, 2.0, 3.0, 4.0)
        feed.error(10197, "No market data during competing live session")
        with pytest.raises(CompetingSession):
            await read(stream, events)
    assert kinds(events)[-2:] == [Tick, CompetingSession]
    assert feeds.open_feeds == ()


async def test_an_unknown_contract_takes_no_feed(hub: TickHub, feeds: TickFeeds) -> None:
    with pytest.raises(ContractNotFound):
        async with hub.subscribe(NONSENSE, TickType.LAST):
            pass
    assert feeds.open_feeds == ()


async def test_one_feed_too_many_is_refused_and_the_others_go_on(hub: TickHub, feeds: TickFeeds) -> None:
    names = ("AAPL", "MSFT")
    wanted = [(Instrument(symbol=name, security_type=SecurityType.STK), kind) for name in names for kind in TickType]
    streams = [hub.subscribe(*each) for each in wanted[:6]]
    for stream in streams:
        await stream.__aenter__()
    refused = []
    for stream in streams:
        try:
            await take(stream, is_a(Tick))
        except MarketDataLines as error:
            refused.append(error)
    assert [(error.used, error.limit) for error in refused] == [(5, 5)]
    for stream in streams:
        await stream.__aexit__(None, None, None)


async def test_a_disconnect_is_a_gap_and_the_feed_comes_back(broker: Broker, hub: TickHub) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK) as stream:
        await take(stream, is_a(Tick))
        broker.simulator.inject(Rule(Fault.DISCONNECT))
        events = await take(stream, is_a(Resumed))
    found = kinds(events)
    gap, resumed = found.index(Gap), found.index(Resumed)
    assert found.count(Gap) == 1
    assert Tick not in found[gap:resumed]
    lost, back = events[gap].happening, events[resumed].happening
    assert isinstance(lost, Gap)
    assert lost.reason == Reason.BROKER_DISCONNECTED
    assert back == Resumed(recovered=False, gap_start_time=lost.start_time)
    assert found[resumed + 1] is Tick


@pytest.mark.parametrize("value", ["data_lost", ""], ids=["1101", "1102"])
async def test_a_lost_link_is_a_gap_whether_ibkr_kept_the_feed_or_not(
    broker: Broker, hub: TickHub, feeds: TickFeeds, value: str
) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK) as stream:
        await take(stream, is_a(Tick))
        (feed,) = feeds.open_feeds
        asked = feed.request_id
        broker.simulator.inject(Rule(Fault.LINK_LOST, duration_s=0.5, value=value))
        events = await take(stream, is_a(Gap))
        async with hub.subscribe(AAPL, TickType.MIDPOINT) as other:
            (early,) = await take(other, is_a(Gap))
            assert isinstance(early.happening, Gap)
            assert early.happening.reason == Reason.BROKER_LINK_DOWN
            await take(other, is_a(Tick))
        events += await take(stream, is_a(Resumed))
        assert (feed.request_id == asked) is (value == "")
    (lost,) = [event.happening for event in events if isinstance(event.happening, Gap)]
    assert lost.reason == Reason.BROKER_LINK_DOWN


async def test_a_feed_that_stays_silent_after_a_loss_is_asked_for_again(hub: TickHub, feeds: TickFeeds) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK) as stream:
        await take(stream, is_a(Tick))
        (feed,) = feeds.open_feeds
        asked = feed.request_id
        at_any_hour(feed)
        feed.lose(Reason.BROKER_LINK_DOWN, datetime.now(UTC))
        feed.retry_at = 0.0
        feeds._work.set()
        await eventually(lambda: feed.request_id != asked)
        await take(stream, is_a(Resumed))


async def test_who_comes_during_a_loss_is_told_of_it(broker: Broker, hub: TickHub, feeds: TickFeeds) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK) as first:
        await take(first, is_a(Tick))
        (feed,) = feeds.open_feeds
        feed.lose(Reason.BROKER_LINK_DOWN, datetime.now(UTC))
        async with hub.subscribe(AAPL, TickType.BID_ASK) as second:
            events = await take(second, is_a(Resumed))
    assert kinds(events)[:2] == [Gap, Resumed]


async def test_a_reader_that_falls_behind_gets_what_waits_and_is_cut_off(broker: Broker, feeds: TickFeeds) -> None:
    hub = TickHub(feeds, lambda: broker.session.status, waiting_limit=3)
    events: list[TickEvent] = []
    async with hub.subscribe(AAPL, TickType.BID_ASK) as stream:
        stream.values([Tick(price=float(price)) for price in range(1, 6)])
        for _ in range(1000):
            stream.values([Tick()])
        assert len(stream._waiting) == 3
        with pytest.raises(ReaderTooSlow):
            await read(stream, events)
    assert [event.happening.price for event in events if isinstance(event.happening, Tick)] == [1.0, 2.0, 3.0]
    assert isinstance(events[-1].happening, ReaderTooSlow)
    assert feeds.tallies.value(SLOW_CONSUMERS) == 1


async def test_feeds_in_use_are_shown_beside_lines(gateway: Gateway) -> None:
    request = market_data_service_pb2.StreamTicksRequest(
        instrument=stock("AAPL"), tick_type=market_data_service_pb2.TICK_TYPE_BID_ASK
    )
    async for _ in gateway.client.market_data.StreamTicks(request):
        market_data = gateway.client.market_data
        lines = await market_data.GetMarketDataUsage(market_data_service_pb2.GetMarketDataUsageRequest())
        assert (lines.tick_by_tick_used_count, lines.tick_by_tick_limit_count) == (1, 5)
        usage = await gateway.client.gateway.GetUsage(gateway_service_pb2.GetUsageRequest())
        assert [(limit.used_count, limit.limit_count) for limit in usage.limits if limit.name == "tick_by_tick"] == [
            (1, 5)
        ]
        assert gateway.running.session.tallies.value(FEEDS, "tick_by_tick") == 1
        break


def test_requests_for_one_instrument_are_fifteen_seconds_apart() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            loop = asyncio.get_running_loop()
            began = loop.time()
            feeds = [await broker.feeds.acquire(AAPL, kind) for kind in (TickType.LAST, TickType.BID_ASK)]
            feeds.append(await broker.feeds.acquire(MSFT, TickType.LAST))
            await eventually(lambda: broker.simulator.frames_received(SUBSCRIBE) == 2)
            assert loop.time() - began < 1
            assert [feed.connection is not None for feed in feeds] == [True, False, True]
            await eventually(lambda: broker.simulator.frames_received(SUBSCRIBE) == 3, 60.0)
            assert 15 <= loop.time() - began < 18
            assert feeds[1].connection is not None

    virtually(main)


async def test_draining_tells_every_stream_and_opens_no_more(hub: TickHub) -> None:
    async with asyncio.timeout(10), hub.subscribe(AAPL, TickType.LAST) as stream:
        hub.drain(datetime.now(UTC) + timedelta(seconds=5))
        events = [event async for batch in stream for event in batch]
    assert isinstance(events[-1].happening, Draining)
    with pytest.raises(ShuttingDown):
        hub.subscribe(AAPL, TickType.LAST)


async def test_nothing_quoted_is_absent_and_prices_below_zero_are_prices(hub: TickHub, feeds: TickFeeds) -> None:
    async with hub.subscribe(AAPL, TickType.BID_ASK):
        (feed,) = feeds.open_feeds
        feed.bid_ask_tick(1_700_000_000, -1.0, 0.0, 0.0, 0.0)
        feed.bid_ask_tick(1_700_000_000, -2.5, -1.0, 3.0, 4.0)
        feed.midpoint_tick(10**18, 1.7976931348623157e308)
        nothing, negative, odd = feed._new
    moment = datetime.fromtimestamp(1_700_000_000, UTC)
    assert nothing == Tick(moment)
    assert negative == Tick(moment, bid_price=-2.5, ask_price=-1.0, bid_size=3.0, ask_size=4.0)
    assert odd == Tick()
