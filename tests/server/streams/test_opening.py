"""Streams that are opened before the session is there, in virtual time: they wait with their readers, who know why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.domain.bars import Bar, BarSize, DurationUnit, HistorySpan, LiveBarsRequest
from ibkr_gateway_server.domain.depth import DepthRequest
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    ContractNotFound,
    DomainError,
    Reason,
    SessionEnded,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, QuoteEvent, Resumed, SnapshotBegin, TickEvent
from ibkr_gateway_server.domain.ticks import Tick, TickType
from ibkr_gateway_server.simulator import Fault, Simulator
from ibkr_gateway_server.streams.bars import BarHub
from ibkr_gateway_server.streams.depth import BookShown, DepthHub
from ibkr_gateway_server.streams.market_data import (
    Accepted,
    Channel,
    Command,
    Hubs,
    Item,
    MarketDataHub,
    Subscribe,
    Unsubscribe,
)
from ibkr_gateway_server.streams.quotes import QuoteHub
from ibkr_gateway_server.streams.ticks import TickHub

from tests.failures.conftest import inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
NONSENSE = Instrument(symbol="AAPLL", security_type=SecurityType.STK)
HISTORY = HistorySpan(600, DurationUnit.SECOND)


def not_yet(simulator: Simulator) -> None:
    """The first two attempts fail: it takes more than ten seconds until the session is there."""
    inject(simulator, Fault.NEVER_GREET, times=2)


def never(simulator: Simulator) -> None:
    inject(simulator, Fault.SERVER_VERSION, times=None, value="100")


@asynccontextmanager
async def early(prepare: Callable[[Simulator], None] = not_yet) -> AsyncIterator[tuple[Broker, MarketDataHub]]:
    """A broker whose session is not there yet, and who opens streams of it."""
    async with virtual_broker(prepare=prepare, linger_s=0.0) as broker:

        def status() -> Any:
            return broker.session.status

        hubs = Hubs(
            QuoteHub(broker.market_data, status),
            TickHub(broker.feeds, status),
            BarHub(broker.live_bars, status),
            DepthHub(broker.depth, status),
        )
        assert not status().serves_data
        yield broker, MarketDataHub(hubs, broker.contracts, status)


Subscribing = Callable[[Hubs, Instrument], Any]
KINDS: dict[str, tuple[Subscribing, type]] = {
    "quotes": (lambda hubs, what: hubs.quotes.subscribe([what]), Quote),
    "ticks": (lambda hubs, what: hubs.ticks.subscribe(what, TickType.BID_ASK), Tick),
    "depth": (lambda hubs, what: hubs.books.subscribe(DepthRequest(what)), BookShown),
    "bars": (lambda hubs, what: hubs.bars.subscribe(LiveBarsRequest(what, BarSize.SECS_5)), Bar),
    "bars with history": (
        lambda hubs, what: hubs.bars.subscribe(LiveBarsRequest(what, BarSize.SECS_5, history=HISTORY)),
        Bar,
    ),
    "real-time bars": (
        lambda hubs, what: hubs.bars.subscribe(LiveBarsRequest(what, BarSize.SECS_5, is_real_time=True)),
        Bar,
    ),
}
of_every_kind = pytest.mark.parametrize(("subscribe", "value"), KINDS.values(), ids=KINDS)


def happening(event: Any) -> Any:
    return event.happening if isinstance(event, QuoteEvent | TickEvent) else event


async def told(stream: Any, last: type) -> list[Any]:
    """What a stream says of its one instrument until the first of a kind, without heartbeats and marks."""
    found: list[Any] = []
    async with asyncio.timeout(300):
        async for batch in stream:
            for event in map(happening, batch):
                if isinstance(event, Gap | Resumed | Quote | Tick | BookShown | Bar | DomainError):
                    found.append(event)
                if isinstance(event, last):
                    return found
    raise AssertionError(f"it ended without {last}: {found}")


def kept(broker: Broker) -> int:
    """Subscriptions at TWS that somebody reads."""
    keepers = (broker.market_data, broker.feeds, broker.live_bars, broker.depth)
    return sum(one.subscriber_count for keeper in keepers for one in keeper._kept.values())


def waiting_count() -> int:
    """Openings that go on trying in the background."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return names.count("Opening._wait")


