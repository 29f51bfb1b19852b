"""When markets are open: sessions, holidays, early closes, and the ends of days."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from ibkr_gateway_server.simulator import hours
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.holidays import early_closes, good_friday, holidays
from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import Listing

from tests.server.simulator.conftest import NOW

EXCHANGE = TradingHours(always=False)


def listing(symbol: str, kind: str = "STK") -> Listing:
    return Gateway(7, ("DU1234567",), NOW).catalogue.match(ContractQuery(symbol=symbol, sec_type=kind))[0]


AAPL, MES, EUR = listing("AAPL"), listing("MES", "FUT"), listing("EUR", "CASH")


def at(text: str, zone: str = "US/Eastern") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


# As NYSE has published them.
@pytest.mark.parametrize(
    ("year", "days"),
    [
        (2022, "0117 0221 0415 0530 0620 0704 0905 1124 1226"),
        (2025, "0101 0120 0217 0418 0526 0619 0704 0901 1127 1225"),
        (2026, "0101 0119 0216 0403 0525 0619 0703 0907 1126 1225"),
        (2027, "0101 0118 0215 0326 0531 0618 0705 0906 1125 1224"),
    ],
)
def test_stock_exchanges_keep_their_published_holidays(year: int, days: str) -> None:
    kept = sorted(day.strftime("%m%d") for day in holidays(year) if day.weekday() < 5)
    assert kept == days.split()


def test_the_day_after_thanksgiving_and_christmas_eve_are_short() -> None:
    assert early_closes(2026) == {date(2026, 11, 27), date(2026, 12, 24)}
    assert early_closes(2025) == {date(2025, 7, 3), date(2025, 11, 28), date(2025, 12, 24)}


@pytest.mark.parametrize(("year", "day"), [(2008, "0321"), (2011, "0422"), (2024, "0329"), (2038, "0423")])
def test_good_friday_is_two_days_before_easter(year: int, day: str) -> None:
    assert good_friday(year).strftime("%m%d") == day


@pytest.mark.parametrize(
    ("named", "moment", "regular", "extended"),
    [
        (AAPL, "2026-11-23 03:59", False, False),
        (AAPL, "2026-11-23 04:00", False, True),
        (AAPL, "2026-11-23 09:30", True, True),
        (AAPL, "2026-11-23 16:00", False, True),
        (AAPL, "2026-11-23 20:00", False, False),
        (AAPL, "2026-11-22 12:00", False, False),
        (AAPL, "2026-11-26 12:00", False, False),
        (AAPL, "2026-11-27 13:00", False, True),
        (AAPL, "2026-11-27 17:00", False, False),
        (MES, "2026-11-22 17:59", False, False),
        (MES, "2026-11-22 18:00", False, True),
        (MES, "2026-11-23 17:30", False, False),
        (MES, "2026-11-26 12:00", True, True),
        (MES, "2026-11-26 13:30", False, False),
        (EUR, "2026-11-21 12:00", False, False),
        (EUR, "2026-11-22 17:15", True, True),
        (EUR, "2026-11-26 13:30", True, True),
        (EUR, "2026-12-25 12:00", False, False),
    ],
)
def test_markets_open_and_close(named: Listing, moment: str, regular: bool, extended: bool) -> None:
    now = at(moment)
    told = EXCHANGE.is_open(named, now, outside_rth=False), EXCHANGE.is_open(named, now, outside_rth=True)
    assert told == (regular, extended)


def test_by_default_the_market_never_closes() -> None:
    assert TradingHours().is_open(AAPL, at("2026-11-22 03:00"), outside_rth=False)
    assert TradingHours().next_open(AAPL, NOW) == NOW


def test_a_closed_market_opens_with_its_next_session() -> None:
    holiday = at("2026-11-26 12:00")
    assert EXCHANGE.next_open(AAPL, holiday) == at("2026-11-27 04:00")
    assert EXCHANGE.next_open(AAPL, holiday, outside_rth=False) == at("2026-11-27 09:30")
    assert EXCHANGE.next_open(AAPL, at("2026-11-27 10:00"), outside_rth=False) == at("2026-11-27 10:00")


@pytest.mark.parametrize(
    ("moment", "outside", "end"),
    [
        ("2026-11-23 10:00", False, "2026-11-23 16:00"),
        ("2026-11-23 10:00", True, "2026-11-23 20:00"),
        ("2026-11-23 17:00", False, "2026-11-24 16:00"),
        ("2026-11-25 21:00", False, "2026-11-27 13:00"),
    ],
)
def test_a_days_order_lasts_until_its_session_ends(moment: str, outside: bool, end: str) -> None:
    assert EXCHANGE.day_end(AAPL, at(moment), outside_rth=outside) == at(end)


def test_a_futures_day_begins_the_evening_before() -> None:
    assert EXCHANGE.trading_day(MES, at("2026-11-23 10:00")) == (at("2026-11-22 18:00"), at("2026-11-23 17:00"))


def test_the_open_parts_of_a_week_leave_out_nights_and_holidays() -> None:
    spans = list(EXCHANGE.open_spans(AAPL, at("2026-11-25 12:00"), at("2026-11-30 05:00")))
    assert spans == [
        (at("2026-11-25 12:00"), at("2026-11-25 20:00")),
        (at("2026-11-27 04:00"), at("2026-11-27 17:00")),
        (at("2026-11-30 04:00"), at("2026-11-30 05:00")),
    ]


def test_opening_hours_are_spelled_with_closed_and_short_days() -> None:
    text = hours.hours_text(AAPL, at("2026-11-25 12:00"), regular=True)
    assert text.split(";") == [
        "20261125:0930-20261125:1600",
        "20261126:CLOSED",
        "20261127:0930-20261127:1300",
        "20261128:CLOSED",
        "20261129:CLOSED",
        "20261130:0930-20261130:1600",
    ]


def test_sessions_keep_their_clock_when_the_clocks_change() -> None:
    before, after = at("2026-10-30 12:00"), at("2026-11-02 12:00")
    spans = [EXCHANGE.session_at(AAPL, moment, outside_rth=False) for moment in (before, after)]
    assert [datetime.fromtimestamp(span[0], ZoneInfo("UTC")).hour for span in spans if span] == [13, 14]
