"""Market data that is missing, refused, doubled, silent, somebody else's, or nonsense."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import time
from itertools import pairwise
from typing import Any

import pytest
from ibkr_gateway import Exhausted, Refused, connect, stock
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.broker.hours import sessions_of
from ibkr_gateway_server.domain.errors import BrokerTimeout, CompetingSession, Reason
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.streams import DataTypeChanged, Gap, QuoteEvent, Resumed, Stale, TickEvent
from ibkr_gateway_server.domain.tallies import (
    BROKER_TIMEOUTS,
    COMPETING_SESSIONS,
    DECODE_ERRORS,
    LATE_TICKS,
    LINES,
    RESUBSCRIBES,
    SENTINELS,
    UNKNOWN_TIME_ZONES,
)
from ibkr_gateway_server.domain.ticks import Tick, TickType
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.streams.quotes import QuoteHub
from ibkr_gateway_server.streams.ticks import TickHub

from tests.conftest import Gateway, eventually
from tests.failures.conftest import inject, tally, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MSFT = Instrument(symbol="MSFT", security_type=SecurityType.STK)
SPY = Instrument(symbol="SPY", security_type=SecurityType.STK)
# Requests: reqMktData and its end, reqMarketDataType, reqTickByTickData, reqContractDetails.
SUBSCRIBE, CANCEL, DATA_TYPE, SUBSCRIBE_TICKS = 1, 2, 59, 97
# Messages of TWS's: tickPrice, contractData, tickByTick.
PRICE, CONTRACT, TICK = 1, 10, 99
# Where contractData names the zone, in the version of the protocol that the library speaks.
TIME_ZONE = 25
# A request id that no connection comes to.
NOBODY = "1999999999"
LOST, KEPT = (1100, "lost"), (1102, "restored, data kept")


@asynccontextmanager
async def ready(**settings: Any) -> AsyncIterator[Broker]:
    """A broker in virtual time that is READY."""
    async with virtual_broker(**settings) as broker:
        await broker.session.wait_until_ready(20)
        yield broker


@asynccontextmanager
async def reading(broker: Broker, *instruments: Instrument) -> AsyncIterator[list[QuoteEvent]]:
    """A reader of quotes, and all that it has been told."""
    hub = QuoteHub(broker.market_data, lambda: broker.session.status)
    events: list[QuoteEvent] = []

    async def read() -> None:
        async with hub.subscribe(instruments) as stream:
            async for batch in stream:
                events.extend(batch)

    async with running(read()):
        yield events


@asynccontextmanager
async def reading_ticks(broker: Broker, instrument: Instrument, kind: TickType) -> AsyncIterator[list[TickEvent]]:
    """A reader of single ticks, and all that it has been told."""
    hub = TickHub(broker.feeds, lambda: broker.session.status)
    events: list[TickEvent] = []

    async def read() -> None:
        async with hub.subscribe(instrument, kind) as stream:
            async for batch in stream:
                events.extend(batch)

    async with running(read()):
        yield events


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    """Work that ends with the context."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def told(events: Sequence[QuoteEvent] | Sequence[TickEvent], *kinds: type) -> list[Any]:
    """What was told of these kinds."""
    return [event.happening for event in events if isinstance(event.happening, kinds)]


def types(events: Sequence[QuoteEvent]) -> list[MarketDataType | None]:
    """The types of the quotes that were told, each change once."""
    found = [quote.market_data_type for quote in told(events, Quote)]
    return [kind for kind, before in zip(found, [None, *found], strict=False) if kind is not before]


def asked(broker: Broker) -> int:
    """How often quotes were asked for at TWS."""
    return broker.simulator.frames_received(SUBSCRIBE)


def counted(broker: Broker, cause: str) -> float:
    """Subscriptions that were asked for again for this cause."""
    return broker.session.tallies.value(RESUBSCRIBES, cause)


