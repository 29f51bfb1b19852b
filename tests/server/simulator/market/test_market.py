"""Prices: the same from one seed everywhere, and consistent with each other."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import date, datetime

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market, Tick

from tests.server.simulator.conftest import NOW

PROGRAM = """
from ibkr_gateway_server.simulator.market import Market, Tick
from ibkr_gateway_server.simulator.listings import FIXED
market = Market(5)
print([market.prices(listing, 1795446000.0 + step) for listing in FIXED for step in range(3)])
"""


def listing(symbol: str, kind: str = "STK") -> Listing:
    return Gateway(7, ("DU1234567",), NOW).catalogue.match(ContractQuery(symbol=symbol, sec_type=kind))[0]


def test_prices_are_the_same_in_every_process() -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(runs) == 1


def test_another_seed_gives_other_prices() -> None:
    aapl = listing("AAPL")
    assert Market(1).prices(aapl, NOW) != Market(2).prices(aapl, NOW)


@pytest.mark.parametrize(("symbol", "kind"), [("AAPL", "STK"), ("MES", "FUT"), ("EUR", "CASH"), ("SPY", "OPT")])
def test_quotes_are_on_the_price_step_with_the_bid_below_the_ask(symbol: str, kind: str) -> None:
    market, named = Market(3), listing(symbol, kind)
    for step in range(200):
        prices = market.prices(named, NOW + step * 7.3)
        assert prices.bid is not None
        assert prices.ask is not None
        assert 0 < prices.bid < prices.ask
        assert prices.low <= prices.last <= prices.high
        for price in (prices.bid, prices.ask, prices.last):
            assert price == pytest.approx(round(price / named.min_tick) * named.min_tick, abs=1e-9)


def test_the_growing_bar_ends_at_the_price_of_the_moment() -> None:
    market, aapl = Market(3), listing("AAPL")
    bar = market.bar(aapl, int(NOW) - 60, NOW)
    assert bar.close == market.rounded(aapl, market.value(aapl, NOW - 0.001))
    assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high


def test_contracts_on_one_root_move_together() -> None:
    market, spy, mes = Market(3), listing("SPY"), listing("MES", "FUT")
    ratios = [market.value(mes, NOW + step) / market.value(spy, NOW + step) for step in range(0, 9000, 300)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-5)


def test_a_price_that_is_set_is_there_at_once_and_goes_on_from_there() -> None:
    market, aapl = Market(3), listing("AAPL")
    market.set_price(aapl, 300.0, NOW)
    assert market.value(aapl, NOW) == pytest.approx(300.0)
    assert market.value(aapl, NOW - 1) != pytest.approx(300.0, rel=0.05)
    assert market.value(aapl, NOW + 60) == pytest.approx(300.0, rel=0.02)


def test_call_and_put_of_one_strike_keep_parity() -> None:
    catalogue, market = Catalogue(date(2026, 11, 23)), Market(3)
    options = [option for option in catalogue if option.sec_type == "OPT" and option.symbol == "SPY"]
    call = next(option for option in options if option.right == "C")
    put = next(o for o in options if o.right == "P" and (o.strike, o.expiry) == (call.strike, call.expiry))
    one, other = market.option(call, NOW), market.option(put, NOW)
    expiry_s = datetime.strptime(call.expiry + "21+0000", "%Y%m%d%H%z").timestamp()
    years = (expiry_s - NOW) / 31557600
    assert one.price - other.price == pytest.approx(one.underlying - call.strike * math.exp(-0.04 * years), abs=0.02)
    assert one.delta - other.delta == pytest.approx(1.0)


def ticks_of(market: Market, named: Listing, begin: float, end: float) -> list[Tick]:
    return list(market.ticks(named, begin, end))


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [("AAPL", "STK"), ("MES", "FUT"), ("EUR", "CASH"), ("SPY", "OPT"), ("SPX", "IND")],
)
def test_the_bars_of_an_hour_are_its_ticks_own(symbol: str, kind: str) -> None:
    market, named = Market(3), listing(symbol, kind)
    # Across an hour's border, where options and futures are priced anew.
    begin, end = NOW + 1800.25, NOW + 5400.75
    ticks = ticks_of(market, named, begin, end)
    assert len(ticks) == 14402
    shown = {"TRADES": [tick.last for tick in ticks]}
    if kind != "IND":
        shown["BID"] = [tick.bid for tick in ticks if tick.bid is not None]
        shown["ASK"] = [tick.ask for tick in ticks if tick.ask is not None]
    for kind_of_prices, told in shown.items():
        bar = market.bar(named, begin, end, kind_of_prices)
        assert (bar.open, bar.high, bar.low, bar.close) == (told[0], max(told), min(told), told[-1])
    if kind not in ("CASH", "IND"):
        bar = market.bar(named, begin, end)
        assert (bar.volume, bar.count) == (sum(tick.last_size for tick in ticks), len(ticks))


def test_puts_too_are_exact_though_they_fall_when_their_underlying_rises() -> None:
    market = Market(5)
    put = next(
        option
        for option in Gateway(7, ("DU1234567",), NOW).catalogue.options_of(756733)
        if option.right == "P" and option.strike >= 670
    )
    lasts = [tick.last for tick in ticks_of(market, put, NOW, NOW + 3600)]
    bar = market.bar(put, NOW, NOW + 3600)
    assert (bar.open, bar.high, bar.low, bar.close) == (lasts[0], max(lasts), min(lasts), lasts[-1])
    assert bar.high > bar.low


def test_a_bar_across_a_price_set_by_hand_has_both_sides_of_it() -> None:
    market, aapl = Market(3), listing("AAPL")
    before = market.prices(aapl, NOW).last
    market.set_quote(aapl, NOW + 30, bid=299.9, ask=300.2, last=300.1)
    ticks = ticks_of(market, aapl, NOW, NOW + 60)
    bar = market.bar(aapl, NOW, NOW + 60)
    assert (bar.open, bar.close) == (before, ticks[-1].last)
    assert (bar.high, bar.low) == (max(tick.last for tick in ticks), min(tick.last for tick in ticks))
    (first, *_) = ticks_of(market, aapl, NOW + 30, NOW + 31)
    assert (first.bid, first.ask, first.last) == (299.9, 300.2, 300.1)


def test_the_days_figures_are_those_of_its_ticks() -> None:
    market, aapl = Market(3), listing("AAPL")
    begin = NOW - 10 * 3600
    told = [tick.last for tick in ticks_of(market, aapl, begin, NOW + 0.25)]
    prices = market.prices(aapl, NOW)
    assert (prices.open, prices.high, prices.low) == (told[0], max(told), min(told))
    # And again after looking on, whichever way one gets there.
    for step in range(40):
        market.prices(aapl, NOW + step * 0.25)
    assert market.prices(aapl, NOW + 10) == Market(3).prices(aapl, NOW + 10)


def test_a_closed_market_stands_still_at_its_last_moment() -> None:
    market, aapl = Market(3, TradingHours(always=False)), listing("AAPL")
    evening = NOW + 10 * 3600  # 20:00 in New York
    last = ticks_of(market, aapl, evening - 1, evening)[-1]
    assert not market.is_open(aapl, evening)
    night = [market.prices(aapl, evening + hours * 3600) for hours in (0, 1, 7)]
    assert {(prices.bid, prices.ask, prices.last) for prices in night} == {(last.bid, last.ask, last.last)}
    assert ticks_of(market, aapl, evening, evening + 3600) == []
    morning = market.prices(aapl, evening + 8 * 3600)
    assert morning.volume < night[0].volume


def test_the_book_begins_with_what_is_quoted_and_gets_worse() -> None:
    market = Market(3)
    for named in (listing("AAPL"), listing("MES", "FUT"), listing("EUR", "CASH")):
        prices, book = market.prices(named, NOW), market.book(named, NOW, 5)
        assert (book.bids[0][:2], book.asks[0][:2]) == ((prices.bid, prices.bid_size), (prices.ask, prices.ask_size))
        bids, asks = [level.price for level in book.bids], [level.price for level in book.asks]
        assert (bids, asks) == (sorted(set(bids), reverse=True), sorted(set(asks)))
        assert len(bids) == len(asks) == 5
        assert all(level.size > 0 for level in (*book.bids, *book.asks))
    assert market.book(listing("SPX", "IND"), NOW, 5) == ((), ())


def test_volatility_is_lowest_near_the_money_and_highest_for_low_strikes() -> None:
    market = Market(3)
    options = [o for o in Gateway(7, ("DU1234567",), NOW).catalogue.options_of(265598) if o.right == "P"]
    front = sorted((o for o in options if o.expiry == min(o.expiry for o in options)), key=lambda o: o.strike)
    vols = [market.option(option, NOW).volatility for option in front]
    assert vols[0] > vols[-1] > min(vols)
    assert min(vols) not in (vols[0], vols[-1])


def test_bid_ask_bars_hold_both_sides() -> None:
    market, aapl = Market(3), listing("AAPL")
    both, bids, asks = (market.bar(aapl, NOW, NOW + 60, shown) for shown in ("BID_ASK", "BID", "ASK"))
    assert (both.high, both.low) == (asks.high, bids.low)
    assert bids.low <= both.open <= bids.high
    assert asks.low <= both.close <= asks.high
