"""Feeds of live bars: which bars are held, which are complete, and what makes a feed ask anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from typing import Any

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.bar_feed import BARS_HELD, BarFeed, least_history
from ibkr_gateway_server.domain.bars import Bar, BarSize, DurationUnit, HistorySpan, LiveBarsRequest
from ibkr_gateway_server.domain.errors import BadBar, DomainError
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.streams import Gap, Resumed, Stale
from ibkr_gateway_server.domain.tallies import RESUBSCRIBES
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import BEGIN, inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MINUTES = LiveBarsRequest(AAPL, BarSize.MIN_1)
REAL_TIME = LiveBarsRequest(AAPL, BarSize.SECS_5, is_real_time=True)
HISTORY, REAL_TIME_BARS = 20, 50
# Messages of TWS's: a bar of five seconds, a bar that grows.
REAL_TIME_BAR, UPDATE = 50, 90


class Ear:
    """Hears a feed and keeps all."""

    def __init__(self, history: HistorySpan | None = None) -> None:
        self.history = history
        self.heard: list[Any] = []

    def bars(self, bars: Sequence[Bar]) -> None:
        self.heard += bars

    def loaded(self, bars: Sequence[Bar], news: Sequence[Bar]) -> None:
        self.heard.append((tuple(bars), tuple(news)))

    def gap(self, gap: Gap) -> None:
        self.heard.append(gap)

    def resumed(self, resumed: Resumed) -> None:
        self.heard.append(resumed)

    def stale(self, stale: Stale) -> None:
        self.heard.append(stale)

    def failed(self, error: DomainError) -> None:
        self.heard.append(error)

    def of(self, *kinds: type) -> list[Any]:
        return [each for each in self.heard if isinstance(each, kinds)]


@asynccontextmanager
async def following(
    wanted: LiveBarsRequest, prepare: Callable[[Broker], None] = lambda _: None
) -> AsyncIterator[tuple[Broker, BarFeed, Ear]]:
    """A feed in virtual time that has brought its first bars."""
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)
        prepare(broker)
        feed, ear = await broker.live_bars.acquire(wanted), Ear()
        feed.listeners[ear] = None
        await asyncio.sleep(6)
        yield broker, feed, ear


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The test's body runs in virtual time."""

    def run() -> None:
        virtually(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def row(minute: int, close: float) -> ib.BarData:
    begin: Any = str(int(BEGIN) + 60 * minute)
    return ib.BarData(begin, close, close, close, close, 100, close, 1)


def test_the_least_history_is_one_bar_at_least() -> None:
    found = {size: str(least_history(size)) for size in (BarSize.SECS_5, BarSize.MINS_5, BarSize.HOURS_8)}
    assert found == {BarSize.SECS_5: "60 S", BarSize.MINS_5: "600 S", BarSize.HOURS_8: "57600 S"}
    assert [str(least_history(size)) for size in (BarSize.DAY_1, BarSize.WEEK_1, BarSize.MONTH_1)] == [
        "1 D",
        "1 W",
        "1 M",
    ]


@in_virtual_time
async def test_no_more_than_a_thousand_bars_are_held_and_the_reader_gets_all() -> None:
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)
        span = HistorySpan(2, DurationUnit.DAY)
        feed, ear = await broker.live_bars.acquire(LiveBarsRequest(AAPL, BarSize.MIN_1)), Ear(span)
        feed.listeners[ear] = None
        await asyncio.sleep(6)
        bars, _ = ear.of(tuple)[0]
        assert len(bars) > BARS_HELD
        assert len(feed.bars) == BARS_HELD
        assert set(bars[-900:]) <= set(feed.bars)
        assert not feed.covers(HistorySpan(60, DurationUnit.SECOND))


@in_virtual_time
async def test_a_bar_before_the_growing_one_corrects_what_is_known_and_nothing_else() -> None:
    async with following(MINUTES) as (_, feed, ear):
        ear.heard.clear()
        feed.bar_update(row(5, 10.0))
        feed.bar_update(row(6, 11.0))
        feed.batch_end()
        assert [(bar.close, bar.is_complete) for bar in ear.of(Bar)[-2:]] == [(10.0, True), (11.0, False)]
        ear.heard.clear()
        feed.bar_update(row(5, 10.5))
        feed.bar_update(row(5, 10.5))
        feed.bar_update(row(-500, 1.0))
        feed.batch_end()
        feed.bar_update(row(6, 11.0))
        feed.batch_end()
        assert [(bar.close, bar.is_complete) for bar in ear.heard] == [(10.5, True)]


