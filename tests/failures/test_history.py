"""History that is paced, refused, broken off or wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from ibkr_gateway import Exhausted, NotFound, bar_size, duration, stock
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway_server.broker.history_pacing import BURST_S, IDENTICAL_S, REQUESTS_PER_WINDOW, WINDOW_S
from ibkr_gateway_server.domain.bars import BarSize, BarsRequest, DurationUnit, WhatToShow
from ibkr_gateway_server.domain.errors import (
    BadBar,
    BrokerDisconnected,
    BrokerTimeout,
    DomainError,
    NoData,
    PacingHistorical,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.tallies import (
    BROKER_TIMEOUTS,
    HISTORY_CACHE_HITS,
    HISTORY_IN_FLIGHT,
    OPEN_REQUESTS,
    PACING_DEFERRED,
    PACING_VIOLATIONS,
)
from ibkr_gateway_server.simulator import Fault

from tests.conftest import Gateway
from tests.failures.conftest import inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

ASK, CANCEL, HEAD, CANCEL_HEAD, BARS = 20, 25, 87, 90, 17
AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
# Bars of 30 seconds and less are what IBKR's rules are about.
SMALL = BarsRequest(AAPL, BarSize.SECS_30, 1800, DurationUnit.SECOND, WhatToShow.TRADES)
PACING = "Historical Market Data Service error message:Historical data request pacing violation"


def requests(count: int) -> list[BarsRequest]:
    """Requests that differ, of contracts and kinds that differ enough for none to wait for another."""
    symbols = ("AAPL", "MSFT", "AMZN", "TSLA", "NVDA", "SPY", "QQQ", "IBM")
    shown = (WhatToShow.TRADES, WhatToShow.MIDPOINT, WhatToShow.BID, WhatToShow.ASK)
    kinds = [(symbol, what) for what in shown for symbol in symbols]
    return [
        BarsRequest(
            Instrument(symbol=kinds[number % 32][0], security_type=SecurityType.STK),
            BarSize.SECS_30,
            1800 + number // 32 * 30,
            DurationUnit.SECOND,
            kinds[number % 32][1],
        )
        for number in range(count)
    ]


async def outcome(broker: Broker, request: BarsRequest, timeout_s: float) -> str:
    """How a request ended."""
    try:
        return f"{len((await broker.history.bars(request, timeout_s)).bars)} bars"
    except DomainError as error:
        return str(error.reason)


def test_H01_more_requests_than_ten_minutes_allow() -> None:
    """61 requests for small bars at once, some of whose callers have no time to wait.

    58 are answered; of the rest, who has the time waits for his turn in order, who has not is refused at once with the
    time to retry after; neither is on the wire before.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            loop, tallies = asyncio.get_running_loop(), broker.session.tallies
            hasty, *patient = requests(REQUESTS_PER_WINDOW + 3)
            first = await asyncio.gather(*(outcome(broker, each, 60.0) for each in patient[:REQUESTS_PER_WINDOW]))
            assert all(ended.endswith(" bars") for ended in first)
            assert broker.simulator.frames_received(ASK) == REQUESTS_PER_WINDOW
            with pytest.raises(PacingHistorical) as refused:
                await broker.history.bars(hasty, 30.0)
            assert 500 < refused.value.retry_after_s <= WINDOW_S
            assert not refused.value.is_ibkrs
            began = loop.time()
            waiting = [asyncio.ensure_future(outcome(broker, each, 700.0)) for each in patient[REQUESTS_PER_WINDOW:]]
            await asyncio.sleep(60)
            assert broker.simulator.frames_received(ASK) == REQUESTS_PER_WINDOW
            assert all(ended.endswith(" bars") for ended in await asyncio.gather(*waiting))
            assert loop.time() - began > 500
            assert tallies.value(PACING_DEFERRED) == 3
            # The time that was told is right.
            assert broker.simulator.gateway.pacing_violations.total() == 0

    virtually(main)


