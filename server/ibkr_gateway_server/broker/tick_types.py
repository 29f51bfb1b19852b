"""What TWS's ticks are, by number: which field of a quote each fills, and which of their values mean "none"."""

from __future__ import annotations

from datetime import UTC, datetime

from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.broker.sinks import OptionComputation
from ibkr_gateway_server.domain.instruments import SecurityType
from ibkr_gateway_server.domain.quotes import Greeks

# Source: TWS API, tick types. The second number of each is the delayed twin.
PRICES = {
    **dict.fromkeys((1, 66), "bid_price"),
    **dict.fromkeys((2, 67), "ask_price"),
    **dict.fromkeys((4, 68), "last_price"),
    **dict.fromkeys((6, 72), "high_price"),
    **dict.fromkeys((7, 73), "low_price"),
    **dict.fromkeys((9, 75), "close_price"),
    **dict.fromkeys((14, 76), "open_price"),
}
SIZES = {
    **dict.fromkeys((0, 69), "bid_size"),
    **dict.fromkeys((3, 70), "ask_size"),
    **dict.fromkeys((5, 71), "last_size"),
    **dict.fromkeys((8, 74), "volume"),
}
SIZE_OF_PRICE = {"bid_price": "bid_size", "ask_price": "ask_size", "last_price": "last_size"}
LAST_TIMESTAMPS = frozenset({45, 88})
HALTED = frozenset({49, 90})
MODEL_GREEKS = frozenset({13, 83})
# Of the numbers above, those from here on are the delayed ones.
FIRST_DELAYED = 66
# Numbers between 0 and this are no sentinel of TWS's, whatever they are of.
PLAIN = 2_000_000_000
# Any of these makes a quote one that can be shown.
SHOWN_PRICES = ("bid_price", "ask_price", "last_price", "close_price")

# A quote of these types is whole with these fields; others wait for bid, ask and last.
NATURAL_FIELDS = {
    SecurityType.IND: ("last_price",),
    SecurityType.CASH: ("bid_price", "ask_price"),
    SecurityType.OPT: ("bid_price", "ask_price"),
    SecurityType.FOP: ("bid_price", "ask_price"),
    SecurityType.BAG: ("bid_price", "ask_price"),
}
USUAL_FIELDS = ("bid_price", "ask_price", "last_price")


def is_no_price(name: str, price: float, security_type: SecurityType | None) -> bool:
    """Whether a price without a size is TWS's word for "none".

    -1 is, for everything; below zero is for stocks, whereas oil and spreads have traded there; 0 is for what is quoted,
    whereas a close or a low may be 0.
    """
    if price < 0:
        return price == -1 or security_type is SecurityType.STK
    return price == 0 and name in SIZE_OF_PRICE


def moment(text: str) -> datetime | None:
    """Seconds since the epoch as UTC; None where they are none, since sentinels come here too."""
    try:
        seconds = int(text)
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def greeks(values: OptionComputation) -> Greeks:
    """TWS sends -1 (volatility, prices) and -2 (sensitivities) for what it could not compute."""

    def known(value: float, sentinel: float) -> float | None:
        return None if value == sentinel else number(value)

    return Greeks(
        implied_volatility=known(values.implied_volatility, -1),
        delta=known(values.delta, -2),
        gamma=known(values.gamma, -2),
        vega=known(values.vega, -2),
        theta=known(values.theta, -2),
        option_price=known(values.option_price, -1),
        underlying_price=known(values.underlying, -1),
    )