async def soon(condition: Callable[[], Any], timeout_s: float = 300.0) -> None:
    """Returns once it holds, in virtual time."""
    await eventually(condition, timeout_s)


def clock() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def event_of(gateway: Gateway, kind: str, then: Callable[[], None] = lambda: None) -> pb.QuoteEvent:
    """The first event of a kind that a stream of AAPL tells; `then` is done once it has a quote."""
    request = pb.StreamQuotesRequest(instruments=[stock("AAPL")])
    is_done = False
    async with asyncio.timeout(15):
        async for response in gateway.client.market_data.StreamQuotes(request):
            for event in response.events:
                if event.WhichOneof("event") == kind:
                    return event
                if event.HasField("quote") and not is_done:
                    is_done = True
                    then()
    raise AssertionError(f"the stream has ended without {kind}")


# --- M01 and M02 -----------------------------------------------------------------------------------------------------


def test_M01_a_line_without_a_tick_is_a_timeout_and_is_given_back() -> None:
    """reqMktData is answered by nothing.

    GetQuote fails with BROKER_TIMEOUT after its own 11 s; the line is cancelled after its linger, and none is in use.
    """

    async def main() -> None:
        async with ready() as broker:
            inject(broker.simulator, Fault.LOSE, SUBSCRIBE)
            began = clock()
            with pytest.raises(BrokerTimeout):
                await broker.market_data.snapshot(AAPL, 11.0)
            assert clock() - began <= 11.1
            tallies = broker.session.tallies
            assert (tallies.value(LINES), tallies.value(BROKER_TIMEOUTS, "reqMktData")) == (1, 1)
            await soon(lambda: broker.simulator.frames_received(CANCEL) == 1)
            assert tallies.value(LINES) == 0

    virtually(main)


def test_M01_a_stream_whose_request_is_lost_is_asked_for_again() -> None:
    """reqMktData is answered by nothing, and a stream waits for its first quote.

    STALE(NO_TICKS) once stale_after has passed; the line is asked for again after a minute, and quotes flow.
    """

    async def main() -> None:
        async with ready() as broker:
            inject(broker.simulator, Fault.LOSE, SUBSCRIBE)
            async with reading(broker, AAPL) as events:
                began = clock()
                await soon(lambda: told(events, Stale))
                assert 15 <= clock() - began < 18
                await soon(lambda: told(events, Quote))
                assert 59 <= clock() - began < 63
                assert [stale.reason for stale in told(events, Stale)] == ["NO_TICKS"]
                await asyncio.sleep(120)
                assert (asked(broker), counted(broker, "stale")) == (2, 1)

    virtually(main)


