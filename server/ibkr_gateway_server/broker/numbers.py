"""The one border between TWS's doubles and our numbers.

TWS says "none" in several ways: nan, the largest double, the largest int and long. Here they become None; nothing above
knows them.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation

from ibkr_gateway_server.broker import ib

# Nothing that is counted or paid comes near it.
_UNSET_LONG = float(2**63 - 1)


def number(value: float | str | Decimal | None) -> float | None:
    """The value as a float, or None where TWS means none."""
    if value is None or value == "":
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    # Compared in size: text has been through other people's printing ("1.7976931348623157E308", "1.797e+308").
    absent = not math.isfinite(found) or abs(found) >= _UNSET_LONG or found == ib.UNSET_INTEGER
    return None if absent else found


def decimal(value: float | str | Decimal | None) -> Decimal | None:
    """The value as the shortest Decimal that prints the same double, or None where TWS means none."""
    if isinstance(value, str):
        try:
            exact = Decimal(value)
        except InvalidOperation:
            return None
        return exact if number(value) is not None else None
    found = number(value)
    if found is None:
        return None
    exact = Decimal(repr(found))
    return exact.to_integral_value() if exact == exact.to_integral_value() else exact


def text(value: Decimal) -> str:
    """A Decimal without exponent and trailing zeros: "100.5", "1000"."""
    return f"{value.normalize():f}"
