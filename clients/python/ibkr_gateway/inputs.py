"""What people type, as what the contract takes: instruments, bar sizes, durations, decimals, order ids."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal, InvalidOperation

from ibkr_gateway.v1 import common_pb2, market_data_service_pb2

_BAR_SIZES = {
    name.removeprefix("BAR_SIZE_").lower(): number for name, number in market_data_service_pb2.BarSize.items() if number
}
_UNITS = {
    "s": market_data_service_pb2.DURATION_UNIT_SECOND,
    "d": market_data_service_pb2.DURATION_UNIT_DAY,
    "w": market_data_service_pb2.DURATION_UNIT_WEEK,
    "m": market_data_service_pb2.DURATION_UNIT_MONTH,
    "y": market_data_service_pb2.DURATION_UNIT_YEAR,
}
_SPAN = re.compile(r"(\d+)\s*([a-z]+)", re.IGNORECASE)
_TYPES = {name.removeprefix("SECURITY_TYPE_"): number for name, number in common_pb2.SecurityType.items() if number}


def stock(symbol: str, exchange: str = "", currency: str = "") -> common_pb2.Instrument:
    """A stock or ETF, by default routed SMART in USD."""
    return _named("STK", symbol, exchange, currency)


def future(symbol: str, expiry: str = "", exchange: str = "", currency: str = "") -> common_pb2.Instrument:
    """A future; without an expiry (YYYY-MM or YYYY-MM-DD) its front month."""
    named = _named("FUT", symbol, exchange, currency)
    named.expiry = expiry
    return named


def option(
    symbol: str, expiry: str, strike: str | Decimal | int, right: str, exchange: str = ""
) -> common_pb2.Instrument:
    """An option: expiry YYYY-MM-DD, right "C" or "P". Raises ValueError for another right."""
    rights = {"C": common_pb2.OPTION_RIGHT_CALL, "P": common_pb2.OPTION_RIGHT_PUT}
    if right[:1].upper() not in rights:
        raise ValueError(f"right {right!r} is neither C nor P")
    named = _named("OPT", symbol, exchange, "")
    named.expiry, named.strike, named.right = expiry, decimal_text(strike), rights[right[:1].upper()]
    return named


def index(symbol: str, exchange: str = "") -> common_pb2.Instrument:
    """An index."""
    return _named("IND", symbol, exchange, "")


def forex(pair: str) -> common_pb2.Instrument:
    """A currency pair: "EUR.USD". Raises ValueError for anything else."""
    base, dot, quote = pair.upper().partition(".")
    if not dot or len(base) != 3 or len(quote) != 3:
        raise ValueError(f"{pair!r} is not a currency pair; write it as EUR.USD")
    return _named("CASH", base, "", quote)


def parse_instrument(text: str, security_type: str = "") -> common_pb2.Instrument:
    """An instrument as people write it: AAPL, MES:FUT, SPX:IND, EUR.USD, or IBKR's contract id.

    `security_type` is for texts that name none. Raises ValueError naming what is allowed.
    """
    symbol, _, kind = text.partition(":")
    kind = (kind or security_type).upper()
    if symbol.isascii() and symbol.isdigit() and not kind:
        return common_pb2.Instrument(con_id=int(symbol))
    if not kind:
        kind = "CASH" if re.fullmatch(r"[A-Za-z]{3}\.[A-Za-z]{3}", symbol) else "STK"
    if kind not in _TYPES:
        raise ValueError(f"security type {kind!r} is not known; use one of {', '.join(_TYPES)}")
    return forex(symbol) if kind == "CASH" and "." in symbol else _named(kind, symbol.upper(), "", "")


def bar_size(text: str) -> market_data_service_pb2.BarSize.ValueType:
    """A bar's width as people write it: "5 mins", "5 min", "1 hour", "1d". Raises ValueError naming what is allowed."""
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        count, unit = int(span[1]), span[2].lower()
        unit = {"s": "sec", "m": "min", "h": "hour", "d": "day", "w": "week"}.get(unit, unit).removesuffix("s")
        for name in (f"{count}_{unit}", f"{count}_{unit}s"):
            if name in _BAR_SIZES:
                return _BAR_SIZES[name]
    allowed = ", ".join(name.replace("_", " ") for name in _BAR_SIZES)
    raise ValueError(f"bar size {text!r} is not one of {allowed}")


def duration(text: str) -> market_data_service_pb2.HistoryDuration:
    """A span of history as people write it: "1 W", "30 D", "1 month", "3600 S". Raises ValueError."""
    span = _SPAN.fullmatch(text.strip())
    # A single letter decides, as at IBKR: M is a month; minutes do not exist there.
    unit = _UNITS.get(span[2][0].lower()) if span is not None and not span[2].lower().startswith("mi") else None
    if span is None or unit is None:
        raise ValueError(f"duration {text!r} is not like 3600 S, 5 D, 1 W, 1 M or 1 Y")
    return market_data_service_pb2.HistoryDuration(value=int(span[1]), unit=unit)


def decimal_text(value: str | Decimal | int) -> str:
    """A quantity or price as the contract takes it. Floats are not taken: 0.1 is not a tenth in binary.

    Raises ValueError, TypeError.
    """
    if isinstance(value, float | bool):
        raise TypeError("give a str, Decimal or int; a float cannot hold most decimal prices")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{value} is not a number")
    return f"{number:f}"


def new_client_order_id() -> str:
    """A new id for one order. Keep it until the order's fate is known: retries must repeat it."""
    return uuid.uuid4().hex


def _named(kind: str, symbol: str, exchange: str, currency: str) -> common_pb2.Instrument:
    return common_pb2.Instrument(symbol=symbol, security_type=_TYPES[kind], exchange=exchange, currency=currency)
