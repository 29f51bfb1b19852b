"""Bars within the pacing; balances, positions and P&L that agree."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.history import REQUESTS_PER_WINDOW, History
from ibkr_gateway_server.broker.notices import is_notice, is_rejection, request_error
from ibkr_gateway_server.broker.numbers import decimal, number
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.domain.bars import BarSize, BarsRequest, DurationUnit, WhatToShow
from ibkr_gateway_server.domain.errors import AccountNotFound, BadBar, NoData, PacingHistorical, Reason
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms

from tests.conftest import eventually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MONTH = BarsRequest(AAPL, BarSize.DAY_1, 1, DurationUnit.MONTH, WhatToShow.TRADES, regular_hours_only=True)
HISTORICAL, POSITIONS, SUMMARY = 20, 61, 62


async def test_a_month_of_daily_bars_is_dated_sorted_and_complete(broker: Broker) -> None:
    bars = (await broker.history.bars(MONTH, 5.0)).bars
    starts = [bar.start for bar in bars]
    assert len(bars) >= 19
    assert starts == sorted(set(starts))
    assert all(type(start) is date for start in starts)
    assert all(bar.is_complete for bar in bars[:-2])


async def test_intraday_bars_are_utc(broker: Broker) -> None:
    hours = replace(MONTH, bar_size=BarSize.HOUR_1, duration_value=1, duration_unit=DurationUnit.DAY)
    bars = (await broker.history.bars(hours, 5.0)).bars
    assert {bar.start.tzinfo for bar in bars if isinstance(bar.start, datetime)} == {UTC}
    assert len(bars) >= 1


async def test_a_currency_shows_midpoints_without_volume(broker: Broker) -> None:
    pair = Instrument(symbol="EUR", security_type=SecurityType.CASH)
    bars = (await broker.history.bars(replace(MONTH, instrument=pair, what_to_show=None), 5.0)).bars
    assert {bar.volume for bar in bars} == {None}


async def test_trades_of_a_currency_do_not_exist(broker: Broker) -> None:
    pair = Instrument(symbol="EUR", security_type=SecurityType.CASH)
    with pytest.raises(NoData):
        await broker.history.bars(replace(MONTH, instrument=pair), 5.0)


async def test_an_identical_request_within_15_seconds_is_answered_from_memory(broker: Broker) -> None:
    first, second = [await broker.history.bars(MONTH, 5.0) for _ in range(2)]
    assert (first.is_cached, second.is_cached) == (False, True)
    assert first.bars == second.bars
    assert broker.simulator.frames_received(HISTORICAL) == 1


async def test_the_budget_of_ten_minutes_is_kept_and_the_refusal_says_until_when(broker: Broker) -> None:
    history = History(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), lambda: 1000.0)
    for _ in range(REQUESTS_PER_WINDOW // 2):
        history._spend(2)
    with pytest.raises(PacingHistorical) as refused:
        await history.bars(MONTH, 5.0)
    assert refused.value.retry_after_s == 600.0
    assert broker.simulator.frames_received(HISTORICAL) == 0


async def test_a_bar_that_cannot_be_read_is_named_and_nothing_is_returned(broker: Broker) -> None:
    good, bad = ib.BarData(date="20261120"), ib.BarData(date="yesterday")
    with pytest.raises(BadBar) as refused:
        broker.history._read([good, bad], MONTH)
    assert refused.value.index == 1


async def test_bars_are_sorted_and_each_time_counts_once(broker: Broker) -> None:
    rows = [ib.BarData(date=day, close=close) for day, close in (("20261120", 1), ("20261119", 2), ("20261120", 3))]
    bars = broker.history._read(rows, MONTH)
    assert [(bar.start.day, bar.close) for bar in bars] == [(19, 2), (20, 3)]


async def test_account_figures_agree_with_each_other(broker: Broker) -> None:
    summary = await broker.accounts.summary()
    positions, _ = await broker.accounts.positions()
    pnl = await broker.accounts.pnl()
    assert summary.currency == "USD"
    assert summary.net_liquidation is not None
    assert summary.available_funds == summary.net_liquidation - summary.initial_margin
    assert {position.instrument.symbol for position in positions} == {"AAPL", "SPY", "MES"}
    assert all(position.market_value is not None for position in positions)
    singles = sum(detail.unrealized_pnl for detail in pnl.details)
    assert float(singles) == pytest.approx(float(pnl.unrealized_pnl), abs=50)


async def test_all_callers_share_the_subscriptions(broker: Broker) -> None:
    await asyncio.gather(
        *(broker.accounts.positions() for _ in range(5)), *(broker.accounts.summary() for _ in range(5))
    )
    assert broker.simulator.frames_received(POSITIONS) == 1
    assert broker.simulator.frames_received(SUMMARY) == 1


async def test_another_account_is_not_found_whether_it_exists_or_not(broker: Broker) -> None:
    with pytest.raises(AccountNotFound):
        await broker.accounts.positions("U7654321")


async def test_account_data_is_read_anew_after_a_reconnect(broker: Broker) -> None:
    await broker.accounts.positions()
    broker.simulator.drop_connections()
    await eventually(lambda: broker.session.epoch == 2 and broker.session.status.state.is_linked)
    positions, _ = await broker.accounts.positions()
    assert len(positions) == 3
    assert broker.simulator.frames_received(POSITIONS) == 2


async def test_raw_values_have_ibkrs_tags(broker: Broker) -> None:
    values, _ = await broker.accounts.values()
    assert {"NetLiquidation", "BuyingPower"} <= {value.tag for value in values}


@pytest.mark.parametrize("value", [None, "", "n/a", "nan", "1.7976931348623157E308", 2147483647, float("inf")])
def test_every_way_to_say_none_is_none(value: str | float | None) -> None:
    assert number(value) is None
    assert decimal(value) is None


@pytest.mark.parametrize(("value", "exact"), [(0.1, "0.1"), ("253.40", "253.40"), (5800.0, "5800"), (-1.5, "-1.5")])
def test_a_double_becomes_the_decimal_it_was_written_as(value: str | float, exact: str) -> None:
    assert decimal(value) == Decimal(exact)


@pytest.mark.parametrize("code", [202, 399, 404, 2104, 2109, 10167, 10349])
def test_notices_reject_nothing(code: int) -> None:
    assert is_notice(code)
    assert not is_rejection(code)


@pytest.mark.parametrize("code", [110, 200, 201, 203, 321, 387, 434, 10243])
def test_rejections_are_no_notices(code: int) -> None:
    assert is_rejection(code)
    assert not is_notice(code)


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (162, "Historical data request pacing violation", Reason.PACING_HISTORICAL),
        (162, "No market data permissions for NYSE STK", Reason.MARKET_DATA_NOT_SUBSCRIBED),
        (162, "HMDS query returned no data", Reason.NO_DATA),
        (200, "No security definition has been found for the request", Reason.CONTRACT_NOT_FOUND),
        (200, "The contract description specified for ES is ambiguous", Reason.CONTRACT_AMBIGUOUS),
        (321, "The API interface is currently in Read-Only mode.", Reason.READ_ONLY_API),
        (321, "Error validating request.-'bQ' : cause - Invalid bar size", Reason.FIELD_INVALID),
        (10197, "No market data during competing live session", Reason.COMPETING_SESSION),
        (101, "Max number of tickers has been reached", Reason.MARKET_DATA_LINES),
        (99999, "something new", Reason.REQUEST_MALFORMED),
    ],
)
def test_a_code_and_its_text_have_one_reason(code: int, text: str, reason: Reason) -> None:
    assert request_error(code, text, "AAPL STK", "reqSomething").reason is reason


async def test_a_fill_reaches_positions_and_balances(broker: Broker) -> None:
    before = await broker.accounts.summary()
    aapl = await broker.contracts.resolve(AAPL)
    broker.simulator.gateway.place(
        99,
        1,
        ContractQuery(con_id=aapl.con_id),
        Terms(action="BUY", quantity=100, order_type="MKT", account=before.account_id),
    )

    def quantity() -> Decimal:
        return broker.accounts._state.of[before.account_id].positions[aapl.con_id].quantity

    await eventually(lambda: quantity() == 200)
    async with asyncio.timeout(30):
        while (await broker.accounts.summary()).cash == before.cash:
            await asyncio.sleep(0.01)