@pytest.mark.parametrize("value", ["nan", "-1", "max_double", "max_int", "empty", "?"])
def test_M02_a_sentinel_in_every_figure_is_an_absent_field(value: str) -> None:
    """Every price and size of a line is nan, -1, the largest double, the largest int, empty or a question mark.

    Each of these fields is absent, never 0 and never -1; each sentinel is counted, and none is a message that could
    not be read.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.SENTINEL, times=None, value=value)
            await asyncio.sleep(60)
            quote = told(events, Quote)[-1]
            left = {name: getattr(quote, name) for name in ("bid_price", "ask_price", "last_price", "volume")}
            left |= {name: getattr(quote, name) for name in ("bid_size", "ask_size", "last_size")}
            assert left == dict.fromkeys(left)
            assert broker.session.tallies.value(SENTINELS) >= len(left)
            assert broker.session.tallies.value(DECODE_ERRORS, str(PRICE)) == 0

    virtually(main)


# --- M03 to M06: what the login does not get -------------------------------------------------------------------------


def test_M03_another_login_takes_the_live_data_for_a_while() -> None:
    """10197, twenty times for each line; another login has the live data for 100 s.

    STALE(COMPETING_SESSION) once, then delayed quotes, told as DELAYED; live again within a minute of its being free,
    told as LIVE. A quote never mixes the two.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as first, reading(broker, MSFT) as second:
            await soon(lambda: told(first, Quote) and told(second, Quote))
            inject(broker.simulator, Fault.COMPETING_SESSION, times=20, duration_s=100.0)
            await soon(lambda: told(first, DataTypeChanged) and told(second, DataTypeChanged))
            snapshot = await broker.market_data.snapshot(AAPL, 5.0)
            assert snapshot.market_data_type is MarketDataType.DELAYED
            # A contract that nobody has watched until now gets delayed data as well.
            assert (await broker.market_data.snapshot(SPY, 5.0)).market_data_type is MarketDataType.DELAYED
            await soon(lambda: len(types(first)) == 3 or len(types(second)) == 3)
            # What one line has got back, the others get at once.
            await soon(lambda: len(types(first)) == len(types(second)) == 3, 5.0)
            for events in (first, second):
                assert [stale.reason for stale in told(events, Stale)] == [Reason.COMPETING_SESSION]
                changes = [word.market_data_type for word in told(events, DataTypeChanged)]
                assert changes == [MarketDataType.DELAYED, MarketDataType.LIVE]
                assert types(events) == [MarketDataType.LIVE, MarketDataType.DELAYED, MarketDataType.LIVE]
            tallies = broker.session.tallies
            assert tallies.value(COMPETING_SESSIONS) == 3
            # One line alone has tried whether live data is back, once in vain.
            assert counted(broker, "competing") == 3 + 2 + 1 + 1
            # Whoever asks next is asked for as live: what is delayed is so for its own request alone.
            assert (await broker.market_data.snapshot(SPY, 5.0)).market_data_type is MarketDataType.LIVE

    virtually(main)


def test_M03_by_setting_a_line_waits_for_its_live_data() -> None:
    """10197, twenty times; another login has the live data for 100 s, and COMPETING_SESSION=wait.

    STALE(COMPETING_SESSION) once and no delayed quote; GetQuote fails with COMPETING_SESSION; live quotes after.
    """

    async def main() -> None:
        async with ready(fall_back_to_delayed=False) as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.COMPETING_SESSION, times=20, duration_s=100.0)
            await soon(lambda: told(events, Stale))
            with pytest.raises(CompetingSession):
                await broker.market_data.snapshot(AAPL, 5.0)
            before = len(told(events, Quote))
            await soon(lambda: len(told(events, Quote)) > before)
            assert types(events) == [MarketDataType.LIVE]
            assert [stale.reason for stale in told(events, Stale)] == [Reason.COMPETING_SESSION]
            assert told(events, DataTypeChanged) == []
            assert broker.simulator.frames_received(DATA_TYPE) == 0
            assert broker.session.tallies.value(COMPETING_SESSIONS) == 1

    virtually(main)


def test_M03_a_login_without_delayed_data_waits_for_its_live_data() -> None:
    """10197, and 10168 (delayed data is not enabled) where the line is asked for as delayed.

    STALE(COMPETING_SESSION); the stream goes on, and has live quotes when the data is free.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.COMPETING_SESSION, duration_s=30.0)
            inject(broker.simulator, Fault.REFUSE, SUBSCRIBE, code=10168)
            await soon(lambda: told(events, Stale))
            before = len(told(events, Quote))
            await soon(lambda: len(told(events, Quote)) > before)
            assert types(events) == [MarketDataType.LIVE]

    virtually(main)


def test_M03_a_connection_lost_while_another_login_has_the_data() -> None:
    """10197, and while another login has the live data the connection to TWS breaks.

    A gap, then delayed quotes again, since the new connection gets no live data either; live ones when it is free.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.COMPETING_SESSION, duration_s=100.0)
            await soon(lambda: types(events)[-1] is MarketDataType.DELAYED)
            broker.simulator.drop_connections()
            await soon(lambda: told(events, Resumed))
            await soon(lambda: types(events)[-1] is MarketDataType.LIVE)
            assert types(events) == [MarketDataType.LIVE, MarketDataType.DELAYED, MarketDataType.LIVE]
            reasons = [word.reason for word in told(events, Gap, Stale)]
            assert reasons == [Reason.COMPETING_SESSION, Reason.BROKER_DISCONNECTED, Reason.COMPETING_SESSION]

    virtually(main)


