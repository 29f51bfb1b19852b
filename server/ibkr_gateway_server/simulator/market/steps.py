"""The prices that a contract may have: multiples of a step, which may be wider for higher prices."""

from __future__ import annotations

import math

from ibkr_gateway_server.simulator.listings import MARKET_RULES, Listing


def step_at(listing: Listing, value: float) -> float:
    """The price step at a price, by the contract's market rule."""
    steps = MARKET_RULES[listing.market_rule]
    if len(steps) == 1:
        return steps[0][1]
    return next(step for edge, step in reversed(steps) if abs(value) >= edge)


def nearest(listing: Listing, value: float) -> float:
    """The nearest price on the step."""
    step = step_at(listing, value)
    return round(round(value / step) * step, 6)


def below(listing: Listing, value: float) -> float:
    """The highest price on the step that is not above a value."""
    step = step_at(listing, value)
    # What is on the step but for the last bit of a float is on the step.
    return round(math.floor(value / step + 1e-6) * step, 6)
