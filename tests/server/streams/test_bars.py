"""Bar streams on the simulator, in virtual time: history, growing bars, complete ones, and what interrupts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from ibkr_gateway_server.broker.live_bars import OPEN_LIMIT
from ibkr_gateway_server.domain.bars import Bar, BarSize, DurationUnit, HistorySpan, LiveBarsRequest, WhatToShow
from ibkr_gateway_server.domain.errors import (
    ContractNotFound,
    DomainError,
    MarketDataNotSubscribed,
    NoData,
    PacingHistorical,
    ReaderTooSlow,
    Reason,
    ShuttingDown,
    SubscriptionsInUse,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, Resumed, SnapshotBegin, SnapshotEnd
from ibkr_gateway_server.domain.tallies import FEEDS, RESUBSCRIBES, SLOW_CONSUMERS
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.streams.bars import BarHub

from tests.failures.conftest import inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
IBM = Instrument(symbol="IBM", security_type=SecurityType.STK)
EUR = Instrument(symbol="EUR", security_type=SecurityType.CASH, currency="USD")
NONSENSE = Instrument(symbol="AAPLL", security_type=SecurityType.STK)
HOUR = HistorySpan(3600, DurationUnit.SECOND)
MINUTES = LiveBarsRequest(AAPL, BarSize.MIN_1, history=HOUR)
REAL_TIME = LiveBarsRequest(AAPL, BarSize.SECS_5, is_real_time=True)
# Requests: bars that keep up to date and their end, bars of five seconds and theirs.
HISTORY, END_HISTORY, REAL_TIME_BARS, END_REAL_TIME_BARS = 20, 25, 50, 51


@asynccontextmanager
async def ready(**settings: Any) -> AsyncIterator[tuple[Broker, BarHub]]:
    async with virtual_broker(**settings) as broker:
        await broker.session.wait_until_ready(20)
        yield broker, BarHub(broker.live_bars, lambda: broker.session.status)


@asynccontextmanager
async def reading(hub: BarHub, wanted: LiveBarsRequest, heartbeat_s: float = 15.0) -> AsyncIterator[list[Any]]:
    """A reader, and all that it has been told; what ends its stream is told last by itself."""
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


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The test's body runs in virtual time."""

    def run() -> None:
        virtually(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_virtual_time
async def test_history_comes_first_and_then_the_growing_bar_and_each_once_complete() -> None:
    async with ready() as (broker, hub), reading(hub, MINUTES) as events:
        await asyncio.sleep(200)
        end = next(place for place, event in enumerate(events) if isinstance(event, SnapshotEnd))
        assert isinstance(events[0], SnapshotBegin)
        past, live = of(events[:end], Bar), of(events[end:], Bar)
        assert len(past) == 60
        assert all(later.start - bar.start == timedelta(minutes=1) for bar, later in pairwise(past))
        assert all(bar.is_complete for bar in past[:-1])
        finished = [bar for bar in live if bar.is_complete]
        assert [later.start - bar.start for bar, later in pairwise(finished)] == [timedelta(minutes=1)] * 2
        # Between two complete bars the next one grows: told several times, under one start.
        growing = [bar for bar in live if bar.start == finished[1].start and not bar.is_complete]
        assert len(growing) > 3
        assert all(later.high >= bar.high and later.low <= bar.low for bar, later in pairwise(growing))
        places = [live.index(bar) for bar in finished]
        assert all(bar.start > live[place].start for place in places for bar in live[place + 1 :])
        assert broker.simulator.frames_received(HISTORY) == 1
        assert broker.history.usage().used_count == 1


@in_virtual_time
async def test_a_complete_bar_is_what_history_says_of_it_later() -> None:
    async with ready() as (broker, hub), reading(hub, replace(MINUTES, history=None)) as events:
        await asyncio.sleep(130)
        finished = [bar for bar in of(events, Bar) if bar.is_complete]
        later = await broker.live_bars.longer_history(broker.live_bars.open_feeds[0], MINUTES, 10)
        assert finished
        assert set(finished) <= set(later)


@in_virtual_time
async def test_without_history_none_is_told_and_the_least_is_asked_for() -> None:
    async with ready() as (broker, hub), reading(hub, replace(MINUTES, history=None)) as events:
        await asyncio.sleep(100)
        assert not of(events, SnapshotBegin)
        (feed,) = broker.live_bars.open_feeds
        assert str(feed.asked) == "120 S"
        first = of(events, Bar)[0]
        assert not first.is_complete


@in_virtual_time
async def test_real_time_bars_are_of_five_seconds_each_complete_and_once() -> None:
    async with ready() as (broker, hub), reading(hub, REAL_TIME) as events:
        await asyncio.sleep(31)
        bars = of(events, Bar)
        assert len(bars) == 6
        assert all(later.start - bar.start == timedelta(seconds=5) for bar, later in pairwise(bars))
        assert all(bar.is_complete and bar.volume is not None for bar in bars)
        assert (broker.simulator.frames_received(REAL_TIME_BARS), broker.simulator.frames_received(HISTORY)) == (1, 0)


@in_virtual_time
async def test_a_currency_has_midpoints_without_volume_where_nothing_is_said() -> None:
    async with ready() as (_broker, hub), reading(hub, replace(REAL_TIME, instrument=EUR)) as events:
        await asyncio.sleep(11)
        assert of(events, Bar)
        assert all((bar.volume, bar.wap, bar.trade_count) == (None, None, None) for bar in of(events, Bar))


@in_virtual_time
async def test_readers_of_the_same_bars_share_a_feed_which_ends_after_the_last() -> None:
    async with ready() as (broker, hub):
        for wanted, ask, end in ((MINUTES, HISTORY, END_HISTORY), (REAL_TIME, REAL_TIME_BARS, END_REAL_TIME_BARS)):
            async with reading(hub, wanted) as one, reading(hub, wanted) as two:
                await asyncio.sleep(20)
                (feed,) = broker.live_bars.open_feeds
                assert feed.subscriber_count == 2
                assert of(one, Bar) == of(two, Bar)
            kind = "real_time_bars" if wanted.is_real_time else "live_bars"
            assert broker.session.tallies.value(FEEDS, kind) == 1
            await asyncio.sleep(10)
            assert broker.session.tallies.value(FEEDS, kind) == 0
            assert (broker.simulator.frames_received(ask), broker.simulator.frames_received(end)) == (1, 1)


@in_virtual_time
async def test_who_comes_later_gets_what_is_held_without_a_request() -> None:
    async with ready() as (broker, hub), reading(hub, MINUTES):
        await asyncio.sleep(130)
        async with reading(hub, replace(MINUTES, history=HistorySpan(600, DurationUnit.SECOND))) as later:
            await asyncio.sleep(0.1)
            told = of(later, SnapshotBegin, Bar, SnapshotEnd)
            assert isinstance(told[0], SnapshotBegin)
            assert len(of(told, Bar)) >= 62
        assert broker.simulator.frames_received(HISTORY) == 1


@in_virtual_time
async def test_who_wants_more_than_is_held_gets_it_from_a_request_of_its_own_and_bars_that_follow_on() -> None:
    async with ready() as (broker, hub), reading(hub, MINUTES):
        await asyncio.sleep(90)
        longer = replace(MINUTES, history=HistorySpan(7200, DurationUnit.SECOND))
        async with reading(hub, longer) as later:
            await asyncio.sleep(60)
            bars = {bar.start: bar for bar in of(later, Bar)}
            assert len(bars) >= 120
            assert all(b - a == timedelta(minutes=1) for a, b in pairwise(bars))
        assert broker.simulator.frames_received(HISTORY) == 2
        assert len(broker.live_bars.open_feeds) == 1


@in_virtual_time
async def test_a_disconnect_is_a_gap_and_the_history_comes_anew_as_long_as_the_longest_reader_wants() -> None:
    async with ready() as (broker, hub), reading(hub, MINUTES) as events:
        longer = replace(MINUTES, history=HistorySpan(7200, DurationUnit.SECOND))
        await asyncio.sleep(30)
        async with reading(hub, longer) as others:
            await asyncio.sleep(30)
            inject(broker.simulator, Fault.DISCONNECT)
            await asyncio.sleep(90)
            for told in (events, others):
                (gap,) = of(told, Gap)
                (resumed,) = of(told, Resumed)
                assert gap.reason == Reason.BROKER_DISCONNECTED
                assert resumed == Resumed(recovered=True, gap_start_time=gap.start_time)
                # The snapshot stands between the gap and its end.
                between = told[told.index(gap) : told.index(resumed)]
                assert len(of(between, SnapshotBegin)) == 1
                assert len(of(between, Bar)) >= 119
        assert broker.session.tallies.value(RESUBSCRIBES, "reconnect") == 1


@in_virtual_time
async def test_1101_asks_anew_and_1102_does_not() -> None:
    for value, expected in (("data_lost", 2), ("", 1)):
        async with ready() as (broker, hub), reading(hub, MINUTES) as events:
            await asyncio.sleep(20)
            inject(broker.simulator, Fault.LINK_LOST, duration_s=10, value=value)
            await asyncio.sleep(60)
            (gap,) = of(events, Gap)
            assert gap.reason == Reason.BROKER_LINK_DOWN
            (resumed,) = of(events, Resumed)
            assert resumed.recovered is (value == "data_lost")
            assert len(of(events, SnapshotBegin)) == expected
            assert broker.simulator.frames_received(HISTORY) == expected


@in_virtual_time
async def test_the_farm_of_history_that_breaks_is_a_gap_and_what_stays_silent_after_it_is_asked_for_again() -> None:
    async with ready() as (broker, hub), reading(hub, MINUTES) as events:
        await asyncio.sleep(20)
        inject(broker.simulator, Fault.FARM_BROKEN, value="history", duration_s=120)
        await asyncio.sleep(100)
        (gap,) = of(events, Gap)
        assert gap.reason == "FARM_DOWN"
        assert not of(events, Resumed)
        # Its updates, when the farm is back, are lost: as if IBKR had forgotten them.
        inject(broker.simulator, Fault.LOSE_REPLY, 90, times=None, duration_s=25.5)
        await asyncio.sleep(60)
        assert of(events, Resumed)
        assert broker.session.tallies.value(RESUBSCRIBES, "farm") == 1


@in_virtual_time
async def test_what_ibkr_refuses_is_the_last_event_and_the_end() -> None:
    index = Instrument(symbol="SPX", security_type=SecurityType.IND)
    quoted = Instrument(symbol="EUR", security_type=SecurityType.CASH, currency="USD")
    cases = [
        (LiveBarsRequest(IBM, BarSize.SECS_5, is_real_time=True), MarketDataNotSubscribed),
        (LiveBarsRequest(IBM, BarSize.SECS_5, WhatToShow.BID, is_real_time=True), MarketDataNotSubscribed),
        (LiveBarsRequest(quoted, BarSize.MIN_1, WhatToShow.TRADES), NoData),
        (LiveBarsRequest(index, BarSize.SECS_5, WhatToShow.BID, is_real_time=True), MarketDataNotSubscribed),
    ]
    async with ready() as (broker, hub):
        for wanted, expected in cases:
            async with reading(hub, wanted) as events:
                await asyncio.sleep(2)
                assert [type(event) for event in events] == [expected]
            assert broker.live_bars.open_feeds == ()
            with pytest.raises(ContractNotFound):
                await hub.subscribe(replace(wanted, instrument=NONSENSE)).__aenter__()


@in_virtual_time
async def test_pacing_is_the_budget_of_history_and_refuses_before_anything_is_sent() -> None:
    async with ready() as (broker, hub):
        broker.history.pacing.spend(58)
        with pytest.raises(PacingHistorical):
            await hub.subscribe(MINUTES).__aenter__()
        assert broker.live_bars.open_feeds == ()
        assert broker.simulator.frames_received(HISTORY) == 0
        await asyncio.sleep(601)
        async with reading(hub, MINUTES) as events:
            await asyncio.sleep(1)
            assert of(events, SnapshotEnd)


@in_virtual_time
async def test_the_same_bars_are_not_asked_for_twice_in_fifteen_seconds() -> None:
    async with ready(linger_s=1.0) as (broker, hub):
        for _ in range(2):
            async with reading(hub, MINUTES):
                await asyncio.sleep(1)
            await asyncio.sleep(3)
        async with reading(hub, MINUTES) as events:
            assert broker.simulator.frames_received(HISTORY) == 1
            await asyncio.sleep(10)
            assert broker.simulator.frames_received(HISTORY) == 2
            assert of(events, SnapshotEnd)


@in_virtual_time
async def test_six_widths_of_one_contract_are_not_asked_for_within_two_seconds() -> None:
    async with ready() as (broker, hub):
        sizes = [size for size in BarSize if size is not BarSize.SEC_1][:11]
        streams = [hub.subscribe(replace(MINUTES, bar_size=size, history=None)) for size in sizes]
        for stream in streams:
            await stream.__aenter__()
        for seconds, expected in ((1, 5), (3, 10), (3, 11)):
            await asyncio.sleep(seconds)
            assert broker.simulator.frames_received(HISTORY) == expected
        for stream in streams:
            await stream.__aexit__(None, None, None)


@in_virtual_time
async def test_a_violation_of_the_pacing_is_told_and_halves_what_is_asked_for_from_then_on() -> None:
    async with ready() as (broker, hub):
        inject(broker.simulator, Fault.REFUSE, HISTORY, code=162, text="Historical data request pacing violation")
        async with reading(hub, MINUTES) as events:
            await asyncio.sleep(1)
            assert [type(event) for event in events] == [PacingHistorical]
        assert broker.history.usage().limit_count == 29


@in_virtual_time
async def test_no_more_feeds_stay_open_than_leave_room_for_other_history() -> None:
    async with ready() as (broker, hub):
        sizes = [size for size in BarSize if size is not BarSize.SEC_1]
        names = ("AAPL", "MSFT", "SPY")
        wanted = [
            LiveBarsRequest(Instrument(symbol=name, security_type=SecurityType.STK), size)
            for name in names
            for size in sizes
        ]
        streams = [hub.subscribe(each) for each in wanted[:OPEN_LIMIT]]
        for stream in streams:
            await stream.__aenter__()
        with pytest.raises(SubscriptionsInUse) as refused:
            await hub.subscribe(wanted[OPEN_LIMIT]).__aenter__()
        assert refused.value.reason == Reason.MARKET_DATA_LINES
        # One that lingers makes room.
        await streams[0].__aexit__(None, None, None)
        async with hub.subscribe(wanted[OPEN_LIMIT]):
            assert broker.live_bars.usage()[0].used_count == OPEN_LIMIT
        for stream in streams[1:]:
            await stream.__aexit__(None, None, None)


@in_virtual_time
async def test_a_slow_reader_gets_the_newest_of_each_bar_and_is_cut_off_when_too_many_gather() -> None:
    async with ready() as (broker, _):
        hub = BarHub(broker.live_bars, lambda: broker.session.status, waiting_limit=3)
        async with hub.subscribe(replace(MINUTES, history=None)) as stream:
            begin = datetime(2026, 11, 23, 15, tzinfo=UTC)
            for minute in range(3):
                for price in range(1, 5):
                    bar = Bar(begin + timedelta(minutes=minute), price, price, price, price, is_complete=price == 4)
                    stream.bars([bar])
            waiting: list[Any] = list(stream._waiting.values())
            assert [(bar.start.minute, bar.close, bar.is_complete) for bar in waiting] == [
                (0, 4, True),
                (1, 4, True),
                (2, 4, True),
            ]
            stream.bars([Bar(begin + timedelta(minutes=3), 1, 1, 1, 1)])
            told: list[Any] = []

            async def read() -> None:
                async for batch in stream:
                    told.extend(batch)

            with pytest.raises(ReaderTooSlow):
                await read()
            assert [type(event) for event in told] == [Bar, Bar, Bar, ReaderTooSlow]
            assert broker.session.tallies.value(SLOW_CONSUMERS) == 1


@in_virtual_time
async def test_heartbeats_come_on_time_on_a_busy_stream() -> None:
    async with ready() as (_broker, hub), reading(hub, MINUTES, heartbeat_s=2.0) as events:
        await asyncio.sleep(21)
        assert len(of(events, Heartbeat)) >= 9


@in_virtual_time
async def test_draining_tells_every_stream_and_opens_no_more() -> None:
    async with ready() as (_broker, hub), reading(hub, MINUTES) as events:
        await asyncio.sleep(10)
        hub.drain(datetime.now(UTC) + timedelta(seconds=5))
        await asyncio.sleep(0.1)
        assert isinstance(events[-1], Draining)
        with pytest.raises(ShuttingDown):
            hub.subscribe(MINUTES)
