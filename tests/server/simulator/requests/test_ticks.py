"""Requests for single ticks: as they come, of the past, and as a histogram."""

from __future__ import annotations

import itertools

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.listings import Listing

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

AAPL = {"con_id": 265598, "exchange": "SMART"}
IBM = {"con_id": 8314, "exchange": "SMART"}
SPX = {"con_id": 416904, "exchange": "CBOE"}
EURUSD = {"con_id": 12087792, "exchange": "IDEALPRO"}
# One second before and after the moment of the tests, which is 10:00 in New York.
TEN = "20261123 10:00:00 US/Eastern"

WIDTHS = {"96": 4, "97": 6, "98": 6}


def subscribe(
    talk: Talk, req_id: int = 1, kind: str = "Last", count: int = 0, ignores_size: int = 0, **given: object
) -> None:
    talk.ask("97", req_id, *contract(**given), kind, count, ignores_size)


def past(
    talk: Talk,
    *,
    start: str = "",
    end: str = "",
    count: object = 10,
    shown: str = "TRADES",
    regular: int = 0,
    ignores_size: int = 0,
    **given: object,
) -> list[list[str]]:
    """The ticks of one historical request, each as its fields."""
    options = (start, end, count, shown, regular, ignores_size, "")
    talk.ask("96", 7, *contract(**given), 0, *options)
    (answer,) = talk.messages()
    assert answer[0] in WIDTHS, answer
    assert answer[-1] == "1"
    width = WIDTHS[answer[0]]
    rows = [answer[index : index + width] for index in range(3, len(answer) - 1, width)]
    assert len(rows) == int(answer[2])
    return rows


def listing_of(talk: Talk, given: dict[str, object]) -> Listing:
    found = talk.gateway.catalogue.by_id(int(str(given["con_id"])))
    assert found is not None
    return found


def test_every_trade_of_the_market_is_told_once(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    talk.wait(20.0, step=0.6)
    told = [(*fields[3:6], fields[7]) for fields in talk.heard("99")]
    market = talk.gateway.market.ticks(listing_of(talk, AAPL), NOW, talk.now)
    assert told == [(str(int(tick.time)), f"{tick.last:g}", str(tick.last_size), tick.venue) for tick in market]
    assert len(told) == 80


@pytest.mark.parametrize(("kind", "number", "fields"), [("Last", "1", 9), ("AllLast", "2", 9), ("BidAsk", "3", 9)])
def test_a_kind_has_its_number_and_layout(talk: Talk, kind: str, number: str, fields: int) -> None:
    subscribe(talk, kind=kind, **AAPL)
    talk.wait(2.0, step=0.25)
    told = talk.heard("99")
    assert {(message[1], message[2], len(message)) for message in told} == {("1", number, fields)}


def test_a_quote_is_told_when_it_changes_and_sizes_count_unless_they_are_ignored(talk: Talk) -> None:
    subscribe(talk, 1, "BidAsk", **AAPL)
    subscribe(talk, 2, "BidAsk", ignores_size=1, **AAPL)
    talk.wait(60.0, step=0.25)
    messages = talk.heard("99")
    quotes = {number: [fields[4:8] for fields in messages if fields[1] == number] for number in ("1", "2")}
    assert all(one != other for one, other in itertools.pairwise(quotes["1"]))
    assert all(one[:2] != other[:2] for one, other in itertools.pairwise(quotes["2"]))
    assert 5 < len(quotes["2"]) < len(quotes["1"])


def test_a_middle_is_told_when_it_changes(talk: Talk) -> None:
    subscribe(talk, kind="MidPoint", **EURUSD)
    talk.wait(20.0, step=0.25)
    middles = [fields[4] for fields in talk.heard("99")]
    assert len(middles) > 5
    assert all(one != other for one, other in itertools.pairwise(middles))


@pytest.mark.parametrize(("kind", "message"), [("Last", "98"), ("BidAsk", "97"), ("MidPoint", "96")])
def test_ticks_of_the_past_come_first_when_asked_for(talk: Talk, kind: str, message: str) -> None:
    subscribe(talk, kind=kind, count=20, **AAPL)
    (history,) = talk.messages()
    assert history[:2] == [message, "1"]
    assert int(history[2]) >= 20
    talk.wait(5.0, step=0.25)
    later = talk.messages()
    assert {fields[0] for fields in later} == {"99"}
    assert int(history[-1 - WIDTHS[message]]) <= NOW <= int(later[0][3])


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        (IBM, "Last", "10189"),
        (EURUSD, "AllLast", "10189"),
        (SPX, "BidAsk", "10189"),
        (AAPL, "Nonsense", "321"),
        ({"symbol": "NOSUCH", "sec_type": "STK", "exchange": "SMART"}, "Last", "200"),
    ],
)
def test_ticks_that_cannot_be_are_refused(talk: Talk, given: dict[str, object], kind: str, code: str) -> None:
    subscribe(talk, kind=kind, **given)
    assert [fields[1:3] for fields in talk.messages()] == [["1", code]]