@in_virtual_time
async def test_a_bar_that_cannot_be_read_is_a_gap_and_asked_for_anew_but_not_again_and_again() -> None:
    def spoil(broker: Broker) -> None:
        # The open of every bar that grows is no number.
        inject(broker.simulator, Fault.CORRUPT_FIELD, UPDATE, field=4, value="1.7976931348623157E308", times=None)

    async with following(MINUTES, spoil) as (broker, feed, ear):
        await asyncio.sleep(50)
        assert [gap.reason for gap in ear.of(Gap)] == ["BAR_UNREADABLE"] * 2
        assert broker.simulator.frames_received(HISTORY) == 2
        broker.simulator.faults.clear()
        await asyncio.sleep(60)
        assert broker.simulator.frames_received(HISTORY) == 3
        assert isinstance(ear.heard[-1], Bar)
        assert feed.gap is None
        assert broker.session.tallies.value(RESUBSCRIBES, "unreadable") >= 1


@in_virtual_time
async def test_history_with_a_bar_that_cannot_be_read_is_an_error_and_no_part_of_it() -> None:
    def spoil(broker: Broker) -> None:
        inject(broker.simulator, Fault.BAD_DATE)

    async with following(MINUTES, spoil) as (broker, _, ear):
        assert [type(each) for each in ear.heard] == [BadBar]
        assert broker.live_bars.open_feeds == ()
        # And TWS is told to stop.
        assert broker.simulator.frames_received(25) == 1


@in_virtual_time
async def test_the_last_bar_of_a_session_is_completed_without_a_successor() -> None:
    async with following(MINUTES) as (broker, feed, ear):
        ear.heard.clear()
        inject(broker.simulator, Fault.LOSE_REPLY, UPDATE, times=None)
        await asyncio.sleep(80)
        (last,) = ear.of(Bar)
        assert last.is_complete
        assert last == feed.bars[-1]


@in_virtual_time
async def test_real_time_bars_that_fail_to_come_are_stale_and_asked_for_again() -> None:
    async with following(REAL_TIME) as (broker, _, ear):
        inject(broker.simulator, Fault.LOSE_REPLY, REAL_TIME_BAR, times=None, duration_s=150)
        await asyncio.sleep(100)
        (stale,) = ear.of(Stale)
        assert stale.reason == "NO_TICKS"
        assert broker.simulator.frames_received(REAL_TIME_BARS) == 1
        await asyncio.sleep(49)
        assert broker.simulator.frames_received(REAL_TIME_BARS) == 2
        await asyncio.sleep(200)
        assert isinstance(ear.heard[-1], Bar)
        assert len(ear.of(Stale)) == 1
        assert broker.simulator.frames_received(REAL_TIME_BARS) == 2


@in_virtual_time
async def test_history_that_does_not_come_is_asked_for_again() -> None:
    def lose(broker: Broker) -> None:
        inject(broker.simulator, Fault.LOSE, HISTORY)

    async with following(MINUTES, lose) as (broker, feed, _):
        assert not feed.is_loaded
        await asyncio.sleep(60)
        assert feed.is_loaded
        assert broker.simulator.frames_received(HISTORY) == 2


@in_virtual_time
async def test_daily_bars_grow_under_their_date() -> None:
    async with following(LiveBarsRequest(AAPL, BarSize.DAY_1)) as (_, feed, ear):
        await asyncio.sleep(20)
        (today,) = {bar.start for bar in ear.of(Bar)}
        assert today == date(2026, 11, 23)
        assert not feed.bars[-1].is_complete


@in_virtual_time
async def test_silence_out_of_hours_is_not_stale() -> None:
    for is_regular, closed in ((False, "trading_sessions"), (True, "regular_sessions")):
        async with following(replace(REAL_TIME, regular_hours_only=is_regular)) as (broker, feed, ear):
            assert feed.details is not None
            feed.details = replace(feed.details, **{closed: ()})
            inject(broker.simulator, Fault.LOSE_REPLY, REAL_TIME_BAR, times=None)
            await asyncio.sleep(600)
            assert ear.of(Bar)
            assert not ear.of(Stale, Gap)
