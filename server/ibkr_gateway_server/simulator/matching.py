"""Matching: when an order triggers and what it trades, against the displayed book.

An order takes what is shown at its limit or better, level by level, and comes back for the rest at the next quote.
Stops wait to be elected. Every rule answers with levels taken: price, size, venue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ibkr_gateway_server.simulator.market import Level, Market, Prices, uniform
from ibkr_gateway_server.simulator.orders import AT_MIDPOINT, LIMITED, PEGGED, STOPS, TRAILING, Order

# How often a quarter of a second brings hidden liquidity at the midpoint: a guess.
MIDPOINT_CHANCE = 0.25


class Trade(NamedTuple):
    """So many units at a price, at a venue."""

    price: float
    size: float
    venue: str


def is_triggered(order: Order, prices: Prices) -> bool:
    """Whether the last price has reached the order's trigger; a trailing stop first follows the market."""
    if order.terms.order_type in TRAILING:
        trail(order, prices)
    level = order.stop_level if order.stop_level is not None else order.terms.aux_price
    if level is None:
        return False
    rising = order.is_buy if order.terms.order_type in STOPS else not order.is_buy
    return prices.last >= level if rising else prices.last <= level


def taken_by(order: Order, prices: Prices, shown: Sequence[Level], quote: int) -> list[Trade]:
    """What the order trades now, best level first. `shown` is the other side of the book."""
    if not shown:
        return []
    if order.terms.order_type in PEGGED:
        found = _pegged(order, prices, shown[0], quote)
    elif order.is_auction:
        # An auction has one price for everybody and size enough: a guess.
        found = [Level(prices.last, int(order.remaining + 1), order.listing.primary_exchange or shown[0].venue)]
    else:
        found = list(shown)
    return _within(order, found, limit_of(order, shown[0].price))


def limit_of(order: Order, best: float | None = None) -> float | None:
    """The worst price it trades at; None: any. `best` is what the other side shows."""
    terms = order.terms
    if terms.order_type == "TRAIL LIMIT":
        return order.trailing_limit
    if terms.order_type == "MTL":
        # What a market-to-limit order leaves rests at the price it began to fill at.
        return order.first_price or best
    return terms.limit_price if terms.order_type in LIMITED else None


def trail(order: Order, prices: Prices) -> None:
    """Move a trailing stop with the market, never against it."""
    terms = order.terms
    if terms.trailing_percent is not None:
        distance = prices.last * terms.trailing_percent / 100
    else:
        distance = terms.aux_price or 0.0
    level = Market.rounded(order.listing, prices.last + distance if order.is_buy else prices.last - distance)
    if order.stop_level is None:
        order.stop_level = terms.trail_stop_price if terms.trail_stop_price is not None else level
    else:
        order.stop_level = min(order.stop_level, level) if order.is_buy else max(order.stop_level, level)


def pegged_price(order: Order, prices: Prices) -> float | None:
    """Where a pegged order rests in this quote: the near side made better by the offset (REL), the far side made worse
    by it (PEG MKT), or the midpoint; never beyond its limit."""
    if prices.bid is None or prices.ask is None:
        return None
    terms = order.terms
    near, far, toward = (prices.bid, prices.ask, 1) if order.is_buy else (prices.ask, prices.bid, -1)
    offset = terms.aux_price or 0.0
    if terms.order_type == "REL":
        price = near + toward * offset
    elif terms.order_type == "PEG MKT":
        price = far - toward * offset
    else:
        price = (prices.bid + prices.ask) / 2 - (toward * offset if terms.order_type == "PEG MID" else 0.0)
    cap = terms.limit_price
    if cap:
        price = min(price, cap) if order.is_buy else max(price, cap)
    return round(price, 6)


def _pegged(order: Order, prices: Prices, best: Level, quote: int) -> list[Level]:
    """A pegged order trades when the market comes through where it has rested since the last look, and at its price;
    one at the midpoint also when somebody hidden meets it there. Plausible, not IBKR's."""
    rested, now = order.peg, pegged_price(order, prices)
    order.peg = now
    if now is None:
        return []
    reaches = _reaches(order, best.price, now)
    if rested is not None and _reaches(order, best.price, rested):
        return [best._replace(price=rested)]
    if rested is None and reaches:
        return [best]
    middle = round(((prices.bid or 0.0) + (prices.ask or 0.0)) / 2, 6)
    if order.terms.order_type in AT_MIDPOINT and now == middle and _is_met(order, quote):
        return [best._replace(price=middle)]
    return []


def _is_met(order: Order, quote: int) -> bool:
    return uniform(order.listing.con_id, quote) < MIDPOINT_CHANCE


def _within(order: Order, found: Sequence[Level], limit: float | None) -> list[Trade]:
    """Of what could be traded, as much as the limit and the quantity allow; all or nothing where it must be."""
    taken: list[Trade] = []
    left = order.remaining
    for level in found:
        if left <= 0 or (limit is not None and not _reaches(order, level.price, limit)):
            break
        size = min(left, level.size)
        taken.append(Trade(level.price, size, level.venue))
        left -= size
    if left > 0 and (order.terms.all_or_none or order.terms.tif == "FOK"):
        return []
    return taken


def _reaches(order: Order, price: float, limit: float) -> bool:
    return price <= limit if order.is_buy else price >= limit
