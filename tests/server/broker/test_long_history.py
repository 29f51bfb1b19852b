"""Long history equals what single requests bring, whatever interrupts it, and goes on where it ended."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from ibkr_gateway_server.broker.long_history import MAX_TIMEOUTS, LongHistory
from ibkr_gateway_server.domain.bars import Bar, BarSize, BarsRequest, DurationUnit, HistorySlice, LongHistoryRequest
from ibkr_gateway_server.domain.errors import (
    BrokerTimeout,
    ContractNotFound,
    FieldsInvalid,
    MarketDataNotSubscribed,
    ShuttingDown,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import BEGIN, inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
NOW = datetime.fromtimestamp(BEGIN, UTC)
ASK = 20


def request(size: BarSize = BarSize.MINS_30, days: float = 70.0, **changed: object) -> LongHistoryRequest:
    return LongHistoryRequest(AAPL, size, NOW - timedelta(days=days), **changed)  # type: ignore[arg-type]


def long_history(broker: Broker) -> LongHistory:
    return LongHistory(broker.session, broker.contracts, broker.history, asyncio.get_running_loop().time)


async def slices(broker: Broker, wanted: LongHistoryRequest, token: str = "") -> list[HistorySlice]:
    return [part async for part in long_history(broker).stream(wanted, token)]


def bars_of(parts: list[HistorySlice]) -> list[Bar]:
    return [bar for part in parts for bar in part.bars]


@pytest.mark.parametrize(
    ("size", "days", "duration", "unit"),
    [
        (BarSize.MINS_30, 70, 3, DurationUnit.MONTH),
        (BarSize.MIN_1, 6, 2, DurationUnit.WEEK),
        (BarSize.SECS_30, 0.5, 86400, DurationUnit.SECOND),
        (BarSize.DAY_1, 900, 3, DurationUnit.YEAR),
        (BarSize.WEEK_1, 900, 3, DurationUnit.YEAR),
    ],
)
def test_slices_together_are_what_one_request_would_bring(
    size: BarSize, days: float, duration: int, unit: DurationUnit
) -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            wanted = request(size, days)
            parts = await slices(broker, wanted)
            whole = (await broker.history.bars(BarsRequest(AAPL, size, duration, unit), 60)).bars
            first = wanted.start.date() if size.is_daily else wanted.start
            expected = [bar for bar in whole if bar.start >= first]  # type: ignore[operator]
            assert len(parts) > 1
            # The newest bar may have grown between the two.
            assert bars_of(parts)[:-1] == expected[: len(bars_of(parts)) - 1]
            assert len(expected) - len(bars_of(parts)) in (0, 1)
            assert [part.completed_count for part in parts] == list(range(1, len(parts) + 1))
            assert parts[-1].eta_s == 0.0

    virtually(main)


def test_it_goes_on_with_a_token_exactly_where_it_ended() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            wanted = request(end=NOW - timedelta(days=1))
            parts = await slices(broker, wanted)
            for number, part in enumerate(parts, start=1):
                rest = await slices(broker, wanted, part.resume_token)
                assert bars_of(rest) == bars_of(parts[number:])
                assert all(each.total_count == len(parts) for each in rest)

    virtually(main)


def test_without_an_end_a_token_keeps_the_end_of_its_first_stream() -> None:
    async def main() -> None:
        async with virtual_broker(tick_interval_s=600.0) as broker:
            await broker.session.wait_until_ready(20)
            parts = await slices(broker, request())
            await asyncio.sleep(2 * 3600)
            rest = await slices(broker, request(), parts[0].resume_token)
            assert [bar.start for bar in bars_of(rest)] == [bar.start for bar in bars_of(parts[1:])]

    virtually(main)


def test_days_without_trade_are_slices_without_bars() -> None:
    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            # Hours of the exchange, so that nothing is traded on Saturday and Sunday.
            await broker.session.wait_until_ready(20)
            saturday = datetime(2026, 11, 21, 6, tzinfo=UTC)
            wanted = LongHistoryRequest(
                AAPL, BarSize.MIN_1, saturday - timedelta(days=1), saturday + timedelta(days=2), regular_hours_only=True
            )
            parts = await slices(broker, wanted)
            assert [bool(part.bars) for part in parts] == [True, False, False]

    virtually(main)


def test_pacing_is_waited_out_with_a_word_now_and_then() -> None:
    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            loop = asyncio.get_running_loop()
            words, told_at = [], [loop.time()]
            async for part in long_history(broker).stream(request(BarSize.SECS_30, 21.0)):
                told_at.append(loop.time())
                words.append(part)
            assert words[-1].completed_count == words[-1].total_count == 72
            waits = [part for part in words if not part.bars and part.eta_s]
            assert len(waits) > 10
            assert max(after - before for before, after in itertools.pairwise(told_at)) < 16
            # More requests than ten minutes allow, so that it took longer than those.
            assert told_at[-1] - told_at[0] > 600
            assert sum(broker.simulator.gateway.pacing_violations.values()) == 0

    virtually(main)


@pytest.mark.parametrize("fault", [Fault.DISCONNECT_BEFORE, Fault.DISCONNECT_AFTER, Fault.LOSE])
def test_a_loss_in_the_middle_is_waited_out_and_nothing_is_told_twice(fault: Fault) -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            wanted = request(end=NOW - timedelta(days=1))
            undisturbed = bars_of(await slices(broker, wanted))
            await asyncio.sleep(20)
            parts = []
            async for part in long_history(broker).stream(wanted):
                if not parts:
                    inject(broker.simulator, fault, ASK)
                parts.append(part)
            assert bars_of(parts) == undisturbed

    virtually(main)


def test_an_answer_that_never_comes_ends_it_after_three_attempts() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.LOSE, ASK, times=None)
            with pytest.raises(BrokerTimeout):
                await slices(broker, request())
            assert broker.simulator.frames_received(ASK) == MAX_TIMEOUTS

    virtually(main)


def test_what_will_not_mend_ends_it_at_once() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.REFUSE, ASK, code=162, text="Historical Market Data Service error "
                   "message:No market data permissions for NASDAQ STK")  # fmt: skip
            with pytest.raises(MarketDataNotSubscribed):
                await slices(broker, request())
            nobody = LongHistoryRequest(Instrument(symbol="NOBODY", security_type=SecurityType.STK), BarSize.DAY_1, NOW)
            with pytest.raises(ContractNotFound):
                await slices(broker, nobody)

    virtually(main)


def test_a_reader_that_leaves_leaves_no_request_behind() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.LOSE, ASK)
            stream = long_history(broker).stream(request())
            asking = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(5)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.sleep(1)
            assert broker.simulator.frames_received(25) == 1

    virtually(main)


def test_a_range_that_is_none_is_refused() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            for start in (NOW + timedelta(days=1), NOW + timedelta(seconds=30)):
                with pytest.raises(FieldsInvalid, match="before"):
                    await slices(broker, LongHistoryRequest(AAPL, BarSize.DAY_1, start))

    virtually(main)


def test_when_the_gateway_stops_the_last_token_goes_on() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            wanted = request(end=NOW - timedelta(days=1))
            whole, stopping = await slices(broker, wanted), long_history(broker)
            stream = stopping.stream(wanted)
            told = [await anext(stream)]
            stopping.drain(NOW)
            with pytest.raises(ShuttingDown):
                await anext(stream)
            rest = await slices(broker, wanted, told[-1].resume_token)
            assert bars_of(told + rest) == bars_of(whole)

    virtually(main)


def test_daily_bars_are_dates() -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            bars = bars_of(await slices(broker, request(BarSize.DAY_1, 30.0)))
            assert {type(bar.start) for bar in bars} == {date}
            assert [bar.is_complete for bar in bars] == [True] * (len(bars) - 1) + [False]

    virtually(main)