def test_H01_bid_and_ask_together_count_twice() -> None:
    """30 requests for small bars of bid and ask.

    29 are answered, the next is refused.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            asked = [replace(SMALL, what_to_show=WhatToShow.BID_ASK, duration_value=1800 + n * 30) for n in range(30)]
            ended = [await outcome(broker, each, 60.0) for each in asked]
            assert [each == "PACING_HISTORICAL" for each in ended] == [False] * 29 + [True]

    virtually(main)


async def test_H01_the_refusal_says_when_to_retry(gateway: Gateway) -> None:
    """The budget of ten minutes is used up.

    RESOURCE_EXHAUSTED with PACING_HISTORICAL and RetryInfo; bars of a minute and more are answered all the same.
    """
    for _ in range(REQUESTS_PER_WINDOW):
        gateway.running.history.pacing.spend(1)
    ask = gateway.client.market_data.GetHistoricalBars
    small = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size(BarSize.SECS_5), duration=duration("600 S")
    )
    with pytest.raises(Exhausted) as refused:
        await ask(small)
    assert refused.value.reason == "PACING_HISTORICAL"
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 500
    small.bar_size = bar_size(BarSize.MIN_1)
    assert (await ask(small)).bars


def test_H02_the_same_request_again() -> None:
    """The same request twice at once, and again within 15 seconds.

    One request on the wire; the later answers are marked as cached.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            both = await asyncio.gather(broker.history.bars(SMALL, 20.0), broker.history.bars(SMALL, 20.0))
            await asyncio.sleep(IDENTICAL_S - 1)
            third = await broker.history.bars(SMALL, 20.0)
            assert [each.is_cached for each in (*both, third)] == [False, True, True]
            assert broker.simulator.frames_received(ASK) == 1
            assert broker.session.tallies.value(HISTORY_CACHE_HITS) == 2
            await asyncio.sleep(IDENTICAL_S)
            assert not (await broker.history.bars(SMALL, 20.0)).is_cached

    virtually(main)


def test_H03_six_of_one_contract_within_two_seconds() -> None:
    """Twelve requests of one contract and kind at once.

    Five in two seconds, in the order in which they were made; all are answered.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            loop, order, times = asyncio.get_running_loop(), [], []

            async def ask(number: int) -> None:
                await broker.history.bars(replace(SMALL, duration_value=1800 + number * 30), 60.0)
                order.append(number)
                times.append(loop.time())

            await asyncio.gather(*(ask(number) for number in range(12)))
            assert order == list(range(12))
            assert times[5] - times[0] >= BURST_S - 0.01
            assert times[10] - times[5] >= BURST_S - 0.01
            assert broker.simulator.gateway.pacing_violations.total() == 0

    virtually(main)


def test_H04_more_than_fifty_at_a_time() -> None:
    """55 requests at once, none of which is answered for a while.

    50 are open at TWS, the others wait here and are asked when there is a place.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.DELAY_REPLY, BARS, times=None, delay_s=20.0)
            asked = [asyncio.ensure_future(outcome(broker, each, 60.0)) for each in requests(55)]
            await asyncio.sleep(15)
            assert broker.session.tallies.value(HISTORY_IN_FLIGHT) == 50
            assert broker.simulator.frames_received(ASK) == 50
            assert all(ended.endswith(" bars") for ended in await asyncio.gather(*asked))
            assert broker.session.tallies.value(HISTORY_IN_FLIGHT) == 0

    virtually(main)


def test_H05_a_pacing_error_of_ibkrs() -> None:
    """TWS answers 162 with a pacing violation, once, and then twice.

    It is asked once more within the caller's deadline, and not sooner than IBKR allows; the budget is half for ten
    minutes. A second 162 is the answer: PACING_HISTORICAL with a retry time.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.REFUSE, ASK, code=162, text=PACING)
            assert (await broker.history.bars(SMALL, 60.0)).bars
            assert broker.simulator.frames_received(ASK) == 2
            assert broker.history.usage().limit_count == REQUESTS_PER_WINDOW // 2
            inject(broker.simulator, Fault.REFUSE, ASK, code=162, text=PACING, times=2)
            with pytest.raises(PacingHistorical) as refused:
                await broker.history.bars(replace(SMALL, duration_value=600), 60.0)
            assert refused.value.retry_after_s == 60.0
            assert broker.simulator.frames_received(ASK) == 4
            assert broker.session.tallies.value(PACING_VIOLATIONS, "162") == 3
            # Without the time for it there is no second attempt.
            inject(broker.simulator, Fault.REFUSE, ASK, code=162, text=PACING)
            with pytest.raises(PacingHistorical):
                await broker.history.bars(replace(SMALL, duration_value=900), 10.0)
            assert broker.simulator.frames_received(ASK) == 5
            await asyncio.sleep(WINDOW_S)
            assert broker.history.usage().limit_count == REQUESTS_PER_WINDOW

    virtually(main)


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (162, "Historical Market Data Service error message:HMDS query returned no data: AAPL@SMART Trades", "NO_DATA"),
        (366, "No historical data query found for ticker id:1", "NO_DATA"),
        (162, "Historical Market Data Service error message:No market data permissions", "MARKET_DATA_NOT_SUBSCRIBED"),
        (420, "Invalid Real-time Query:No market data permissions for ISLAND STK", "MARKET_DATA_NOT_SUBSCRIBED"),
    ],
)
def test_H06_there_is_no_data(code: int, text: str, reason: str) -> None:
    """TWS answers 162 without data or permission, 366 or 420.

    A reason of its own for each, never INTERNAL.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.REFUSE, ASK, code=code, text=text)
            assert await outcome(broker, SMALL, 20.0) == reason

    virtually(main)