def test_options_have_ticks_of_the_past_alone(talk: Talk) -> None:
    option = {"con_id": talk.gateway.catalogue.options_of(265598)[20].con_id, "exchange": "SMART"}
    subscribe(talk, **option)
    assert [fields[2] for fields in talk.messages()] == ["10189"]
    assert len(past(talk, end=TEN, shown="BID_ASK", count=5, **option)) >= 5


def test_a_sixth_request_is_refused_until_one_is_cancelled(talk: Talk) -> None:
    for req_id in range(1, 6):
        subscribe(talk, req_id, **AAPL)
    subscribe(talk, 6, **AAPL)
    subscribe(talk, 5, **AAPL)
    assert [fields[1:3] for fields in talk.messages()] == [["6", "10190"], ["5", "322"]]
    talk.ask("98", "5")
    subscribe(talk, 6, **AAPL)
    talk.ask("98", "5")
    assert [fields[1:3] for fields in talk.messages()] == [["5", "300"]]


def test_nothing_trades_while_the_market_is_closed() -> None:
    sunday = NOW - 86400
    talk = Talk(Gateway(7, ("DU1234567",), sunday, Behaviour(always_open=False)), now=sunday)
    talk.messages()
    subscribe(talk, count=5, **AAPL)
    (history,) = talk.messages()
    friday = 1795222800  # 20:00 in New York
    assert friday - 5 < int(history[3]) < friday
    talk.wait(60.0, step=1.0)
    assert talk.messages() == []