@pytest.mark.parametrize("code", [354, 10089, 10168])
async def test_M04_data_that_is_not_subscribed(gateway: Gateway, code: int) -> None:
    """reqMktData is refused with 354, 10089 or 10168: the login has no subscription for it.

    GetQuote fails with PERMISSION_DENIED and MARKET_DATA_NOT_SUBSCRIBED; a stream goes on, with that error in the
    instrument's own event. No line stays in use.
    """
    inject(gateway.simulator, Fault.REFUSE, SUBSCRIBE, code=code, times=2)
    with pytest.raises(Refused) as refused:
        await gateway.client.market_data.GetQuote(pb.GetQuoteRequest(instrument=stock("AAPL")))
    assert refused.value.reason == Reason.MARKET_DATA_NOT_SUBSCRIBED
    assert refused.value.details["ibkr_code"] == str(code)
    event = await event_of(gateway, "error")
    assert event.error.error_code == Reason.MARKET_DATA_NOT_SUBSCRIBED
    await eventually(lambda: tally(gateway, LINES) == 0)


@pytest.mark.parametrize("code", [354, 10089, 10168])
async def test_M04_a_subscription_that_ends_while_it_streams(gateway: Gateway, code: int) -> None:
    """354, 10089 or 10168 about a line that flows.

    The stream goes on, with MARKET_DATA_NOT_SUBSCRIBED in the instrument's own event, and no line stays in use.
    """
    event = await event_of(gateway, "error", lambda: inject(gateway.simulator, Fault.LINE_ERROR, code=code))
    assert event.error.error_code == Reason.MARKET_DATA_NOT_SUBSCRIBED
    await eventually(lambda: tally(gateway, LINES) == 0)


def test_M05_part_of_the_data_is_not_subscribed() -> None:
    """10090 about a line that flows: part of it is not subscribed.

    A notice with the code; the quotes go on, of the same type.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.LINE_ERROR, code=10090)
            await soon(lambda: told(events, BrokerNotice))
            before = len(told(events, Quote))
            await soon(lambda: len(told(events, Quote)) > before)
            assert [notice.code for notice in told(events, BrokerNotice)] == [10090]
            assert types(events) == [MarketDataType.LIVE]
            assert told(events, DataTypeChanged) == []

    virtually(main)


def test_M05_delayed_data_takes_the_place_of_live() -> None:
    """10167 about a line that flows: it is delayed from now on.

    A notice with the code, then DELAYED, then delayed quotes without any live value in them.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.LINE_ERROR, code=10167)
            await soon(lambda: types(events)[-1] is MarketDataType.DELAYED)
            words = told(events, BrokerNotice, DataTypeChanged)
            assert [type(word) for word in words] == [BrokerNotice, DataTypeChanged]
            order = [type(event.happening) for event in events if isinstance(event.happening, Quote | DataTypeChanged)]
            at = order.index(DataTypeChanged)
            quotes = told(events, Quote)
            assert {quote.market_data_type for quote in quotes[:at]} == {MarketDataType.LIVE}
            assert {quote.market_data_type for quote in quotes[at:]} == {MarketDataType.DELAYED}
            # What is told first of a delayed line is all delayed: its last trade is a quarter of an hour old.
            assert quotes[at].exchange_time is not None
            assert (quotes[at].receive_time - quotes[at].exchange_time).total_seconds() > 800
            assert asked(broker) == 1

    virtually(main)