@of_every_kind
def test_it_begins_with_a_gap_and_flows_once_the_session_is_there(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early() as (broker, hub):
            async with subscribe(hub.hubs, AAPL) as stream:
                gap, resumed, first, *_ = await told(stream, value)
                assert kept(broker) == 1
            assert isinstance(gap, Gap)
            assert gap.reason == Reason.BROKER_DISCONNECTED
            assert resumed == Resumed(recovered=False, gap_start_time=gap.start_time)
            assert isinstance(first, value)
            assert kept(broker) == 0

    virtually(main)


@of_every_kind
def test_a_later_loss_is_a_gap_as_any_other(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early() as (broker, hub), subscribe(hub.hubs, AAPL) as stream:
            (first, *_) = await told(stream, value)
            broker.simulator.drop_connections()
            events = await told(stream, Resumed)
            (lost,) = [event for event in events if isinstance(event, Gap)]
            assert lost.start_time != first.start_time
            assert isinstance(events[-1], Resumed)
            assert events[-1].gap_start_time == lost.start_time

    virtually(main)


@of_every_kind
def test_a_reader_that_leaves_while_it_waits_leaves_nothing_behind(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early() as (broker, hub):
            async with subscribe(hub.hubs, AAPL) as stream:
                await told(stream, Gap)
                assert waiting_count() == 1
            assert waiting_count() == 0
            await broker.session.wait_until_ready(60)
            await asyncio.sleep(5)
            assert broker.contracts.known(AAPL) is None
            assert kept(broker) == 0

    virtually(main)


@of_every_kind
def test_what_waiting_cannot_mend_is_its_error_then(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early() as (broker, hub), subscribe(hub.hubs, NONSENSE) as stream:
            gap, error = await told(stream, DomainError)
            assert isinstance(gap, Gap)
            assert isinstance(error, ContractNotFound)
            assert kept(broker) == 0

    virtually(main)


@of_every_kind
def test_a_session_that_never_comes_is_an_error_too(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early(never) as (_, hub), subscribe(hub.hubs, AAPL) as stream:
            gap, error = await told(stream, DomainError)
            assert isinstance(gap, Gap)
            assert isinstance(error, SessionEnded)

    virtually(main)


@of_every_kind
def test_one_that_waits_is_told_that_the_server_stops(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early() as (broker, hub):
            hubs = hub.hubs
            async with asyncio.timeout(1), subscribe(hubs, AAPL) as stream:
                for part in (hubs.quotes, hubs.ticks, hubs.bars, hubs.books):
                    part.drain(broker.session.now())
                events = [happening(event) async for batch in stream for event in batch]
            assert any(isinstance(event, Draining) for event in events)

    virtually(main)


@of_every_kind
def test_one_that_waits_has_its_heartbeats(subscribe: Subscribing, value: type) -> None:
    async def main() -> None:
        async with early(lambda simulator: inject(simulator, Fault.NEVER_GREET, times=None)) as (_, hub):
            beats: list[Heartbeat] = []
            async with asyncio.timeout(60), subscribe(hub.hubs, AAPL) as stream:
                async for batch in stream:
                    beats = [event for event in map(happening, batch) if isinstance(event, Heartbeat)]
                    if beats:
                        break
            assert beats[0].epoch == 0
            assert beats[0].session_state in (SessionState.CONNECTING, SessionState.RECONNECTING)

    virtually(main)


@of_every_kind
def test_those_that_wait_for_the_same_share_it_and_each_hears_of_its_own_gap(
    subscribe: Subscribing, value: type
) -> None:
    async def main() -> None:
        async with early() as (broker, hub), subscribe(hub.hubs, AAPL) as first:
            (first_gap,) = await told(first, Gap)
            async with subscribe(hub.hubs, AAPL) as second:
                (second_gap,) = await told(second, Gap)
                assert second_gap.start_time > first_gap.start_time
                for stream, gap in ((first, first_gap), (second, second_gap)):
                    events = await told(stream, Resumed)
                    assert events == [Resumed(recovered=False, gap_start_time=gap.start_time)]
                assert kept(broker) == 2
                assert len(broker.contracts._details) == 1

    virtually(main)


def test_one_whose_session_is_lost_again_at_once_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        refused = 0
        ask = Contracts._ask

        async def lost_at_first(self: Contracts, wanted: Instrument) -> Any:
            nonlocal refused
            if self._session.status.serves_data and refused < 3:
                refused += 1
                raise BrokerDisconnected
            return await ask(self, wanted)

        monkeypatch.setattr(Contracts, "_ask", lost_at_first)
        async with early() as (_, hub), hub.hubs.quotes.subscribe([AAPL]) as stream:
            events = await told(stream, Quote)
        assert [type(event) for event in events] == [Gap, Resumed, Quote]
        assert refused == 3

    virtually(main)


def test_a_gap_is_within_the_snapshot_of_quotes() -> None:
    async def main() -> None:
        async with early() as (_, hub), hub.hubs.quotes.subscribe([AAPL, NONSENSE]) as stream:
            batch = await anext(aiter(stream))
        kinds = [(type(event.happening), event.instrument_index) for event in batch]
        assert kinds[0] == (SnapshotBegin, -1)
        assert set(kinds[1:3]) == {(Gap, 0), (Gap, 1)}

    virtually(main)


# --- many on one connection ------------------------------------------------------------------------------------------

CHANNELS = {
    Channel.QUOTES: Quote,
    Channel.TICKS: Tick,
    # A book is shown without its count there.
    Channel.DEPTH: object,
    Channel.REAL_TIME_BARS: Bar,
}


async def saying(*commands: Command) -> AsyncIterator[Command]:
    for command in commands:
        yield command
    await asyncio.sleep(1e9)


@pytest.mark.parametrize(("channel", "value"), CHANNELS.items(), ids=CHANNELS)
def test_a_command_is_accepted_after_the_gap_when_its_contract_is_known(channel: Channel, value: type) -> None:
    async def main() -> None:
        async with early() as (broker, hub):
            wanted = Command("a", Subscribe(AAPL, channel, 5, TickType.BID_ASK))
            found: list[Item] = []
            async with asyncio.timeout(300), hub.connect(saying(wanted)) as connection:
                async for items in connection:
                    found += [item for item in items if item.request_id]
                    if len(found) > 3:
                        break
            gap, accepted, resumed, first = [item.happening for item in found[:4]]
            assert isinstance(gap, Gap)
            assert isinstance(accepted, Accepted)
            assert accepted.instrument is not None
            assert accepted.instrument.con_id
            assert resumed == Resumed(recovered=False, gap_start_time=gap.start_time)
            assert isinstance(first, value)
            assert not isinstance(first, DomainError)
            assert kept(broker) == 0

    virtually(main)


def test_a_command_that_waits_can_be_taken_back() -> None:
    async def main() -> None:
        async with early() as (broker, hub):
            commands = saying(Command("a", Subscribe(AAPL, Channel.QUOTES)), Command("b", Unsubscribe("a")))
            found: list[Item] = []
            async with asyncio.timeout(60), hub.connect(commands) as connection:
                async for items in connection:
                    found += items
                    if any(item.request_id == "b" for item in items):
                        break
                await broker.session.wait_until_ready(60)
            assert found[-1] == Item("b", Accepted())
            assert broker.market_data.lines == ()

    virtually(main)
