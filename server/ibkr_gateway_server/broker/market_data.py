"""Market data: one upstream line per contract, however many read it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError, MarketDataLines
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote

# IBKR's link is restored, but its subscriptions are not.
DATA_LOST = 1101


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


@dataclass(frozen=True, slots=True)
class LineUsage:
    """One line in use."""

    instrument: Instrument
    subscriber_count: int
    last_tick_time: datetime | None


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
