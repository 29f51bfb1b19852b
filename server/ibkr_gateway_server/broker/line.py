"""One line: the upstream subscription of one contract, from TWS's ticks to frozen quotes.

TWS sends a quote in pieces: prices, sizes and strings under tick numbers, live and delayed ones under different
numbers. Here they become one frozen Quote per socket read. Sentinels end here: what TWS does not know is absent.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from ibkr_gateway_server.broker.callbacks import OptionComputation, Sink
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.notices import is_notice, request_error
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.domain.errors import DomainError, Reason
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import Greeks, MarketDataType, Quote

log = logging.getLogger(__name__)

# Source: TWS API, tick types. The second number of each is the delayed twin.
_PRICES = {
    **dict.fromkeys((1, 66), "bid_price"),
    **dict.fromkeys((2, 67), "ask_price"),
    **dict.fromkeys((4, 68), "last_price"),
    **dict.fromkeys((6, 72), "high_price"),
    **dict.fromkeys((7, 73), "low_price"),
    **dict.fromkeys((9, 75), "close_price"),
    **dict.fromkeys((14, 76), "open_price"),
}
_SIZES = {
    **dict.fromkeys((0, 69), "bid_size"),
    **dict.fromkeys((3, 70), "ask_size"),
    **dict.fromkeys((5, 71), "last_size"),
    **dict.fromkeys((8, 74), "volume"),
}
_SIZE_OF_PRICE = {"bid_price": "bid_size", "ask_price": "ask_size", "last_price": "last_size"}
_LAST_TIMESTAMPS = frozenset({45, 88})
_HALTED = frozenset({49, 90})
_MODEL_GREEKS = frozenset({13, 83})

COMPETING_SESSION = 10197

# A quote of these types is whole with these fields; others wait for bid, ask and last.
_NATURAL_FIELDS = {
    SecurityType.IND: ("last_price",),
    SecurityType.CASH: ("bid_price", "ask_price"),
    SecurityType.OPT: ("bid_price", "ask_price"),
    SecurityType.FOP: ("bid_price", "ask_price"),
}


class LineListener(Protocol):
    """Hears one line; called once per socket read, on the event loop, and must not block."""

    def quote(self, quote: Quote) -> None: ...
    def gap(self, reason: str, start_time: datetime) -> None: ...
    def resumed(self, gap_start_time: datetime) -> None: ...
    def stale(self, since_time: datetime, reason: str) -> None: ...
    def data_type(self, market_data_type: MarketDataType) -> None: ...
    def notice(self, notice: BrokerNotice) -> None: ...
    def failed(self, error: DomainError) -> None: ...


class Line(Sink):
    """One upstream subscription: the newest quote and who listens."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.quote: Quote | None = None
        self.listeners: dict[LineListener, None] = {}
        self.subscriber_count = 0
        self.request_id = 0
        self.connection: Connection | None = None
        self.gap_start_time: datetime | None = None
        self.failure: DomainError | None = None
        self.arrived = asyncio.Event()
        self._values: dict[str, Any] = {}
        self._type: MarketDataType | None = None
        self._dirty = False

    # --- what TWS sends ------------------------------------------------------------------------------------------

    def tick_price(self, tick_type: int, price: float, size: float) -> None:
        name = _PRICES.get(tick_type)
        if name is None:
            return
        # -1 without a size is TWS's word for "no quote"; with one it is a price, as spreads and oil have shown.
        absent = price == -1 and size == 0
        self._set(name, None if absent else number(price))
        if size_name := _SIZE_OF_PRICE.get(name):
            self._set(size_name, None if absent else _size(size))

    def tick_size(self, tick_type: int, size: float) -> None:
        if (name := _SIZES.get(tick_type)) is not None:
            self._set(name, _size(size) if name != "volume" else number(size))

    def tick_string(self, tick_type: int, value: str) -> None:
        if tick_type in _LAST_TIMESTAMPS and value.isdigit():
            self._set("exchange_time", datetime.fromtimestamp(int(value), UTC))

    def tick_generic(self, tick_type: int, value: float) -> None:
        if tick_type in _HALTED:
            # -1: not known, 0: trading, 1 and 2: halted.
            self._set("halted", None if value < 0 else value > 0)

    def option_computation(self, tick_type: int, values: OptionComputation) -> None:
        if tick_type in _MODEL_GREEKS:
            self._set("greeks", _greeks(values))

    def data_type(self, market_data_type: int) -> None:
        changed = MarketDataType(market_data_type)
        if self._type is not None and changed is not self._type:
            self._tell("data_type", changed)
        self._type = changed
        self._dirty = True

    def error_code(self, code: int, text: str) -> DomainError | None:
        """What a message about this line means for it: an error that ends it, or None."""
        if code == COMPETING_SESSION:
            self._tell("stale", self._last_time(), Reason.COMPETING_SESSION)
        elif is_notice(code):
            self._tell("notice", BrokerNotice(code, text))
        else:
            return request_error(code, text, self.instrument.label(), "reqMktData")
        return None

    def error(self, code: int, text: str) -> None:
        if (ended := self.error_code(code, text)) is not None:
            self.failure = ended
            self.arrived.set()
            self._tell("failed", ended)

    def batch_end(self) -> None:
        """One read is in: publish what it changed, once."""
        if not self._dirty or self.connection is None:
            return
        self._dirty = False
        self.quote = Quote(
            instrument=self.instrument,
            receive_time=self.connection.callbacks.received_time,
            market_data_type=self._type,
            **self._values,
        )
        if self.gap_start_time is not None and self.quote.has_price:
            started, self.gap_start_time = self.gap_start_time, None
            self._tell("resumed", started)
        self._tell("quote", self.quote)
        self.arrived.set()

    # --- what happens to it --------------------------------------------------------------------------------------

    @property
    def is_fresh(self) -> bool:
        """True when its quote is of this connection and not old."""
        return self.quote is not None and self.gap_start_time is None and not self.quote.is_stale

    def is_whole(self) -> bool:
        """True when its quote has all that its type usually has."""
        kind = self.instrument.security_type
        wanted = _NATURAL_FIELDS.get(kind, ("bid_price", "ask_price", "last_price")) if kind else ("last_price",)
        return self.quote is not None and all(getattr(self.quote, name) is not None for name in wanted)

    def lose(self, reason: str) -> None:
        """Its feed is gone; what it holds is history."""
        if self.gap_start_time is None:
            self.gap_start_time = datetime.now(UTC)
            self._tell("gap", reason, self.gap_start_time)

    def restart(self) -> None:
        """A new subscription: nothing of the old values may show."""
        self._values = {}
        self._dirty = False
        self.arrived.clear()

    def age(self, now: datetime, stale_after_s: float) -> None:
        """Mark the quote stale once nothing has come for so long."""
        quote = self.quote
        if quote is None or quote.is_stale or self.gap_start_time is not None:
            return
        if (now - quote.receive_time).total_seconds() > stale_after_s:
            self.quote = replace(quote, is_stale=True)
            self._tell("stale", quote.receive_time, "NO_TICKS")

    def _set(self, name: str, value: object) -> None:
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value
        self._dirty = True

    def _last_time(self) -> datetime:
        return self.quote.receive_time if self.quote else datetime.now(UTC)

    def _tell(self, what: str, *values: object) -> None:
        for listener in list(self.listeners):
            try:
                getattr(listener, what)(*values)
            except Exception:
                # One reader's fault must not keep the others from hearing.
                log.exception("a reader of market data failed")


def _size(size: float) -> float | None:
    """TWS sends 0 for "no size"."""
    found = number(size)
    return found if found is not None and found > 0 else None


def _greeks(values: OptionComputation) -> Greeks:
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