async def test_M06_ibkr_has_no_line_left(gateway: Gateway) -> None:
    """reqMktData is refused with 101: the login has no line left.

    GetQuote fails with RESOURCE_EXHAUSTED and MARKET_DATA_LINES; a stream of another instrument goes on.
    """

    async def refused() -> None:
        inject(gateway.simulator, Fault.REFUSE, SUBSCRIBE, code=101)
        with pytest.raises(Exhausted) as full:
            await gateway.client.market_data.GetQuote(pb.GetQuoteRequest(instrument=stock("MSFT")))
        assert full.value.reason == Reason.MARKET_DATA_LINES

    await goes_on_after(gateway, refused)


async def test_M06_our_own_lines_are_used_up(gateway: Gateway) -> None:
    """As many lines are in use as the account has, here one.

    GetQuote of another instrument fails with RESOURCE_EXHAUSTED and MARKET_DATA_LINES without asking TWS; the stream
    that has the line goes on.
    """
    market_data = gateway.running.market_data
    market_data.settings = replace(market_data.settings, line_limit=1)

    async def refused() -> None:
        before = gateway.simulator.frames_received(SUBSCRIBE)
        with pytest.raises(Exhausted) as full:
            await gateway.client.market_data.GetQuote(pb.GetQuoteRequest(instrument=stock("MSFT")))
        assert full.value.reason == Reason.MARKET_DATA_LINES
        assert (full.value.details["used"], full.value.details["limit"]) == ("1", "1")
        assert gateway.simulator.frames_received(SUBSCRIBE) == before

    await goes_on_after(gateway, refused)


async def goes_on_after(gateway: Gateway, act: Callable[[], Any]) -> None:
    """A stream of AAPL has quotes before and after, and nothing but quotes."""
    request = pb.StreamQuotesRequest(instruments=[stock("AAPL")])
    quotes, has_acted = 0, False
    async with asyncio.timeout(15):
        async for response in gateway.client.market_data.StreamQuotes(request):
            for event in response.events:
                assert event.WhichOneof("event") in ("snapshot_begin", "snapshot_end", "quote")
                quotes += event.HasField("quote")
            if quotes >= 2 and has_acted:
                return
            if quotes and not has_acted:
                await act()
                assert tally(gateway, LINES) == 1
                quotes, has_acted = 0, True


# --- M07 to M09: readers that come and go ----------------------------------------------------------------------------


async def test_M07_two_hundred_readers_of_one_contract(gateway: Gateway) -> None:
    """Two hundred streams and requests for the same contract at once.

    All have quotes; one line is in use and one request was sent to TWS.
    """
    request = pb.StreamQuotesRequest(instruments=[stock("AAPL")])
    async with AsyncExitStack() as stack:

        async def first_quote() -> None:
            call: Any = gateway.client.market_data.StreamQuotes(request)
            stack.push_async_callback(call.aclose)
            async for response in call:
                if any(event.HasField("quote") for event in response.events):
                    return

        async with asyncio.timeout(30):
            await asyncio.gather(*(first_quote() for _ in range(200)))
        assert gateway.simulator.frames_received(SUBSCRIBE) == 1
        assert tally(gateway, LINES) == 1
        usage = await gateway.client.market_data.GetMarketDataUsage(pb.GetMarketDataUsageRequest())
        assert [line.subscriber_count for line in usage.lines] == [200]


