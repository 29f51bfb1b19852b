"""Quote streams: the newest of each instrument, and nothing that changes its meaning left out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from ibkr_gateway_server.domain.errors import DomainError, Reason, ShuttingDown
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.domain.streams import (
    Draining,
    Gap,
    Heartbeat,
    QuoteEvent,
    Resumed,
    SnapshotBegin,
    SnapshotEnd,
)
from ibkr_gateway_server.streams.quotes import QuoteHub, QuoteSubscription

from tests.conftest import eventually
from tests.server.broker.conftest import Broker, broker

__all__ = ["broker"]

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
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
        await eventually(lambda: slot.conflated_count >= 5)
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