def test_a_clock_that_jumps_does_not_bring_a_day_of_ticks(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    talk.wait(86400.0, step=86400.0)
    assert 0 < len(talk.heard("99")) <= 240


@pytest.mark.parametrize("shown", ["TRADES", "BID_ASK", "MIDPOINT"])
def test_ticks_before_a_moment_are_the_latest_before_it_in_whole_seconds(talk: Talk, shown: str) -> None:
    fewer, more = (past(talk, end=TEN, count=count, shown=shown, **AAPL) for count in (50, 200))
    assert 50 <= len(fewer) <= 53
    assert 200 <= len(more) <= 203
    assert more[-len(fewer) :] == fewer
    times = [int(row[0]) for row in more]
    assert times == sorted(times)
    assert times[-1] < NOW
    # The first second is whole: none of its ticks is left out.
    wider = past(talk, end=TEN, count=400, shown=shown, **AAPL)
    assert [row for row in wider if row[0] == more[0][0]] == [row for row in more if row[0] == more[0][0]]


@pytest.mark.parametrize("shown", ["TRADES", "BID_ASK", "MIDPOINT"])
def test_ticks_after_a_moment_are_the_first_from_it_on_in_whole_seconds(talk: Talk, shown: str) -> None:
    start = "20261123 09:45:00 US/Eastern"
    fewer, more = (past(talk, start=start, count=count, shown=shown, **AAPL) for count in (50, 200))
    assert more[: len(fewer)] == fewer
    assert 50 <= len(fewer) <= 53
    assert int(more[0][0]) >= NOW - 900
    assert more[len(fewer)][0] != fewer[-1][0]


def test_pages_of_ticks_fit_together(talk: Talk) -> None:
    """As clients page: the next request begins a second after the last tick."""
    whole = past(talk, start="20261123-14:45:00", count=600, **AAPL)
    pages: list[list[str]] = []
    start = NOW - 900
    while len(pages) < len(whole):
        clock = f"20261123-14:{45 + int(start - NOW + 900) // 60:02}:{int(start) % 60:02}"
        pages += past(talk, start=clock, count=100, **AAPL)
        start = int(pages[-1][0]) + 1
    assert pages[: len(whole)] == whole


def test_ticks_do_not_come_from_the_future(talk: Talk) -> None:
    assert past(talk, start=TEN, **AAPL) == []
    rows = past(talk, start="20261123 09:59:58 US/Eastern", count=1000, **AAPL)
    assert len(rows) == 8


def test_regular_hours_alone_are_gone_back_to(talk: Talk) -> None:
    sunday_noon = "20261122 12:00:00 US/Eastern"
    friday_close = 1795208400  # 16:00 in New York
    rows = past(talk, end=sunday_noon, regular=1, **AAPL)
    assert friday_close - 3 <= int(rows[-1][0]) < friday_close
    rows = past(talk, start=sunday_noon, regular=1, **AAPL)
    monday_opening = NOW - 1800
    assert int(rows[0][0]) == monday_opening


def test_an_index_has_trades_of_the_past_without_size_or_quotes(talk: Talk) -> None:
    assert {row[3] for row in past(talk, end=TEN, **SPX)} == {"0"}
    talk.ask("96", 7, *contract(**SPX), 0, "", TEN, 10, "MIDPOINT", 0, 0, "")
    assert [fields[2] for fields in talk.messages()] == ["10187"]


@pytest.mark.parametrize(
    ("given", "options", "code"),
    [
        (AAPL, {"start": TEN, "end": TEN}, "321"),
        (AAPL, {}, "321"),
        (AAPL, {"end": TEN, "count": 0}, "321"),
        (AAPL, {"end": TEN, "count": 1001}, "321"),
        (AAPL, {"end": "yesterday"}, "321"),
        (AAPL, {"end": TEN, "shown": "BID"}, "321"),
        (IBM, {"end": TEN}, "10187"),
        (EURUSD, {"end": TEN}, "10187"),
    ],
)
def test_a_request_for_the_past_that_cannot_be_is_refused(
    talk: Talk, given: dict[str, object], options: dict[str, object], code: str
) -> None:
    start, end, count = (options.get(name, "") for name in ("start", "end", "count"))
    talk.ask("96", 7, *contract(**given), 0, start, end, count or 10 * ("count" not in options), *rest(options))
    assert [fields[1:3] for fields in talk.messages()] == [["7", code]]


def rest(options: dict[str, object]) -> tuple[object, ...]:
    return options.get("shown", "TRADES"), 0, 0, ""


@pytest.mark.parametrize("period", ["600 secs", "3 days", "1 week", "1 month"])
def test_a_histogram_has_all_that_was_traded_at_prices_within_the_span(talk: Talk, period: str) -> None:
    talk.ask("88", 3, *contract(**AAPL), 0, 1, period)
    (answer,) = talk.messages()
    rows = [(float(answer[index]), int(answer[index + 1])) for index in range(3, len(answer), 2)]
    prices = [price for price, _ in rows]
    assert answer[:3] == ["89", "3", str(len(rows))]
    assert len(prices) == len(set(prices)) > 5
    assert prices != sorted(prices)
    assert {len(text.partition(".")[2]) for text in answer[3::2]} == {2}
    assert all(size > 0 for _, size in rows)
    market, listing = talk.gateway.market, listing_of(talk, AAPL)
    month = market.bar(listing, NOW - 33 * 86400, NOW)
    assert month.low <= min(prices) <= max(prices) <= month.high
    if period == "600 secs":
        assert sum(size for _, size in rows) == market.volume(listing, NOW - 600, NOW)


@pytest.mark.parametrize(("given", "period"), [(AAPL, "a while"), (IBM, "3 days"), (EURUSD, "3 days"), (SPX, "3 days")])
def test_a_histogram_that_cannot_be_is_refused(talk: Talk, given: dict[str, object], period: str) -> None:
    talk.ask("88", 3, *contract(**given), 0, 1, period)
    assert [fields[1:3] for fields in talk.messages()] == [["3", "10188"]]
    talk.ask("89", 3)
    assert talk.messages() == []
