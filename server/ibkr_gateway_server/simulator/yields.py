"""What a bond yields at a price."""

from __future__ import annotations

from datetime import UTC, datetime

from ibkr_gateway_server.simulator.listings import Bond

COUPONS_A_YEAR = 2
YEAR_S = 365.25 * 86400

# Yields, per year, between which a price's is looked for, and how often the span between them is halved.
_LEAST, _MOST, _STEPS = -0.2, 2.0, 50


def yield_to_maturity(bond: Bond, price: float, now: float) -> float:
    """Per year, as a share, of a clean price in percent: with coupons twice a year, the last one at maturity."""
    end = datetime.strptime(bond.maturity, "%Y%m%d").replace(tzinfo=UTC).timestamp()
    periods = max((end - now) / YEAR_S, 1 / 365) * COUPONS_A_YEAR
    low, high = _LEAST, _MOST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _price(bond.coupon / COUPONS_A_YEAR, middle / COUPONS_A_YEAR, periods) > price:
            low = middle
        else:
            high = middle
    return round((low + high) / 2, 6)


def _price(coupon: float, rate: float, periods: float) -> float:
    """Of coupons and a redemption at 100, discounted at a rate, each of one period."""
    discount = (1 + rate) ** -periods
    annuity = (1 - discount) / rate if rate else periods
    return float(coupon * annuity + 100 * discount)
