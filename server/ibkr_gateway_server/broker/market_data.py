"""Market data: one upstream line per contract, however many read it.

TWS sends a quote in pieces: prices, sizes and strings under tick numbers, live and delayed ones under different
numbers. Here they become one frozen Quote per socket read. Sentinels end here: what TWS does not know is absent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from ibkr_gateway_server.broker.callbacks import OptionComputation, SilentSink
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.notices import is_notice, request_error
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError, MarketDataLines, Reason
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

DATA_LOST = 1101
COMPETING_SESSION = 10197

# A quote of these types is whole with these fields; others wait for bid, ask and last.
_NATURAL_FIELDS = {
    SecurityType.IND: ("last_price",),
    SecurityType.CASH: ("bid_price", "ask_price"),
    SecurityType.OPT: ("bid_price", "ask_price"),
    SecurityType.FOP: ("bid_price", "ask_price"),
}


@dataclass(frozen=True, slots=True)
class MarketDataSettings:
    """How lines are kept."""

    market_data_type: MarketDataType = MarketDataType.LIVE
    """What to ask for: LIVE, or DELAYED without subscriptions."""
    line_limit: int = 100
    """Lines the account has; 100 unless more were bought."""
    linger_s: float = 5.0
    """Seconds that a line is kept after its last reader, so that a returning one costs nothing."""
    stale_after_s: float = 15.0
    """Seconds without a tick before a quote is marked stale."""
    settle_s: float = 2.0
    """Seconds that a snapshot waits, after the first price, for the others of its kind."""


class LineListener(Protocol):
    """Hears one line; called once per socket read, on the event loop, and must not block."""

    def quote(self, quote: Quote) -> None: ...
    def gap(self, reason: str, start_time: datetime) -> None: ...
    def resumed(self, gap_start_time: datetime) -> None: ...
    def stale(self, since_time: datetime, reason: str) -> None: ...
    def data_type(self, market_data_type: MarketDataType) -> None: ...
    def notice(self, notice: BrokerNotice) -> None: ...
    def failed(self, error: DomainError) -> None: ...


@dataclass(frozen=True, slots=True)
class LineUsage:
    """One line in use."""

    instrument: Instrument
    subscriber_count: int
    last_tick_time: datetime | None


class Line(SilentSink):
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


class MarketData:
    """Every line: made for its first reader, shared by all, given back after its last."""

    def __init__(
        self, session: Session, contracts: Contracts, pacer: Pacer, settings: MarketDataSettings | None = None
    ) -> None:
        self.settings = settings or MarketDataSettings()
        self._session = session
        self._contracts = contracts
        self._pacer = pacer
        self._lines: dict[int, Line] = {}
        self._ended: list[Line] = []
        self._restore_wanted = False
        self._work = asyncio.Event()
        session.on_sync(self._restore)
        session.on_lost(self._lost)
        session.on_notice(self._noticed)

    async def snapshot(self, instrument: Instrument, timeout_s: float) -> Quote:
        """One quote: from a line that flows, at no cost, else from a new one as soon as it is whole.

        A streaming line is used rather than IBKR's snapshot request: that takes up to 11 s to end, needs a line as
        well, and teaches nothing to the next caller, whereas this line lingers and answers him at once.
        Raises the errors of `acquire`, BrokerTimeout when no price comes.
        """
        line = await self.acquire(instrument)
        try:
            if not line.is_fresh:
                # A line that others hold survives a loss; a caller who wants an answer now is told why there is none.
                self._session.linked()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._filled(line)
            if line.failure is not None:
                raise line.failure
            if line.quote is None or not line.quote.has_price or line.gap_start_time is not None:
                raise BrokerTimeout(f"a quote of {line.instrument.label()}", timeout_s)
            return replace(line.quote, is_snapshot=True)
        finally:
            self.release(line)

    async def acquire(self, instrument: Instrument) -> Line:
        """The line of a contract, made when it has none. Give it back by `release`.

        Raises ContractNotFound, ContractAmbiguous, MarketDataLines, RateLimited, BrokerDisconnected, BrokerLinkDown.
        """
        resolved = await self._contracts.resolve(instrument)
        line = self._lines.get(resolved.con_id)
        if line is not None and line.failure is None:
            line.subscriber_count += 1
            return line
        connection = self._session.linked()
        if len(self._lines) >= self.settings.line_limit and not self._free_a_lingering_line():
            raise MarketDataLines(len(self._lines), self.settings.line_limit)
        line = self._lines[resolved.con_id] = Line(resolved)
        line.subscriber_count = 1
        try:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
            # The session may have come back meanwhile and restored this line with the others.
            if line.connection is None:
                self._request(self._session.linked() if not connection.is_open else connection, line)
        except BaseException:
            line.failure = line.failure or BrokerTimeout("a market-data line", 0.0)
            self.release(line)
            raise
        return line

    def release(self, line: Line) -> None:
        """Give a line back; after the last reader it lingers, then ends."""
        line.subscriber_count -= 1
        if line.subscriber_count == 0:
            linger_s = 0.0 if line.failure is not None else self.settings.linger_s
            asyncio.get_running_loop().call_later(linger_s, self._end_if_unused, line)

    def usage(self) -> tuple[LineUsage, ...]:
        """Every line in use."""
        return tuple(
            LineUsage(line.instrument, line.subscriber_count, line.quote.receive_time if line.quote else None)
            for line in self._lines.values()
        )

    async def run(self) -> None:
        """End unused lines, restore lost ones and mark old quotes, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._work.wait()
            self._work.clear()
            while self._ended:
                await self._cancel(self._ended.pop())
            if self._restore_wanted:
                self._restore_wanted = False
                with suppress(DomainError):
                    await self._restore(self._session.linked())
            now = datetime.now(UTC)
            for line in self._lines.values():
                line.age(now, self.settings.stale_after_s)

    # --- keeping lines -------------------------------------------------------------------------------------------

    async def _filled(self, line: Line) -> None:
        """Returns when the quote is whole, failed, or has had time to become so after its first price."""
        while not (line.failure or (line.is_fresh and line.quote and line.quote.has_price)):
            line.arrived.clear()
            await line.arrived.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.settle_s):
                while not (line.failure or line.is_whole()):
                    line.arrived.clear()
                    await line.arrived.wait()

    def _request(self, connection: Connection, line: Line) -> None:
        if line.connection is not None:
            line.connection.unlisten(line.request_id)
        line.restart()
        line.connection, line.request_id = connection, connection.request_id()
        connection.listen(line.request_id, line)
        contract = to_contract(line.instrument)
        try:
            connection.client.reqMktData(line.request_id, contract, "", False, False, [])
        except ConnectionError:
            raise connection.disconnected() from None

    async def _restore(self, connection: Connection) -> None:
        """Ask for every line again, those with most readers first."""
        if self.settings.market_data_type is not MarketDataType.LIVE:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
            connection.client.reqMarketDataType(int(self.settings.market_data_type))
        for line in sorted(self._lines.values(), key=lambda line: -line.subscriber_count):
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
            if line.subscriber_count and line.failure is None:
                self._request(connection, line)

    def _lost(self, reason: str) -> None:
        for line in self._lines.values():
            line.lose(reason)

    def _noticed(self, code: int, _text: str) -> None:
        if code == DATA_LOST:
            self._restore_wanted = True
            self._work.set()

    def _free_a_lingering_line(self) -> bool:
        lingering = next((line for line in self._lines.values() if line.subscriber_count == 0), None)
        if lingering is not None:
            self._end_if_unused(lingering)
        return lingering is not None

    def _end_if_unused(self, line: Line) -> None:
        if line.subscriber_count == 0 and self._lines.get(line.instrument.con_id) is line:
            del self._lines[line.instrument.con_id]
            if line.connection is not None:
                line.connection.unlisten(line.request_id)
                self._ended.append(line)
                self._work.set()

    async def _cancel(self, line: Line) -> None:
        connection = line.connection
        # A refused line has nothing to cancel: TWS would answer that it does not know it.
        if connection is None or line.failure is not None or not connection.is_open:
            return
        with suppress(DomainError, ConnectionError):
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
            connection.client.cancelMktData(line.request_id)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())


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
