"""Opening hours: what is told of a day is told whole, and what is not told is not closed."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from ibkr_gateway_server.broker.hours import have_run_out, last_day_of, open_for_s, schedule_of, sessions_of, silence_s
from ibkr_gateway_server.domain.errors import BrokerDisconnected, BrokerTimeout, ContractNotFound, NoData
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument, SecurityType
from ibkr_gateway_server.simulator import Fault, Rule

from tests.conftest import FAST
from tests.server.broker.conftest import Broker, MakeBroker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MES = Instrument(symbol="MES", security_type=SecurityType.FUT)
DETAILS = 10
# Fields of that message.
ZONE, HOURS, REGULAR_HOURS = 25, 26, 27


def test_opening_hours_are_utc_and_unknown_zones_give_none() -> None:
    text = "20260706:0930-20260706:1600;20260707:CLOSED;20261123:0930-20261123:1600"
    summer, winter = sessions_of(text, "US/Eastern")
    assert summer.open_time == datetime(2026, 7, 6, 13, 30, tzinfo=UTC)
    assert winter.open_time == datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
    assert sessions_of(text, "No/Where") == ()


# Of a Monday and a Tuesday in New York: from 14:30 to 21:00 in UTC.
TOLD = ContractDetails(
    AAPL,
    time_zone="US/Eastern",
    trading_sessions=sessions_of("20261123:0930-20261123:1600;20261124:0930-20261124:1600", "US/Eastern"),
    hours_last_date=date(2026, 11, 24),
)


@pytest.mark.parametrize(
    ("day", "hour", "minute", "open_s"),
    [
        (23, 14, 29, 0.0),
        (23, 14, 30, 0.0),
        (23, 14, 31, 60.0),
        (23, 21, 0, 0.0),
        (24, 3, 0, 0.0),
        (24, 20, 59, 23340.0),
        # In New York it is Tuesday still, and then it is not.
        (25, 4, 59, 0.0),
        (25, 5, 0, math.inf),
        (25, 15, 0, math.inf),
    ],
)
def test_a_market_is_open_since_its_opening_and_hours_that_are_not_told_say_nothing(
    day: int, hour: int, minute: int, open_s: float
) -> None:
    now = datetime(2026, 11, day, hour, minute, tzinfo=UTC)
    assert open_for_s(TOLD, now) == open_s
    assert have_run_out(TOLD, now) is math.isinf(open_s)
    assert open_for_s(None, now) == open_for_s(replace(TOLD, hours_last_date=None), now) == math.inf


def test_silence_begins_with_the_opening_and_is_none_before_it() -> None:
    last = datetime(2026, 11, 23, 20, 59, tzinfo=UTC)
    assert silence_s(TOLD, last, last + timedelta(seconds=30)) == 30.0
    assert silence_s(TOLD, last, datetime(2026, 11, 24, 10, tzinfo=UTC)) == 0.0
    assert silence_s(TOLD, last, datetime(2026, 11, 24, 14, 30, 20, tzinfo=UTC)) == 20.0
    assert silence_s(None, last, datetime(2026, 11, 24, 10, tzinfo=UTC)) == 46860.0


def test_a_span_that_cannot_be_read_spoils_no_other() -> None:
    text = "20261123:0930-20261123:2600;20261124:0930-1600;20261125:0930-20261125:1600;CLOSED"
    (session,) = sessions_of(text, "US/Eastern")
    assert session.open_time == datetime(2026, 11, 25, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("20261123:0930-20261123:1600;20261124:CLOSED", date(2026, 11, 24)),
        ("20261122:1700-20261123:1600", date(2026, 11, 23)),
        ("20261123:1800-20261124:0000", date(2026, 11, 23)),
        ("20261123:0930-20261123:1200,20261123:1300-20261123:1600", date(2026, 11, 23)),
        ("20261123:CLOSED;20261124:0930-1600;20261125:CLOSED", date(2026, 11, 22)),
        ("20261123:CLOSED;20261131:CLOSED", date(2026, 11, 22)),
        ("20261123:0930-20261123:2600", None),
        ("", None),
    ],
)
def test_the_last_day_told_of_may_be_closed_and_is_before_what_cannot_be_read(text: str, last: date | None) -> None:
    assert last_day_of(text, "US/Eastern") == last


def test_nothing_is_told_in_a_zone_that_is_not_known() -> None:
    assert last_day_of("20261123:CLOSED", "No/Where") is None


WEEK = ContractDetails(
    AAPL,
    time_zone="US/Eastern",
    regular_sessions=sessions_of("20261123:0930-20261123:1600;20261124:0930-20261124:1600", "US/Eastern"),
    trading_sessions=sessions_of("20261123:0400-20261123:2000;20261124:0400-20261124:2000", "US/Eastern"),
    hours_last_date=date(2026, 11, 26),
)


@pytest.mark.parametrize(
    ("now", "day_count", "sessions", "last"),
    [
        (datetime(2026, 11, 23, 15, 0, tzinfo=UTC), 1, 1, date(2026, 11, 23)),
        (datetime(2026, 11, 23, 15, 0, tzinfo=UTC), 7, 2, date(2026, 11, 26)),
        # It is the evening of the 23rd still in New York, and what has closed that day is that day's.
        (datetime(2026, 11, 24, 3, 0, tzinfo=UTC), 1, 1, date(2026, 11, 23)),
        (datetime(2026, 11, 25, 15, 0, tzinfo=UTC), 30, 0, date(2026, 11, 26)),
    ],
)
def test_a_schedule_begins_today_at_the_exchange_and_ends_where_ibkr_does(
    now: datetime, day_count: int, sessions: int, last: date
) -> None:
    schedule = schedule_of(WEEK, now, day_count)
    assert (len(schedule.regular_sessions), len(schedule.trading_sessions)) == (sessions, sessions)
    assert schedule.last_date == last


@pytest.mark.parametrize(
    "details",
    [replace(WEEK, hours_last_date=None), replace(WEEK, time_zone=""), replace(WEEK, hours_last_date=date(2026, 1, 1))],
)
def test_without_hours_of_today_there_is_no_schedule(details: ContractDetails) -> None:
    with pytest.raises(NoData):
        schedule_of(details, datetime(2026, 11, 23, 15, 0, tzinfo=UTC), 7)


async def test_a_future_opens_the_evening_before_and_its_days_are_those_it_closes_on(broker: Broker) -> None:
    schedule = await broker.contracts.schedule(MES, 30)
    assert schedule.time_zone == "US/Central"
    assert schedule.trading_sessions
    for session in schedule.trading_sessions:
        assert session.open_time < session.close_time
    openings = [session.open_time for session in schedule.trading_sessions]
    assert openings == sorted(openings)


@pytest.mark.parametrize(("field", "value"), [(ZONE, "No/Where"), (HOURS, ""), (REGULAR_HOURS, "20261123:0930-1600")])
async def test_hours_that_are_not_told_are_not_closed_days(broker: Broker, field: int, value: str) -> None:
    broker.simulator.inject(Rule(Fault.CORRUPT_FIELD, message_id=DETAILS, field=field, value=value))
    with pytest.raises(NoData):
        await broker.contracts.schedule(AAPL, 7)


async def test_an_unknown_contract_has_no_schedule(broker: Broker) -> None:
    with pytest.raises(ContractNotFound):
        await broker.contracts.schedule(Instrument(symbol="AAPLL", security_type=SecurityType.STK), 7)


async def test_while_the_contracts_farm_is_down_a_schedule_times_out(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=replace(FAST, request_timeout_s=0.2))
    broker.simulator.inject(Rule(Fault.FARM_BROKEN, value="contracts"))
    with pytest.raises(BrokerTimeout):
        await broker.contracts.schedule(AAPL, 7)


async def test_a_connection_lost_amid_the_question_ends_the_wait(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.DISCONNECT_BEFORE, message_id=9))
    with pytest.raises(BrokerDisconnected):
        await broker.contracts.schedule(AAPL, 7)
