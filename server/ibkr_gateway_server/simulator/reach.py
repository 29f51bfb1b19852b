"""When the market may next reach an order, so that a resting one need not be looked at with every quote.

The extremes of a span are exact, so a span whose extremes do not reach an order's price holds no quote that does; the
first one that does is found by halving.
"""

from __future__ import annotations

import math

from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.market import QUOTES_PER_S, Market
from ibkr_gateway_server.simulator.matching import limit_of
from ibkr_gateway_server.simulator.orders import PEGGED, STOPS, TRAILING, Order

# Spans of fewer quotes than this are looked at one by one.
FEW_QUOTES = 16


def next_reach(order: Order, market: Market, hours: TradingHours, begin: float, until: float, stride: int) -> float:
    """The time of the first quote after `begin` that may do something to the order; infinite when none up to `until`
    does. An order whose price follows the market is reached by every quote, or by every `stride`-th."""
    first = int(begin * QUOTES_PER_S)
    stop = int(until * QUOTES_PER_S) + 1
    price = _price_of(order)
    if price is None:
        return (first + stride) / QUOTES_PER_S
    if stop - first <= FEW_QUOTES:
        return (first + 1) / QUOTES_PER_S
    first += 1
    if not hours.always:
        session = hours.session_at(order.listing, begin, outside_rth=order.terms.outside_rth)
        if session is None or not session[0] <= begin:
            return first / QUOTES_PER_S
        # The look at the session's end holds the order until the next one.
        closing = math.ceil(session[1] * QUOTES_PER_S)
        found = _first_reach(order, market, price, first, min(stop, closing))
        return found / QUOTES_PER_S if found is not None else closing / QUOTES_PER_S
    found = _first_reach(order, market, price, first, stop)
    return math.inf if found is None else found / QUOTES_PER_S


def _price_of(order: Order) -> tuple[str, float, bool] | None:
    """What is quoted or traded that reaches the order, at which price, and whether by rising to it."""
    kind = order.terms.order_type
    if order.why_held == "trigger" and kind not in TRAILING and order.terms.aux_price is not None:
        rising = order.is_buy if kind in STOPS else not order.is_buy
        return "TRADES", order.terms.aux_price, rising
    limit = limit_of(order)
    if order.why_held or limit is None or kind in PEGGED:
        return None
    return ("ASK", limit, False) if order.is_buy else ("BID", limit, True)


def _first_reach(order: Order, market: Market, price: tuple[str, float, bool], first: int, stop: int) -> int | None:
    """The first quote in a span that reaches it."""
    shown, level, rising = price
    if first >= stop:
        return None
    bar = market.bar(order.listing, first / QUOTES_PER_S, stop / QUOTES_PER_S, shown)
    if bar.high < level if rising else bar.low > level:
        return None
    if stop - first == 1:
        return first
    middle = (first + stop) // 2
    early = _first_reach(order, market, price, first, middle)
    return early if early is not None else _first_reach(order, market, price, middle, stop)