async def test_H06_no_data_is_told_from_a_failure(gateway: Gateway) -> None:
    """TWS answers 162, no data.

    NOT_FOUND with NO_DATA and IBKR's code.
    """
    text = "Historical Market Data Service error message:HMDS query returned no data: AAPL@SMART Trades"
    inject(gateway.simulator, Fault.REFUSE, ASK, code=162, text=text)
    request = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size(BarSize.DAY_1), duration=duration("1 M")
    )
    with pytest.raises(NotFound) as refused:
        await gateway.client.market_data.GetHistoricalBars(request)
    assert (refused.value.reason, refused.value.details["ibkr_code"]) == ("NO_DATA", "162")


def test_H07_bars_without_an_end() -> None:
    """The bars' answer never comes to its end.

    BROKER_TIMEOUT rather than a part of them; the request is cancelled at TWS.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.LOSE_REPLY, BARS)
            with pytest.raises(BrokerTimeout):
                await broker.history.bars(SMALL, 20.0)
            await asyncio.sleep(1)
            assert broker.simulator.frames_received(CANCEL) == 1
            assert broker.session.tallies.value(OPEN_REQUESTS) == 0
            assert broker.session.tallies.value(BROKER_TIMEOUTS, "reqHistoricalData") <= 1

    virtually(main)


def test_H08_the_connection_breaks_in_the_middle_of_the_bars() -> None:
    """Half of the bars are sent, then the connection is reset.

    UNAVAILABLE with BROKER_DISCONNECTED; nothing is asked again behind the caller's back.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.RESET_MID_FRAME, BARS)
            with pytest.raises(BrokerDisconnected):
                await broker.history.bars(SMALL, 20.0)
            await asyncio.sleep(30)
            assert broker.simulator.frames_received(ASK) == 1

    virtually(main)


@pytest.mark.parametrize("fault", [Fault.DUPLICATE_BARS, Fault.UNORDERED_BARS])
def test_H09_bars_twice_or_out_of_order(fault: Fault) -> None:
    """Every bar comes twice, or the bars come in the wrong order.

    The same bars as otherwise: sorted, each time once.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            daily = BarsRequest(AAPL, BarSize.DAY_1, 1, DurationUnit.MONTH)
            plain = (await broker.history.bars(daily, 20.0)).bars
            await asyncio.sleep(IDENTICAL_S)
            inject(broker.simulator, fault)
            assert [bar.start for bar in (await broker.history.bars(daily, 20.0)).bars] == [bar.start for bar in plain]

    virtually(main)


def test_H09_a_bar_with_a_date_that_is_none() -> None:
    """The first bar has no readable date.

    UNAVAILABLE, naming the bar by its place; none of the bars is told.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.BAD_DATE)
            with pytest.raises(BadBar) as refused:
                await broker.history.bars(SMALL, 20.0)
            assert refused.value.index == 0

    virtually(main)


def test_H10_the_caller_goes_away() -> None:
    """The caller cancels while TWS works on the answer.

    The request is cancelled at TWS; its part of the budget stays spent, since IBKR counts it.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.LOSE_REPLY, BARS)
            asking = asyncio.ensure_future(broker.history.bars(SMALL, 20.0))
            await asyncio.sleep(5)
            assert broker.session.tallies.value(HISTORY_IN_FLIGHT) == 1
            asking.cancel()
            await asyncio.sleep(1)
            assert broker.simulator.frames_received(CANCEL) == 1
            assert broker.history.usage().used_count == 1
            assert broker.session.tallies.value(HISTORY_IN_FLIGHT) == 0

    virtually(main)


def test_H11_sixty_head_timestamps() -> None:
    """Sixty questions for the earliest time, of which TWS answers no more than fifty that nobody has ended.

    All are answered, each is ended by its cancel, and none is open afterwards.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            for _ in range(60):
                moment = await broker.history.head_timestamp(AAPL, None, 20.0)
                assert moment < broker.session.now()
            await asyncio.sleep(1)
            assert broker.simulator.frames_received(HEAD) == broker.simulator.frames_received(CANCEL_HEAD) == 60
            assert broker.session.tallies.value(OPEN_REQUESTS) == 0

    virtually(main)


async def test_H11_a_head_timestamp_through_the_contract(gateway: Gateway) -> None:
    """The earliest time of what TWS knows nothing of.

    NOT_FOUND with NO_DATA; of a stock, its earliest time.
    """
    ask = gateway.client.market_data.GetHeadTimestamp
    assert (await ask(market_pb.GetHeadTimestampRequest(instrument=stock("AAPL")))).HasField("head_time")
    inject(gateway.simulator, Fault.REFUSE, HEAD, code=162, text="Historical Market Data Service error message:no data")
    with pytest.raises(NotFound) as refused:
        await ask(market_pb.GetHeadTimestampRequest(instrument=stock("MSFT")))
    assert refused.value.reason == "NO_DATA"
    assert NoData.reason == "NO_DATA"