class Between:
    """Stands between a client and the server, so that their connection can break as machines break it."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Yields the address to connect to."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.tear()

    def tear(self) -> None:
        """Both connections are reset, with nothing said."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        self._writers += [writer, far_writer]
        for source, drain in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.ensure_future(self._copy(source, drain))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _copy(source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                drain.write(data)


async def test_M08_the_last_client_vanishes(gateway: Gateway) -> None:
    """The connection of the only client is reset in the middle of its stream.

    cancelMktData is on the wire after the linger, here none, and no line is in use.
    """
    market_data = gateway.running.market_data
    market_data.settings = replace(market_data.settings, linger_s=0.0)
    between = Between(gateway.running.target)
    async with between.listening() as address, connect(address, timeout_s=10.0) as client:
        request = pb.StreamQuotesRequest(instruments=[stock("AAPL")])
        with suppress(Exception):
            async for response in client.market_data.StreamQuotes(request):
                if any(event.HasField("quote") for event in response.events):
                    assert tally(gateway, LINES) == 1
                    between.tear()
    await eventually(lambda: gateway.simulator.frames_received(CANCEL) == 1)
    assert tally(gateway, LINES) == 0
    assert market_data.usage() == ()


def test_M09_a_reader_that_leaves_before_the_first_tick(caplog: pytest.LogCaptureFixture) -> None:
    """A reader leaves before the first tick, and the ticks come after cancelMktData.

    The line is cancelled after its linger, and none is in use; the late ticks are counted, and no error is logged.
    """

    async def main() -> None:
        async with ready() as broker:
            inject(broker.simulator, Fault.DELAY_REPLY, PRICE, times=None, delay_s=20.0)
            async with reading(broker, AAPL) as events:
                await soon(lambda: asked(broker) == 1)
            assert told(events, Quote) == []
            await soon(lambda: broker.simulator.frames_received(CANCEL) == 1)
            tallies = broker.session.tallies
            assert tallies.value(LINES) == 0
            before = tallies.value(LATE_TICKS)
            await soon(lambda: tallies.value(LATE_TICKS) > before)
            assert broker.session.status.state is SessionState.READY

    with caplog.at_level(logging.WARNING):
        virtually(main)
    assert caplog.records == []


# --- M10 and C17: silence --------------------------------------------------------------------------------------------


def test_M10_data_that_was_kept_and_is_dead() -> None:
    """1100, then 1102; the line stays silent, and so do the next two requests for it.

    A gap, then STALE once stale_after has passed; the line is asked for again then and each minute after, until a quote
    ends the gap.
    """

    async def main() -> None:
        async with ready(tick_interval_s=1e6) as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            inject(broker.simulator, Fault.LOSE, SUBSCRIBE, times=2)
            notice = broker.session.connection().callbacks.error
            notice(-1, *LOST)
            notice(-1, *KEPT)
            restored = clock()
            await soon(lambda: asked(broker) == 2)
            assert 15 <= clock() - restored < 18
            assert [stale.reason for stale in told(events, Stale)] == ["NO_TICKS"]
            for count in (3, 4):
                before = clock()
                await soon(lambda: asked(broker) == count)  # noqa: B023  # done before the next round
                assert 59 <= clock() - before < 63
            await soon(lambda: told(events, Resumed))
            assert counted(broker, "stale") == 3
            assert [type(word) for word in told(events, Gap, Stale, Resumed)] == [Gap, Stale, Resumed]
            # It flows: nothing more is asked for.
            await asyncio.sleep(70)
            assert asked(broker) == 4

    virtually(main)


def test_M10_a_closed_market_is_neither_stale_nor_asked_for() -> None:
    """1100 and 1102 in the evening, and silence until the exchange opens in the morning.

    No STALE and no request until the market has been open for stale_after; then both. Heartbeats go on.
    """

    async def main() -> None:
        async with ready(tick_interval_s=1e6) as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            (line,) = broker.market_data.lines
            assert line.details is not None
            sessions = line.details.trading_sessions
            opening = min(session.open_time for session in sessions if session.open_time > broker.session.now())
            evening = max(session.close_time for session in sessions if session.close_time < opening)
            await asyncio.sleep((evening - broker.session.now()).total_seconds() + 60)
            events.clear()
            line.lose(Reason.BROKER_LINK_DOWN, broker.session.now())
            broker.session.connection().callbacks.error(-1, *KEPT)
            before = asked(broker)
            await asyncio.sleep((opening - broker.session.now()).total_seconds() - 1)
            assert told(events, Stale) == []
            assert asked(broker) == before
            assert len({event.sequence for event in events}) > 1000
            await soon(lambda: asked(broker) > before, 30.0)
            assert 15 < (broker.session.now() - opening).total_seconds() < 20

    virtually(main)


def test_C17_a_data_farm_breaks_and_is_back_after_three_seconds() -> None:
    """2103 for the market's farm, and 2104 three seconds later; afterwards one of two lines stays silent.

    FARM_DEGRADED, and STALE(FARM_DOWN) on what falls silent; after 2104 quotes end it, and what has none for 5 s is
    asked for again. Connection and epoch stay.
    """

    async def main() -> None:
        async with ready() as broker, reading(broker, AAPL) as first, reading(broker, MSFT) as second:
            await soon(lambda: told(first, Quote) and told(second, Quote))
            epoch = broker.session.epoch
            inject(broker.simulator, Fault.FARM_BROKEN, value="market", duration_s=3.0)
            await soon(lambda: told(first, Stale) and told(second, Stale))
            assert broker.session.status.state is SessionState.FARM_DEGRADED
            for events in (first, second):
                assert [stale.reason for stale in told(events, Stale)] == ["FARM_DOWN"]
            line = next(line for line in broker.market_data.lines if line.instrument.symbol == "AAPL")
            broker.session.connection().unlisten(line.request_id)
            await soon(lambda: broker.session.status.state is SessionState.READY)
            back = clock()
            await soon(lambda: asked(broker) == 3)
            assert 5 <= clock() - back < 7
            await soon(lambda: not told(first, Quote)[-1].is_stale)
            await asyncio.sleep(30)
            assert counted(broker, "farm") == 1
            assert asked(broker) == 3
            assert broker.session.epoch == epoch
            assert not told(second, Quote)[-1].is_stale

    virtually(main)


def test_C17_ticks_that_a_farm_may_have_swallowed_are_a_gap() -> None:
    """2103 for the market's farm under a stream of single ticks, and 2104 three seconds later.

    A gap from the last tick on, with FARM_DOWN, and RESUMED with the first tick after; nothing is asked for again.
    """

    async def main() -> None:
        async with ready() as broker, reading_ticks(broker, AAPL, TickType.BID_ASK) as events:
            await soon(lambda: told(events, Tick))
            inject(broker.simulator, Fault.FARM_BROKEN, value="market", duration_s=3.0)
            await soon(lambda: told(events, Resumed))
            (gap,) = told(events, Gap)
            assert gap.reason == "FARM_DOWN"
            assert told(events, Resumed) == [Resumed(recovered=False, gap_start_time=gap.start_time)]
            await asyncio.sleep(30)
            assert broker.simulator.frames_received(SUBSCRIBE_TICKS) == 1

    virtually(main)


# --- M11, M16 and M17: what is odd and right -------------------------------------------------------------------------


def test_M11_crossed_and_doubled_ticks_pass_through() -> None:
    """A bid far above the ask; single ticks that come twice and out of order.

    They are told as they came, each with a sequence of its own that rises.
    """

    async def main() -> None:
        async with ready() as broker:
            async with reading(broker, AAPL) as quotes:
                await soon(lambda: told(quotes, Quote))
                # The price of the next tickPrice.
                inject(broker.simulator, Fault.CORRUPT_FIELD, PRICE, field=4, value="99999", times=6)
                await soon(lambda: any((quote.bid_price or 0) > 90000 for quote in told(quotes, Quote)))
            async with reading_ticks(broker, AAPL, TickType.BID_ASK) as ticks:
                await soon(lambda: told(ticks, Tick))
                inject(broker.simulator, Fault.DUPLICATE_REPLY, TICK)
                await soon(lambda: has_a_double(told(ticks, Tick)))
                inject(broker.simulator, Fault.CORRUPT_FIELD, TICK, field=3, value="1700000000")
                await soon(lambda: is_out_of_order(told(ticks, Tick)))
            for events in (quotes, ticks):
                sequences = [event.sequence for event in events]
                assert sequences == sorted(set(sequences))

    virtually(main)


def has_a_double(ticks: Sequence[Tick]) -> bool:
    """Whether one tick is told twice in a row."""
    return any(one == other for one, other in pairwise(ticks))


def is_out_of_order(ticks: Sequence[Tick]) -> bool:
    """Whether the exchange's time goes back."""
    times = [tick.exchange_time.timestamp() for tick in ticks if tick.exchange_time is not None]
    return times != sorted(times)


def test_M16_ticks_of_a_request_that_nobody_made(caplog: pytest.LogCaptureFixture) -> None:
    """Ticks and an error under a request id that is not known.

    Nobody is told of them; they are counted, and nothing is logged above DEBUG.
    """

    async def main() -> None:
        async with ready(tick_interval_s=1e6) as broker, reading(broker, AAPL) as events:
            await soon(lambda: told(events, Quote))
            before, late = len(events), broker.session.tallies.value(LATE_TICKS)
            connection = broker.session.connection()
            for fields in (("1", "6", NOBODY, "1", "100.5", "7", "0"), ("4", "2", NOBODY, "300", "no such id", "")):
                text = "".join(f"{field}\0" for field in fields)
                connection.reader.data_received(len(text).to_bytes(4, "big") + text.encode())
            await asyncio.sleep(1)
            assert broker.session.tallies.value(LATE_TICKS) - late == 2
            assert len(events) == before

    with caplog.at_level(logging.WARNING):
        virtually(main)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "opening"),
    [("EST", (14, 30)), ("US/Eastern", (14, 30)), ("Central European Standard Time", (8, 30))],
)
def test_M17_a_time_zone_by_any_of_its_names(name: str, opening: tuple[int, int]) -> None:
    """Contract details name their zone EST, US/Eastern or Central European Standard Time.

    Opening hours are the same moments in UTC as at the exchange.
    """

    async def main() -> None:
        async with ready() as broker:
            inject(broker.simulator, Fault.CORRUPT_FIELD, CONTRACT, field=TIME_ZONE, value=name)
            details = await broker.contracts.detail(AAPL)
            assert details.time_zone == name
            opens = {session.open_time.time() for session in details.regular_sessions}
            assert opens == {time(*opening)}
            assert broker.session.tallies.value(UNKNOWN_TIME_ZONES) == 0

    virtually(main)


