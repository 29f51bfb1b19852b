"""Options: one volatility surface for each root, and Black-Scholes on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ibkr_gateway_server.simulator.market.path import YEAR_S

RISK_FREE = 0.04

# The surface: volatility at the money falls from its short end to its long one, rises towards low strikes more than
# towards high ones, and never below the floor. Shapes, not fits: those of an equity index on a quiet day.
_SHORT_END = 0.12
_SHORT_YEARS = 0.12
_SKEW = -0.12
_SMILE = 0.10
_FLOOR = 0.05
_WIDEST = 3.0

# What is left of an option's last hour is priced as an hour: at no time at all there is no volatility to speak of.
_LEAST_S = 3600.0


@dataclass(frozen=True, slots=True)
class OptionModel:
    """Black-Scholes of one option: its price and sensitivities. Volatility per year; vega per point of it; theta per
    day."""

    price: float
    volatility: float
    delta: float
    gamma: float
    vega: float
    theta: float
    underlying: float


@dataclass(frozen=True, slots=True)
class OptionTerms:
    """What of an option stays the same for an hour: its strike, the time that is left, the volatility it is priced at.

    With these fixed its price rises (a call's) or falls (a put's) with its underlying and with nothing else, so that
    its extremes are where the underlying's are.
    """

    strike: float
    right: str
    years: float
    volatility: float

    @classmethod
    def of(cls, strike: float, right: str, left_s: float, at_the_money: float, reference: float) -> OptionTerms:
        """Terms at this much time left, with the surface around this price of the underlying."""
        years = max(left_s, _LEAST_S) / YEAR_S
        return cls(strike, right, years, volatility(strike, reference, years, at_the_money))

    def price(self, spot: float) -> float:
        """The option's value, at least a cent."""
        return self.model(spot).price

    def model(self, spot: float) -> OptionModel:
        """The option's value and sensitivities."""
        return black_scholes(spot, self.strike, self.years, self.volatility, self.right)


def volatility(strike: float, reference: float, years: float, at_the_money: float) -> float:
    """The surface: volatility per year at a strike and a time."""
    level = at_the_money * (1 + _SHORT_END * math.exp(-years / _SHORT_YEARS))
    moneyness = math.log(strike / reference) / math.sqrt(years)
    moneyness = min(max(moneyness, -_WIDEST), _WIDEST)
    return max(level * (1 + _SKEW * moneyness + _SMILE * moneyness**2), _FLOOR)


def black_scholes(spot: float, strike: float, years: float, volatility: float, right: str) -> OptionModel:
    """A European option without dividends. `right` is "C" or "P"."""
    width = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (RISK_FREE + volatility**2 / 2) * years) / width
    d2 = d1 - width
    discount = math.exp(-RISK_FREE * years)
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    sign = 1 if right == "C" else -1
    price = sign * (spot * _normal(sign * d1) - strike * discount * _normal(sign * d2))
    decay = -spot * density * volatility / (2 * math.sqrt(years))
    carry = -sign * RISK_FREE * strike * discount * _normal(sign * d2)
    return OptionModel(
        price=max(price, 0.01),
        volatility=volatility,
        delta=sign * _normal(sign * d1),
        gamma=density / (spot * width),
        vega=spot * density * math.sqrt(years) / 100,
        theta=(decay + carry) / 365,
        underlying=spot,
    )


def implied_volatility(price: float, spot: float, strike: float, years: float, right: str) -> float | None:
    """The volatility at which an option is worth this price; None where none gives it."""
    low, high = 0.001, 5.0
    if not black_scholes(spot, strike, years, low, right).price <= price:
        return None
    if not price <= black_scholes(spot, strike, years, high, right).price:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        if black_scholes(spot, strike, years, middle, right).price < price:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2
