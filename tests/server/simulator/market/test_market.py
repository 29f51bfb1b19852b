"""Prices: the same from one seed everywhere, and consistent with each other."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import date, datetime

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market

from tests.server.simulator.conftest import NOW

PROGRAM = """
from ibkr_gateway_server.simulator.market import Market
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
