"""Quote streams: the newest of each instrument, and nothing that changes its meaning left out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from ibkr_gateway_server.domain.errors import DomainError, Reason, ShuttingDown
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.streams import (
    DataTypeChanged,
    Draining,
    Gap,
    Heartbeat,
    QuoteEvent,
    Resumed,
    SnapshotBegin,
    SnapshotEnd,
    Stale,
)
from ibkr_gateway_server.domain.tallies import CONFLATED
from ibkr_gateway_server.streams.quotes import STATES_KEPT, QuoteHub, QuoteSubscription

from tests.conftest import eventually
from tests.server.broker.conftest import Broker, MakeBroker, at_any_hour, broker, make_broker

__all__ = ["broker", "make_broker"]

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MSFT = Instrument(symbol="MSFT", security_type=SecurityType.STK)
NONSENSE = Instrument(symbol="AAPLL", security_type=SecurityType.STK)


@pytest.fixture
def hub(broker: Broker) -> QuoteHub:
    return QuoteHub(broker.market_data, lambda: broker.session.status)


async def take(subscription: QuoteSubscription, enough: object, timeout_s: float = 15.0) -> list[QuoteEvent]:
    """Events until one satisfies `enough`."""
    events: list[QuoteEvent] = []
    async with asyncio.timeout(timeout_s):
        async for batch in subscription:
            assert batch
            events += batch
            if any(enough(event) for event in batch):  # type: ignore[operator]
                break
    return events


def kinds(events: list[QuoteEvent]) -> list[type]:
    return [type(event.happening) for event in events]


async def test_a_stream_begins_with_a_snapshot_and_its_sequence_rises(hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as stream:
        events = await take(stream, lambda event: isinstance(event.happening, Quote) and event.sequence > 4)
    found = kinds(events)
    assert found[0] is SnapshotBegin
    assert SnapshotEnd in found
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))


async def test_a_reader_that_was_away_gets_the_newest_and_the_count_of_those_it_missed(
    broker: Broker, hub: QuoteHub
) -> None:
    async with hub.subscribe([AAPL]) as stream:
        (slot,) = stream._slots
        await eventually(lambda: slot.waiting_count > 5)
        events = await take(stream, lambda event: isinstance(event.happening, Quote))
    quote = next(event for event in events if isinstance(event.happening, Quote))
    assert quote.conflated_count >= 5
    assert sum(isinstance(event.happening, Quote) for event in events) == 1


async def test_a_gap_comes_before_and_a_resumption_comes_with_the_next_quote(broker: Broker, hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as stream:
        await take(stream, lambda event: isinstance(event.happening, Quote))
        broker.simulator.drop_connections()
        events = await take(stream, lambda event: isinstance(event.happening, Resumed))
        found = kinds(events)
        gap, resumed = found.index(Gap), found.index(Resumed)
        assert Quote not in found[gap:resumed]
        assert isinstance(events[gap].happening, Gap)
        assert events[gap].happening.reason == Reason.BROKER_DISCONNECTED


async def test_a_bad_symbol_is_its_own_error_and_the_others_go_on(hub: QuoteHub) -> None:
    async with hub.subscribe([NONSENSE, AAPL]) as stream:
        events = await take(stream, lambda event: isinstance(event.happening, Quote))
    (error,) = [event for event in events if isinstance(event.happening, DomainError)]
    assert error.instrument_index == 0
    assert error.happening.reason is Reason.CONTRACT_NOT_FOUND  # type: ignore[union-attr]
    assert {event.instrument_index for event in events if isinstance(event.happening, Quote)} == {1}


async def test_a_busy_stream_has_its_heartbeats_too(hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL], heartbeat_s=0.05) as stream:
        events = await take(stream, lambda event: isinstance(event.happening, Heartbeat))
    beat = events[-1].happening
    assert isinstance(beat, Heartbeat)
    assert beat.epoch == 1


async def test_ending_a_stream_gives_its_lines_back(broker: Broker, hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as stream:
        await take(stream, lambda event: isinstance(event.happening, Quote))
        assert [line.subscriber_count for line in broker.market_data.usage()] == [1]
    await eventually(lambda: broker.market_data.usage() == ())


async def test_draining_tells_every_stream_and_opens_no_more(hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as stream:
        hub.drain(datetime.now(UTC) + timedelta(seconds=5))
        events = [event async for batch in stream for event in batch]
    assert any(isinstance(event.happening, Draining) for event in events)
    with pytest.raises(ShuttingDown):
        hub.subscribe([AAPL])


async def test_a_reader_that_never_reads_holds_one_quote_and_few_states(broker: Broker, hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as stream:
        (slot,) = stream._slots
        for _ in range(2000):
            slot.gap("BROKER_LINK_DOWN", datetime.now(UTC))
        assert len(stream._states) <= 256


async def test_a_reader_that_never_reads_holds_one_quote_an_instrument_while_a_hundred_thousand_pass(
    broker: Broker, hub: QuoteHub
) -> None:
    before = hub.tallies.value(CONFLATED)
    async with hub.subscribe([AAPL, MSFT]) as stream:
        lines = [slot.line for slot in stream._slots]
        for number in range(50_000):
            for line in lines:
                assert line is not None
                line.tick_price(4, 100.0 + number, 1.0)
                line.batch_end()
                if number % 10_000 == 9_999:
                    line._mark_stale("NO_TICKS")
        # Five times a quote was put before the word that it is old.
        assert len(stream._states) <= STATES_KEPT * 3
        assert len(stream._states) == 1 + 2 * 2 * 5
        assert [slot.waiting_count for slot in stream._slots] == [0, 0]
        for line in lines:
            assert line is not None
            line.tick_price(4, 50_100.0, 1.0)
            line.batch_end()
        quotes = [event for event in stream._take() if isinstance(event.happening, Quote)]
    assert len(quotes) == 2 * 6
    assert sum(event.conflated_count + 1 for event in quotes) >= 100_002
    assert hub.tallies.value(CONFLATED) - before == sum(event.conflated_count for event in quotes)


async def test_a_live_quote_that_waits_is_told_before_the_word_that_what_follows_is_delayed(
    broker: Broker, hub: QuoteHub
) -> None:
    async with hub.subscribe([AAPL]) as stream:
        (slot,) = stream._slots
        await eventually(lambda: slot.waiting_count)
        assert slot.line is not None
        slot.line.tick_price(66, 90.0, 1.0)
        slot.line.batch_end()
        told = [event.happening for event in stream._take()]
    live, changed, delayed = told[-3:]
    assert isinstance(live, Quote)
    assert live.market_data_type is MarketDataType.LIVE
    assert changed == DataTypeChanged(MarketDataType.DELAYED)
    assert isinstance(delayed, Quote)
    assert (delayed.bid_price, delayed.ask_price) == (90.0, None)


async def test_who_subscribes_to_what_is_old_is_told_so(broker: Broker, hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as first:
        await take(first, lambda event: isinstance(event.happening, Quote))
        (line,) = broker.market_data.lines
        broker.session.connection().unlisten(line.request_id)
        at_any_hour(line)
        line.age(datetime.now(UTC) + timedelta(minutes=1), 15.0)
        async with hub.subscribe([AAPL]) as second:
            events = await take(second, lambda event: isinstance(event.happening, SnapshotEnd))
    found = kinds(events)
    assert found.index(Quote) < found.index(Stale) < found.index(SnapshotEnd)


async def test_a_quote_that_waits_is_told_before_the_word_that_it_is_old(broker: Broker, hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as stream:
        (slot,) = stream._slots
        await eventually(lambda: slot.waiting_count)
        assert slot.line is not None
        at_any_hour(slot.line)
        slot.line.age(datetime.now(UTC) + timedelta(minutes=1), 15.0)
        events = await take(stream, lambda event: isinstance(event.happening, Stale))
    found = kinds(events)
    assert Quote in found[: found.index(Stale)]


async def test_who_subscribes_during_a_loss_is_told_of_it_and_of_its_end(broker: Broker, hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL]) as first:
        await take(first, lambda event: isinstance(event.happening, Quote))
        broker.session.connection().callbacks.error(-1, 1100, "lost")
        async with hub.subscribe([AAPL]) as second:
            broker.session.connection().callbacks.error(-1, 1102, "restored")
            events = await take(second, lambda event: isinstance(event.happening, Resumed))
    (gap,) = [event.happening for event in events if isinstance(event.happening, Gap)]
    assert gap.reason == Reason.BROKER_LINK_DOWN


async def test_an_old_quote_in_a_snapshot_says_that_it_is_old(make_broker: MakeBroker) -> None:
    broker = await make_broker(tick_interval_s=60.0)
    hub = QuoteHub(broker.market_data, lambda: broker.session.status)
    line = await broker.market_data.acquire(AAPL)
    await eventually(lambda: line.is_fresh)
    at_any_hour(line)
    line.age(datetime.now(UTC) + timedelta(minutes=1), 15.0)
    async with hub.subscribe([AAPL]) as stream:
        events = await take(stream, lambda event: isinstance(event.happening, SnapshotEnd))
    (quote,) = [event.happening for event in events if isinstance(event.happening, Quote)]
    assert quote.is_stale
    broker.market_data.release(line)


async def test_a_stream_entered_while_the_server_drains_ends_by_itself(hub: QuoteHub) -> None:
    stream = hub.subscribe([AAPL])
    hub.drain(datetime.now(UTC) + timedelta(seconds=5))
    async with asyncio.timeout(5), stream:
        events = [event async for batch in stream for event in batch]
    assert any(isinstance(event.happening, Draining) for event in events)


async def test_updates_between_two_messages_are_conflated_when_the_reader_asks_for_an_interval(hub: QuoteHub) -> None:
    async with hub.subscribe([AAPL], min_interval_s=1.5) as stream:
        events = await take(stream, lambda event: event.conflated_count >= 3)
    assert isinstance(events[-1].happening, Quote)


async def test_many_instruments_that_fail_lose_neither_the_beginning_nor_one_error(hub: QuoteHub) -> None:
    names = [Instrument(symbol=f"NO{index}", security_type=SecurityType.STK) for index in range(20)]
    async with hub.subscribe(names) as stream:
        for slot in stream._slots:
            for _ in range(9):
                slot.failed(ShuttingDown())
        events = await take(stream, lambda event: isinstance(event.happening, SnapshotEnd))
    assert isinstance(events[0].happening, SnapshotBegin)
    assert sum(isinstance(event.happening, DomainError) for event in events) == 200
