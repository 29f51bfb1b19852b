"""Requests about the past: which bars there are, how they are spelled, what is refused."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

ID = "1000000001"
AAPL = {"con_id": 265598, "exchange": "SMART"}
EUR = {"con_id": 12087792, "exchange": "IDEALPRO"}

# Monday 2026-11-23 in New York: 12:00, and the evening before, when the exchanges are closed.
NOON, SUNDAY_EVENING = NOW + 7200, NOW - 50_000


def ask(
    talk: Talk,
    duration: str,
    size: str,
    *,
    end: str = "",
    shown: str = "TRADES",
    regular: int = 1,
    form: int = 1,
    keeps_up: int = 0,
    **given: object,
) -> list[list[str]]:
    """The answers to reqHistoricalData."""
    named = contract(**(given or AAPL))
    talk.ask("20", ID, *named, "0", end, size, duration, regular, shown, form, keeps_up, "")
    return talk.messages()


def bars_of(message: list[str], version: int = 200) -> list[list[str]]:
    """The bars of a historicalData message."""
    rows = message[3:] if version >= 196 else message[5:]
    return [rows[start : start + 8] for start in range(0, len(rows), 8)]


def at(now: float, version: int = 200) -> Talk:
    """A client connected at this time."""
    talk = Talk(Gateway(7, ("DU1234567",), now), version, now=now)
    talk.messages()
    return talk


def test_hourly_bars_begin_with_the_session_and_go_on_with_the_clock() -> None:
    whole, end = ask(at(NOON), "2 D", "1 hour")
    dates = [bar[0] for bar in bars_of(whole)]
    # As captured from a live gateway: a half hour first, then full ones.
    assert dates[:3] == ["20261120 09:30:00 US/Eastern", "20261120 10:00:00 US/Eastern", "20261120 11:00:00 US/Eastern"]
    assert len(dates) == 7 + 3
    assert end == ["108", ID, "20261120  09:30:00", "20261123  12:00:00"]


def test_the_span_stands_in_the_message_before_version_196_and_zones_since_174() -> None:
    (whole,) = ask(at(NOON, 173), "1 D", "30 mins")
    assert whole[2:4] == ["20261123  09:30:00", "20261123  12:00:00"]
    assert bars_of(whole, 173)[0][0] == "20261123  09:30:00"


def test_daily_bars_are_of_trading_days_and_spelled_as_dates() -> None:
    whole, _ = ask(at(NOON), "1 W", "1 day")
    assert [bar[0] for bar in bars_of(whole)] == [
        "20261116",
        "20261117",
        "20261118",
        "20261119",
        "20261120",
        "20261123",
    ]


def test_weeks_and_months_begin_with_their_first_trading_day() -> None:
    weeks, _ = ask(at(NOON), "1 M", "1 week")
    months, _ = ask(at(NOON), "1 Y", "1M")
    assert [bar[0] for bar in bars_of(weeks)][-2:] == ["20261116", "20261123"]
    # The first of February, March, August and November 2026 fall on a weekend.
    assert {"20260202", "20260302", "20260803", "20261102"} <= {bar[0] for bar in bars_of(months)}
    assert len(bars_of(months)) in (12, 13)


def test_intraday_times_may_be_asked_for_in_epoch_seconds() -> None:
    whole, _ = ask(at(NOON), "1 D", "5 mins", form=2)
    times = [int(bar[0]) for bar in bars_of(whole)]
    assert times == list(range(int(NOON) - 9000, int(NOON), 300))


def test_seconds_of_a_span_are_seconds_of_trading() -> None:
    whole, _ = ask(at(SUNDAY_EVENING), "600 S", "1 min")
    assert bars_of(whole)[0][0] == "20261120 15:50:00 US/Eastern"
    assert len(bars_of(whole)) == 10


def test_outside_regular_hours_the_simulated_market_goes_on() -> None:
    talk = at(SUNDAY_EVENING)
    whole, _ = ask(talk, "300 S", "1 min", regular=0)
    last = bars_of(whole)[-1]
    aapl = talk.gateway.catalogue.by_id(265598)
    assert aapl is not None
    prices = talk.gateway.market.prices(aapl, talk.now)
    assert prices.bid is not None
    assert prices.ask is not None
    assert prices.bid - 0.01 <= float(last[4]) <= prices.ask + 0.01


def test_a_days_bars_add_up_to_its_volume_and_one_begins_where_the_other_ends() -> None:
    talk = at(NOON)
    minutes, _ = ask(talk, "1 D", "1 min")
    halves, _ = ask(talk, "1 D", "30 mins")
    day, _ = ask(talk, "1 D", "1 day")
    assert sum(int(bar[5]) for bar in bars_of(minutes)) == int(bars_of(day)[0][5])
    assert sum(int(bar[5]) for bar in bars_of(halves)) == int(bars_of(day)[0][5])
    assert bars_of(minutes)[0][1] == bars_of(day)[0][1]
    assert bars_of(minutes)[-1][4] == bars_of(day)[0][4]


def test_the_close_before_today_is_the_last_days_close() -> None:
    talk = at(NOON)
    days, _ = ask(talk, "2 D", "1 day")
    talk.ask("1", "11", "5", *contract(**AAPL), 0, "", 1, 0, "")
    (close,) = [fields for fields in talk.messages() if fields[0] == "1" and fields[3] == "9"]
    assert close[4] == bars_of(days)[0][4]


def test_quotes_have_no_volume_and_currencies_no_trades() -> None:
    talk = at(NOON)
    whole, _ = ask(talk, "1 D", "1 hour", shown="MIDPOINT", **EUR)
    assert {tuple(bar[5:]) for bar in bars_of(whole)} == {("-1", "-1", "-1")}
    (refusal,) = ask(talk, "1 D", "1 hour", **EUR)
    assert refusal[2] == "162"


def test_bars_that_keep_up_grow_and_a_finished_one_is_told_once_more() -> None:
    talk = at(NOON + 5)
    ask(talk, "600 S", "1 min", keeps_up=1)
    talk.wait(70.0, step=0.5)
    updates = [(fields[3], fields[5]) for fields in talk.heard("90")]
    dates = [date for date, _ in updates]
    assert sorted(set(dates)) == ["20261123 12:00:00 US/Eastern", "20261123 12:01:00 US/Eastern"]
    assert dates == sorted(dates)
    finished = [close for date, close in updates if date == "20261123 12:00:00 US/Eastern"][-1]
    whole, _ = ask(talk, "600 S", "1 min")
    assert finished == bars_of(whole)[-2][4]


def test_bars_that_keep_up_end_when_they_are_cancelled() -> None:
    talk = at(NOON)
    ask(talk, "600 S", "1 min", keeps_up=1)
    talk.ask("25", "1", ID)
    talk.wait(10.0, step=0.5)
    assert talk.messages() == []
    talk.ask("25", "1", ID)
    assert talk.messages()[0][2:4] == ["366", f"No historical data query found for ticker id:{ID}"]


@pytest.mark.parametrize(
    ("duration", "size", "more", "cause"),
    [
        ("1 D", "1 sec", {}, "Historical data bar size setting is invalid. Legal ones are: 1 secs, 5 secs"),
        ("366 D", "1 day", {}, "Historical data requests for durations longer than 365 days must be made in years."),
        ("53 W", "1 day", {}, "Historical data request for durations longer than 52 weeks must be made in years."),
        ("86401 S", "1 min", {}, "Historical data request for greater than 86400 seconds rejected."),
        ("1", "1 day", {}, "Historical data requested duration is invalid."),
        ("²D", "1 day", {}, "Historical data requested duration is invalid."),
        ("1 D", "1 day", {"shown": "NONSENSE"}, "Invalid what to show: NONSENSE"),
        ("1 D", "1 day", {"end": "tomorrow"}, "Invalid date/time format."),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_its_cause(
    duration: str, size: str, more: dict[str, str], cause: str
) -> None:
    (answer,) = ask(at(NOON), duration, size, **more)  # type: ignore[arg-type]  # its own keywords
    assert answer[2] == "321"
    assert answer[3].startswith(f"Error validating request.-'bK' : cause - {cause}")


def test_an_end_in_the_past_is_the_end() -> None:
    whole, _ = ask(at(NOON), "1 D", "1 hour", end="20261117 12:00:00 US/Eastern")
    assert [bar[0][9:14] for bar in bars_of(whole)] == ["09:30", "10:00", "11:00"]


def test_a_schedule_has_the_sessions_of_its_span() -> None:
    (answer,) = ask(at(NOON), "5 D", "1 day", shown="SCHEDULE")
    assert answer[:6] == ["106", ID, "20261117-09:30:00", "20261123-16:00:00", "US/Eastern", "5"]


@pytest.mark.parametrize(("form", "text"), [(1, "20040123-14:30:00"), (2, "1074868200")])
def test_the_beginning_of_a_contracts_past_is_told_in_either_form(form: int, text: str) -> None:
    talk = at(NOON)
    talk.ask("87", ID, *contract(**AAPL), "0", 1, "TRADES", form)
    assert talk.messages() == [["88", ID, text]]


def test_bars_are_the_same_in_another_life() -> None:
    future = {"symbol": "ES", "sec_type": "FUT", "expiry": "202612", "exchange": "CME"}
    earlier, later = at(NOON - 86400 * 3), at(NOON)
    end = "20261118 15:00:00 US/Central"
    assert ask(earlier, "1 D", "1 hour", end=end, **future) == ask(later, "1 D", "1 hour", end=end, **future)


def with_exchange_hours(now: float) -> Talk:
    """A client of a gateway whose market opens and closes."""
    talk = Talk(Gateway(7, ("DU1234567",), now, Behaviour(always_open=False)), now=now)
    talk.messages()
    return talk


def test_with_exchange_hours_bars_are_of_all_sessions_or_of_the_regular_ones() -> None:
    talk = with_exchange_hours(NOON)
    extended, _ = ask(talk, "2 D", "1 hour", regular=0)
    hours = [bar[0][:14] for bar in bars_of(extended)]
    assert (hours[0], hours[15], hours[16]) == ("20261120 04:00", "20261120 19:00", "20261123 04:00")
    assert len(hours) == 16 + 8
    regular, _ = ask(talk, "2 D", "1 hour")
    assert len(bars_of(regular)) == 7 + 3


def test_a_holiday_has_no_bars_and_the_day_after_thanksgiving_few() -> None:
    friday = NOW + 4 * 86400 + 8 * 3600
    talk = with_exchange_hours(friday)
    days, _ = ask(talk, "3 D", "1 day")
    assert [bar[0] for bar in bars_of(days)] == ["20261124", "20261125", "20261127"]
    hours, _ = ask(talk, "1 D", "30 mins")
    assert [bar[0][9:14] for bar in bars_of(hours)][::6] == ["09:30", "12:30"]
    assert len(bars_of(hours)) == 7


def test_a_weeks_bar_is_of_its_days_and_not_of_their_nights() -> None:
    talk = at(NOON)
    days, _ = ask(talk, "2 W", "1 day", end="20261120 23:00:00 US/Eastern")
    weeks, _ = ask(talk, "2 W", "1 week", end="20261120 23:00:00 US/Eastern")
    week, last = bars_of(weeks)[-1], bars_of(days)[-5:]
    assert [bar[0] for bar in last] == ["20261116", "20261117", "20261118", "20261119", "20261120"]
    assert float(week[2]) == max(float(bar[2]) for bar in last)
    assert float(week[3]) == min(float(bar[3]) for bar in last)
    assert (week[1], week[4]) == (last[0][1], last[-1][4])
    assert int(week[5]) == sum(int(bar[5]) for bar in last)


@pytest.mark.parametrize("shown", ["BID", "ASK", "BID_ASK", "MIDPOINT", "HISTORICAL_VOLATILITY"])
def test_what_is_not_traded_is_told_without_volume(shown: str) -> None:
    whole, _ = ask(at(NOON), "1 D", "1 hour", shown=shown)
    assert {tuple(bar[5:]) for bar in bars_of(whole)} == {("-1", "-1", "-1")}
    assert all(float(bar[3]) <= float(bar[4]) <= float(bar[2]) for bar in bars_of(whole))


def test_what_is_not_shown_of_a_contract_is_no_data() -> None:
    (answer,) = ask(at(NOON), "1 D", "1 hour", shown="YIELD_LAST")
    assert answer[2:4] == [
        "162",
        "Historical Market Data Service error message:No historical market data for AAPL@SMART Yield_Last",
    ]
