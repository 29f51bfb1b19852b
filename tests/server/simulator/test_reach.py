"""The first quote that may reach an order is the one that looking at every quote finds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import FIXED
from ibkr_gateway_server.simulator.market import QUOTES_PER_S, Market
from ibkr_gateway_server.simulator.orders import Order, Terms
from ibkr_gateway_server.simulator.reach import next_reach

from tests.server.simulator.conftest import NOW

AAPL = next(listing for listing in FIXED if listing.symbol == "AAPL")
SPAN_S = 60.0


def order(*, why_held: str = "", **terms: Any) -> Order:
    """An order at work, or held."""
    return Order(1, 1, 1, ContractQuery(), AAPL, Terms(quantity=1, **terms), is_working=not why_held, why_held=why_held)


def first_seen(market: Market, waiting: Order) -> float:
    """By looking at every quote."""
    for slot in range(int(NOW * QUOTES_PER_S) + 1, int((NOW + SPAN_S) * QUOTES_PER_S) + 1):
        prices = market.prices(AAPL, slot / QUOTES_PER_S)
        terms = waiting.terms
        assert prices.bid is not None
        assert prices.ask is not None
        if terms.order_type == "LMT" and terms.limit_price is not None:
            is_buy = waiting.is_buy
            is_reached = prices.ask <= terms.limit_price if is_buy else prices.bid >= terms.limit_price
        else:
            assert terms.aux_price is not None
            rising = waiting.is_buy is (terms.order_type == "STP")
            is_reached = prices.last >= terms.aux_price if rising else prices.last <= terms.aux_price
        if is_reached:
            return slot / QUOTES_PER_S
    return math.inf


@pytest.mark.parametrize("action", ["BUY", "SELL"])
@pytest.mark.parametrize("kind", ["LMT", "STP", "MIT"])
@pytest.mark.parametrize("seed", [1, 3])
def test_the_next_reach_is_what_looking_at_every_quote_finds(action: str, kind: str, seed: int) -> None:
    market, hours = Market(seed), TradingHours()
    last = market.prices(AAPL, NOW).last
    found = set()
    for cents in range(-28, 29, 4):
        price = round(last + cents / 100, 2)
        if kind == "LMT":
            waiting = order(action=action, order_type=kind, limit_price=price)
        else:
            waiting = order(action=action, order_type=kind, aux_price=price, why_held="trigger")
        seen = first_seen(market, waiting)
        assert next_reach(waiting, market, hours, NOW, NOW + SPAN_S, 1) == seen
        found.add(seen)
    # Some at once, some never, and most seeds have some in between.
    assert NOW + 1 / QUOTES_PER_S in found
    assert math.inf in found


def test_an_order_that_follows_the_market_is_reached_by_every_quote_or_every_few() -> None:
    trailing = order(action="SELL", order_type="TRAIL", aux_price=1.0, why_held="trigger")
    market, hours = Market(1), TradingHours()
    assert next_reach(trailing, market, hours, NOW, NOW + SPAN_S, 1) == NOW + 0.25
    assert next_reach(trailing, market, hours, NOW, NOW + SPAN_S, 8) == NOW + 2.0


def test_an_order_out_of_reach_is_looked_at_when_its_session_ends() -> None:
    hours = TradingHours(always=False)
    market = Market(1, hours)
    waiting = order(action="BUY", order_type="LMT", limit_price=1.0)
    closing = hours.session_at(AAPL, NOW, outside_rth=False)
    assert closing is not None
    assert next_reach(waiting, market, hours, NOW, NOW + 86400.0, 1) == closing[1]
    assert next_reach(waiting, market, hours, closing[1] + 60, NOW + 86400.0, 1) == closing[1] + 60.25