@pytest.mark.parametrize(
    ("name", "days", "openings"),
    [
        ("EST", ("20260306", "20260309"), ((14, 30), (13, 30))),
        ("EST (Eastern Standard Time)", ("20261030", "20261102"), ((13, 30), (14, 30))),
        ("Central European Standard Time", ("20260327", "20260330"), ((8, 30), (7, 30))),
    ],
)
def test_M17_a_change_of_clocks(name: str, days: tuple[str, str], openings: tuple[tuple[int, int], ...]) -> None:
    """Opening hours of a Friday and a Monday between which the clocks of the exchange change.

    Each is the right moment in UTC: a zone's abbreviation is its place, not an offset.
    """
    text = ";".join(f"{day}:0930-{day}:1600" for day in days)
    found = [(session.open_time.hour, session.open_time.minute) for session in sessions_of(text, name)]
    assert tuple(found) == openings


def test_M17_a_time_zone_that_nobody_knows() -> None:
    """Contract details name a zone that is none.

    The contract resolves, its opening hours are absent and its quotes flow; the zone is counted.
    """

    async def main() -> None:
        async with ready() as broker:
            inject(broker.simulator, Fault.CORRUPT_FIELD, CONTRACT, field=TIME_ZONE, value="Middle-earth/Shire")
            details = await broker.contracts.detail(AAPL)
            assert details.trading_sessions == details.regular_sessions == ()
            assert broker.session.tallies.value(UNKNOWN_TIME_ZONES) == 1
            assert (await broker.market_data.snapshot(AAPL, 5.0)).has_price

    virtually(main)
