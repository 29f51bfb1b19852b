"""Matching: when an order is accepted, triggers, fills and ends, against the displayed quote.

A market order takes what is displayed and comes back for the rest at the next look; a limit order fills while the other
side is at its limit or better. Stops wait to be elected. Every rule answers with a price and a size, or nothing.
"""

from __future__ import annotations

from ibkr_gateway_server.simulator.market import Prices
from ibkr_gateway_server.simulator.orders import LIMITED, STOPS, TRAILING, Order


def is_triggered(order: Order, prices: Prices) -> bool:
    """Whether the last price has reached the order's trigger; a trailing stop first follows the market."""
    if order.terms.order_type in TRAILING:
        _trail(order, prices)
    level = order.stop_level if order.stop_level is not None else order.terms.aux_price
    if level is None:
        return False
    rising = order.is_buy if order.terms.order_type in STOPS else not order.is_buy
    return prices.last >= level if rising else prices.last <= level


def fill_of(order: Order, prices: Prices) -> tuple[float, float] | None:
    """The price and size this order would trade at now."""
    price = prices.ask if order.is_buy else prices.bid
    shown = prices.ask_size if order.is_buy else prices.bid_size
    if price is None or not shown:
        return None
    limit = limit_of(order)
    if limit is not None and (price > limit if order.is_buy else price < limit):
        return None
    quantity = min(order.remaining, shown)
    if (order.terms.all_or_none or order.terms.tif == "FOK") and quantity < order.remaining:
        return None
    return price, quantity


def limit_of(order: Order) -> float | None:
    """The worst price it trades at; None: any."""
    terms = order.terms
    if terms.order_type == "TRAIL LIMIT" and order.stop_level is not None:
        offset = terms.limit_price_offset or 0.0
        return order.stop_level + offset if order.is_buy else order.stop_level - offset
    if terms.order_type == "MTL" and order.filled:
        # What a market-to-limit order leaves rests at the price it began to fill at.
        return order.first_price
    return terms.limit_price if terms.order_type in LIMITED else None


def _trail(order: Order, prices: Prices) -> None:
    """Move a trailing stop with the market, never against it."""
    terms = order.terms
    if terms.trailing_percent is not None:
        distance = prices.last * terms.trailing_percent / 100
    else:
        distance = terms.aux_price or 0.0
    level = prices.last + distance if order.is_buy else prices.last - distance
    if order.stop_level is None:
        order.stop_level = terms.trail_stop_price if terms.trail_stop_price is not None else level
    else:
        order.stop_level = min(order.stop_level, level) if order.is_buy else max(order.stop_level, level)
