"""Ticks one by one: each trade or each change of the quote, as IBKR sends them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TickType(StrEnum):
    """Kinds of tick-by-tick data under IBKR's own spelling. Source: TWS API, tick-by-tick data."""

    LAST = "Last"
    ALL_LAST = "AllLast"
    BID_ASK = "BidAsk"
    MIDPOINT = "MidPoint"


@dataclass(frozen=True, slots=True)
class Tick:
    """One trade or one change of the quote, in the instrument's currency per unit; what it does not say is None.

    `exchange_time` is UTC in whole seconds: IBKR's tick-by-tick data has no finer ones.
    """

    exchange_time: datetime | None = None
    price: float | None = None
    size: float | None = None
    bid_price: float | None = None
    ask_price: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    exchange: str = ""
    special_conditions: str = ""
