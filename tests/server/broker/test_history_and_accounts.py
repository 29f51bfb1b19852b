"""Bars within the pacing; balances, positions and P&L that agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.bar_rows import read_bars
from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.contracts import to_contract
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.history_pacing import BURST_S, REQUESTS_PER_WINDOW, SAME_KIND_PER_BURST, WINDOW_S
from ibkr_gateway_server.broker.notices import is_notice, is_rejection, request_error
from ibkr_gateway_server.broker.numbers import decimal, number
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.bars import BarSize, BarsRequest, DurationUnit, WhatToShow
from ibkr_gateway_server.domain.errors import (
    AccountNotFound,
    AccountRequired,
    BadBar,
    BrokerDisconnected,
    BrokerLinkDown,
    BrokerTimeout,
    NoData,
    PacingHistorical,
    Reason,
    RequestRejected,
    SessionSyncing,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.tallies import SYNC_INCOMPLETE
from ibkr_gateway_server.simulator import Simulator
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms

from tests.conftest import FAST, eventually
from tests.server.broker.conftest import Broker, MakeBroker, running_session

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MONTH = BarsRequest(AAPL, BarSize.DAY_1, 1, DurationUnit.MONTH, WhatToShow.TRADES, regular_hours_only=True)
SMALL = BarsRequest(AAPL, BarSize.SECS_30, 1800, DurationUnit.SECOND, WhatToShow.TRADES)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ACCOUNT_UPDATES, HISTORICAL, CANCEL_HISTORICAL, POSITIONS, SUMMARY, CANCEL_PNL_SINGLE = 6, 20, 25, 61, 62, 95


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


async def test_identical_requests_at_the_same_time_are_one(broker: Broker) -> None:
    answers = await asyncio.gather(*(broker.history.bars(MONTH, 5.0) for _ in range(10)))
    assert broker.simulator.frames_received(HISTORICAL) == 1
    assert [answer.is_cached for answer in answers].count(False) == 1
    assert len({answer.bars for answer in answers}) == 1


async def test_a_caller_that_leaves_does_not_end_what_another_waits_for_and_the_last_does(broker: Broker) -> None:
    await broker.contracts.resolve(AAPL)
    replies = answers_held_back(broker)
    # Far longer than this test waits: the cancel on the wire is the caller's, not the timeout's.
    hasty, patient = (asyncio.ensure_future(broker.history.bars(MONTH, 600.0)) for _ in range(2))
    await eventually(lambda: broker.simulator.frames_received(HISTORICAL) == 1)
    hasty.cancel()
    await asyncio.wait((hasty,))
    assert broker.simulator.frames_received(CANCEL_HISTORICAL) == 0
    patient.cancel()
    await asyncio.wait((patient,))
    await eventually(lambda: broker.simulator.frames_received(CANCEL_HISTORICAL) == 1)
    replies()
    assert (await broker.history.bars(MONTH, 5.0)).bars
    assert broker.simulator.frames_received(HISTORICAL) == 2


def answers_held_back(broker: Broker) -> Callable[[], None]:
    """Lose the bars of requests on their way until the returned function is called."""
    callbacks = broker.session.connection().callbacks
    callbacks.historicalDataEnd = lambda *_: None  # type: ignore[method-assign]  # a lost end marker

    def let_through() -> None:
        del callbacks.historicalDataEnd

    return let_through


async def test_bars_whose_end_never_comes_are_a_timeout_and_cancelled_on_the_wire(broker: Broker) -> None:
    answers_held_back(broker)
    with pytest.raises(BrokerTimeout):
        await broker.history.bars(MONTH, 0.2)
    await eventually(lambda: broker.simulator.frames_received(CANCEL_HISTORICAL) == 1)


async def test_a_sixth_request_of_one_contract_and_kind_waits_for_two_seconds_to_pass(broker: Broker) -> None:
    history = History(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), lambda: 1000.0)
    for weeks in range(1, SAME_KIND_PER_BURST + 1):
        await history.bars(replace(MONTH, duration_unit=DurationUnit.WEEK, duration_value=weeks), 5.0)
    with pytest.raises(PacingHistorical) as refused:
        await history.bars(replace(MONTH, duration_value=2), 1.0)
    assert refused.value.retry_after_s == BURST_S
    assert (await history.bars(replace(MONTH, what_to_show=WhatToShow.MIDPOINT), 5.0)).bars


async def test_ibkrs_own_pacing_error_halves_the_budget(broker: Broker) -> None:
    history = History(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), lambda: 1000.0)
    replies = answers_held_back(broker)
    asking = asyncio.ensure_future(history.bars(MONTH, 5.0))
    callbacks = broker.session.connection().callbacks
    await eventually(lambda: broker.simulator.frames_received(HISTORICAL) == 1)
    (request_id,) = callbacks.collectors
    callbacks.error(int(request_id), 162, "Historical Market Data Service error message:Historical data request pacing")
    with pytest.raises(PacingHistorical):
        await asking
    replies()
    for _ in range(REQUESTS_PER_WINDOW // 2):
        history.pacing.spend(1)
    with pytest.raises(PacingHistorical):
        history.pacing.spend(1)


async def test_the_refusal_names_the_time_when_enough_of_the_budget_is_free(broker: Broker) -> None:
    now = 1000.0
    history = History(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), lambda: now)
    history.pacing.spend(1)
    now = 1100.0
    for _ in range(REQUESTS_PER_WINDOW - 1):
        history.pacing.spend(1)
    with pytest.raises(PacingHistorical) as one:
        history.pacing.spend(1)
    with pytest.raises(PacingHistorical) as two:
        history.pacing.spend(2)
    assert (one.value.retry_after_s, two.value.retry_after_s) == (round(WINDOW_S - 100.0, 1), WINDOW_S)


@pytest.mark.parametrize(
    ("size", "date_text", "now", "is_complete"),
    [
        (BarSize.MINS_5, "1795444200", datetime(2026, 11, 23, 14, 34, tzinfo=UTC), False),
        (BarSize.MINS_5, "1795444200", datetime(2026, 11, 23, 14, 35, tzinfo=UTC), True),
        (BarSize.DAY_1, "20261123", datetime(2026, 11, 24, 11, 0, tzinfo=UTC), False),
        (BarSize.DAY_1, "20261123", datetime(2026, 11, 24, 12, 0, tzinfo=UTC), True),
        (BarSize.WEEK_1, "20261123", datetime(2026, 11, 26, 12, 0, tzinfo=UTC), False),
        (BarSize.WEEK_1, "20261123", datetime(2026, 11, 30, 12, 0, tzinfo=UTC), True),
        (BarSize.MONTH_1, "20261102", datetime(2026, 11, 26, 12, 0, tzinfo=UTC), False),
    ],
)
def test_a_bar_is_complete_when_its_span_is_over(
    size: BarSize, date_text: str, now: datetime, is_complete: bool
) -> None:
    (bar,) = read_bars([ib.BarData(date=date_text)], replace(MONTH, bar_size=size), now)
    assert bar.is_complete is is_complete


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (BarSize.DAY_1, "1795444200"),
        (BarSize.DAY_1, "20261332"),
        (BarSize.MINS_5, "20261123"),
        (BarSize.MINS_5, "9" * 30),
        (BarSize.MINS_5, "20261123 09:30:00 US/Eastern"),
    ],
)
def test_a_time_of_the_wrong_kind_is_a_bad_bar(size: BarSize, text: str) -> None:
    with pytest.raises(BadBar):
        read_bars([ib.BarData(date=text)], replace(MONTH, bar_size=size), NOW)


async def test_the_budget_of_ten_minutes_is_kept_and_the_refusal_says_until_when(broker: Broker) -> None:
    history = History(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), lambda: 1000.0)
    for _ in range(REQUESTS_PER_WINDOW // 2):
        history.pacing.spend(2)
    with pytest.raises(PacingHistorical) as refused:
        await history.bars(SMALL, 5.0)
    assert refused.value.retry_after_s == WINDOW_S
    assert broker.simulator.frames_received(HISTORICAL) == 0


def test_a_bar_that_cannot_be_read_is_named_and_nothing_is_returned() -> None:
    good, bad = ib.BarData(date="20261120"), ib.BarData(date="yesterday")
    with pytest.raises(BadBar) as refused:
        read_bars([good, bad], MONTH, NOW)
    assert refused.value.index == 1


def test_bars_are_sorted_and_each_time_counts_once() -> None:
    rows = [ib.BarData(date=day, close=close) for day, close in (("20261120", 1), ("20261119", 2), ("20261120", 3))]
    bars = read_bars(rows, MONTH, NOW)
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


async def test_callers_of_different_accounts_take_turns_and_each_gets_its_own() -> None:
    async with broker_with_accounts("DU1234567", "DU7654321") as accounts:
        with pytest.raises(AccountRequired):
            accounts.account_id("")
        wanted = ["DU1234567", "DU7654321"] * 3
        answers = await asyncio.gather(*(accounts.values(account) for account in wanted))
    named = [next(value.value for value in values if value.tag == "AccountCode") for values, _ in answers]
    assert named == wanted


async def test_an_account_that_counts_in_euros_is_told_in_euros_and_its_positions_in_their_own() -> None:
    async with broker_with_accounts("DU1234567", base_currencies={"DU1234567": "EUR"}) as accounts:
        summary = await accounts.summary()
        positions, _ = await accounts.positions()
        pnl = await accounts.pnl()
        values, _ = await accounts.values()
    assert (summary.currency, pnl.currency) == ("EUR", "EUR")
    assert {position.currency for position in positions} == {"USD"}
    rates = {value.currency: Decimal(value.value) for value in values if value.tag == "ExchangeRate"}
    assert rates["EUR"] == 1
    assert Decimal("0.5") < rates["USD"] < 1


@asynccontextmanager
async def broker_with_accounts(*names: str, **behaviour: Any) -> AsyncIterator[Accounts]:
    simulator = Simulator(seed=7, accounts=names, behaviour=Behaviour(**behaviour))
    async with simulator.listen() as address:
        pacer = Pacer(asyncio.get_running_loop().time)
        session = Session(BrokerAddress(address.host, address.port), 1, pacer, FAST)
        accounts = Accounts(session, pacer)
        async with running_session(session):
            await session.wait_until_ready(10)
            yield accounts


async def test_marks_that_never_come_leave_positions_and_are_asked_for_again(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=replace(FAST, request_timeout_s=0.2))
    callbacks = broker.session.connection().callbacks
    callbacks.accountDownloadEnd = lambda *_: None  # type: ignore[method-assign]  # a lost end marker
    positions, _ = await broker.accounts.positions()
    assert {position.instrument.symbol for position in positions} == {"AAPL", "SPY", "MES"}
    with pytest.raises(BrokerTimeout):
        await broker.accounts.values()
    del callbacks.accountDownloadEnd
    values, _ = await broker.accounts.values()
    assert values
    assert broker.simulator.frames_received(ACCOUNT_UPDATES) == 3


async def test_without_the_end_of_positions_the_session_is_not_ready_and_nobody_is_called_flat() -> None:
    async with Simulator(seed=7).listen() as address:
        pacer = Pacer(asyncio.get_running_loop().time)
        timings = replace(FAST, request_timeout_s=0.1, resync_after_s=0.1)
        session = Session(BrokerAddress(address.host, address.port), 1, pacer, timings)
        session.on_sync(lose_position_end)
        accounts = Accounts(session, pacer)
        async with running_session(session):
            await eventually(lambda: session.status.state is SessionState.SYNCING)
            with pytest.raises(SessionSyncing):
                await accounts.positions()
            await eventually(lambda: session.tallies.value(SYNC_INCOMPLETE, "reqPositions") > 1)
            assert session.status.state is SessionState.SYNCING
            with pytest.raises(BrokerTimeout):
                await accounts.positions()


async def lose_position_end(connection: Connection) -> None:
    connection.callbacks.positionEnd = lambda: None  # type: ignore[method-assign]  # a lost end marker


async def test_what_is_kept_is_answered_while_the_link_is_down(broker: Broker) -> None:
    before, _ = await broker.accounts.positions()
    await broker.accounts.values()
    broker.session.connection().callbacks.error(-1, 1100, "lost")
    after, _ = await broker.accounts.positions()
    assert {position.instrument for position in after} == {position.instrument for position in before}
    assert (await broker.accounts.values())[0]
    assert (await broker.accounts.summary()).net_liquidation is not None
    with pytest.raises(BrokerLinkDown):
        await broker.accounts.pnl()


async def test_positions_that_were_never_marked_are_answered_unmarked_while_the_link_is_down(broker: Broker) -> None:
    broker.session.connection().callbacks.error(-1, 1100, "lost")
    positions, _ = await broker.accounts.positions()
    assert len(positions) == 3
    assert {position.market_price for position in positions} == {None}
    with pytest.raises(BrokerLinkDown):
        await broker.accounts.values()


async def test_a_connection_lost_while_marks_are_awaited_is_no_long_wait(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=replace(FAST, request_timeout_s=30.0))
    broker.session.connection().callbacks.accountDownloadEnd = lambda *_: None
    asking = asyncio.ensure_future(broker.accounts.values())
    await eventually(lambda: broker.simulator.frames_received(ACCOUNT_UPDATES) == 1)
    broker.simulator.drop_connections()
    with pytest.raises(BrokerDisconnected):
        await asking


async def test_balances_that_others_have_taken_up_are_an_error_and_the_session_works(make_broker: MakeBroker) -> None:
    broker = await make_broker(before_sync=refuse_summary)
    with pytest.raises(RequestRejected):
        await broker.accounts.summary()
    assert len((await broker.accounts.positions())[0]) == 3


async def refuse_summary(connection: Connection) -> None:
    def refused(request_id: int, *_: object) -> None:
        connection.callbacks.error(request_id, 322, "Maximum number of account summary requests exceeded")

    connection.client.reqAccountSummary = refused


async def test_a_position_without_a_price_has_no_figures_and_the_others_have_theirs(broker: Broker) -> None:
    connection, real = broker.session.connection(), broker.session.connection().client.reqPnLSingle

    def all_but_aapl(request_id: int, account: str, model: str, con_id: int) -> None:
        if con_id != 265598:
            real(request_id, account, model, con_id)

    connection.client.reqPnLSingle = all_but_aapl
    pnl = await broker.accounts.pnl()
    assert pnl.daily_pnl is not None
    figures = {detail.instrument.symbol: detail.unrealized_pnl for detail in pnl.details}
    assert figures["AAPL"] is None
    assert figures["SPY"] is not None
    assert figures["MES"] is not None


async def test_pnl_waits_for_positions_that_come_after_the_accounts_own(broker: Broker) -> None:
    connection, real = broker.session.connection(), broker.session.connection().client.reqPnLSingle
    loop = asyncio.get_running_loop()
    connection.client.reqPnLSingle = lambda *request: loop.call_later(0.05, real, *request)
    pnl = await broker.accounts.pnl()
    assert [detail.instrument.symbol for detail in pnl.details if detail.unrealized_pnl is None] == []


async def test_figures_that_tws_has_not_computed_are_absent(broker: Broker) -> None:
    await broker.accounts.pnl()
    state = broker.accounts._state
    state.pnl["DU1234567", 0].pnl(ib.UNSET_DOUBLE, 12.5, ib.UNSET_DOUBLE)
    pnl = await broker.accounts.pnl()
    assert (pnl.daily_pnl, pnl.realized_pnl) == (None, None)
    assert pnl.unrealized_pnl == Decimal("12.5")


async def test_a_closed_position_is_gone_and_its_pnl_is_followed_no_more(broker: Broker) -> None:
    await broker.accounts.pnl()
    aapl = await broker.contracts.resolve(AAPL)
    sell = Terms(action="SELL", quantity=100, order_type="MKT", account="DU1234567")
    broker.simulator.gateway.place(99, 1, ContractQuery(con_id=aapl.con_id), sell)
    async with asyncio.timeout(5):
        while len((await broker.accounts.positions())[0]) == 3:
            await asyncio.sleep(0.01)
    assert {detail.instrument.symbol for detail in (await broker.accounts.pnl()).details} == {"SPY", "MES"}
    await eventually(lambda: broker.simulator.frames_received(CANCEL_PNL_SINGLE) == 1)


async def test_a_value_of_another_quantity_is_not_shown(broker: Broker) -> None:
    (aapl, *_), _ = await broker.accounts.positions()
    contract = to_contract(aapl.instrument)
    broker.accounts._state.position("DU1234567", contract, 70.0, 250.0)
    (changed, *_), _ = await broker.accounts.positions()
    assert changed.market_price == aapl.market_price
    assert (changed.market_value, changed.unrealized_pnl) == (None, None)


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


@pytest.mark.parametrize("code", [202, 399, 404, 2104, 2109, 10090, 10091, 10167, 10349])
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
        (420, "Invalid Real-time Query:Historical data request pacing violation", Reason.RATE_LIMITED),
        (420, "Invalid Real-time Query:No market data permissions", Reason.MARKET_DATA_NOT_SUBSCRIBED),
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
