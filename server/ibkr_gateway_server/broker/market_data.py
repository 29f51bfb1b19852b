"""Market data: one upstream line per contract, however many read it.

Whoever wants a line is counted at once; `run` alone sends, so that no reader's impatience can harm another's line.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.broker.notices import request_error
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError, MarketDataLines, RateLimited
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.usage import Usage

log = logging.getLogger(__name__)

# Source: TWS API, message codes: restored with market data lost, or kept.
DATA_LOST, DATA_KEPT = 1101, 1102
# How often old quotes are looked for.
TIMER_S = 1.0
# A line that stays silent after being asked for again is asked for once more after this long.
RETRY_S = 60.0


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
        self._connection: Connection | None = None
        self._lines: dict[int, Line] = {}
        # Work for `run`: lines to ask for, and requests to end.
        self._wanted: dict[Line, None] = {}
        self._ended: list[tuple[Connection, int]] = []
        self._work = asyncio.Event()
        session.on_sync(self._restore)
        session.on_lost(self._lost)
        session.on_notice(self._noticed)

    async def snapshot(self, instrument: Instrument, timeout_s: float) -> Quote:
        """One quote: from a line that flows, at no cost, else from a new one as soon as it is whole.

        A streaming line is used rather than IBKR's snapshot request: that takes up to 11 s to end, needs a line as
        well, and teaches nothing to the next caller, whereas this line lingers and answers him at once. At the timeout
        the answer is what has come; where the line is old, it is asked for again and answers with all it has.
        Raises the errors of `acquire`, MarketDataNotSubscribed, CompetingSession, BrokerTimeout when no price comes.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        self._session.linked()
        try:
            async with asyncio.timeout_at(deadline):
                line = await self.acquire(instrument)
        except TimeoutError:
            raise BrokerTimeout(f"a quote of {instrument.label()}", timeout_s) from None
        try:
            self._freshen(line)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._settled(line)
            if (ended := line.failure or line.interruption) is not None:
                raise ended
            if line.quote is None or not line.quote.has_price or line.gap is not None:
                raise BrokerTimeout(f"a quote of {line.instrument.label()}", timeout_s)
            return replace(line.quote, is_snapshot=True)
        finally:
            self.release(line)

    async def acquire(self, instrument: Instrument) -> Line:
        """The line of a contract, made when it has none. Give it back by `release`.

        Raises ContractNotFound, ContractAmbiguous, MarketDataLines, BrokerDisconnected, BrokerLinkDown.
        """
        resolved = await self._contracts.resolve(instrument)
        line = self._lines.get(resolved.con_id)
        if line is None:
            self._session.linked()
            if len(self._lines) >= self.settings.line_limit and not self._free_a_lingering_line():
                raise MarketDataLines(len(self._lines), self.settings.line_limit)
            line = self._lines[resolved.con_id] = Line(resolved, self)
            self._want(line)
        if line.linger is not None:
            line.linger.cancel()
            line.linger = None
        line.subscriber_count += 1
        return line

    def release(self, line: Line) -> None:
        """Give a line back; after the last reader it lingers, then ends."""
        line.subscriber_count -= 1
        if line.subscriber_count == 0 and self._is_kept(line):
            line.linger = asyncio.get_running_loop().call_later(self.settings.linger_s, self._drop, line)

    def usage(self) -> tuple[LineUsage, ...]:
        """Every line in use."""
        return tuple(
            LineUsage(line.instrument, line.subscriber_count, line.quote.receive_time if line.quote else None)
            for line in self._lines.values()
        )

    def line_usage(self) -> Usage:
        """Lines in use, and how many there may be."""
        return Usage("market_data_lines", len(self.usage()), self.settings.line_limit)

    async def run(self) -> None:
        """Ask for lines, end unused ones and mark old quotes, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIMER_S):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._send()
            except RateLimited:
                # Orders and cancels have taken all the room; what is left is sent at the next turn.
                log.info("market-data requests wait for room", extra={"waiting": len(self._wanted) + len(self._ended)})
            except (DomainError, ConnectionError):
                # The connection has gone meanwhile; its successor's sync wants every line again.
                log.info("market-data requests wait for the session")
            self._look_at_lines()

    def refused(self, line: Line, code: int, text: str) -> DomainError:
        """IBKR has ended this line: nothing is left to cancel, and whoever wants it next asks anew."""
        self._drop(line, is_live=False)
        error = request_error(code, text, line.instrument.label(), "reqMktData")
        if isinstance(error, MarketDataLines):
            # IBKR counts the lines of every program of the login and does not say how many; these are those it granted.
            return MarketDataLines(len(self._lines), len(self._lines))
        return error

    # --- sending -------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Ends first, since they make room for what begins; then the lines with most readers."""
        while True:
            if self._ended:
                await self._end(*self._ended[0])
                del self._ended[0]
            elif self._wanted and self._can_send():
                await self._request(max(self._wanted, key=lambda line: line.subscriber_count))
            else:
                return

    async def _end(self, connection: Connection, request_id: int) -> None:
        if connection.is_open:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
        if connection.is_open:
            connection.client.cancelMktData(request_id)

    async def _request(self, line: Line) -> None:
        timeout_s = self._session.timings.request_timeout_s
        if line.connection is not None:
            await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        connection = self._connection
        if line not in self._wanted or connection is None or not connection.is_open:
            return
        if line.connection is connection:
            connection.client.cancelMktData(line.request_id)
        request_id = line.attach(connection, datetime.now(UTC))
        line.retry_at = asyncio.get_running_loop().time() + RETRY_S if line.gap is not None else None
        del self._wanted[line]
        connection.client.reqMktData(request_id, to_contract(line.instrument), "", False, False, [])

    def _can_send(self) -> bool:
        is_down = self._session.status.state is SessionState.LINK_DOWN
        return self._connection is not None and self._connection.is_open and not is_down

    def _want(self, line: Line) -> None:
        self._wanted[line] = None
        self._work.set()

    def _freshen(self, line: Line) -> None:
        """Ask again for a line whose quote is old: a quiet market answers at once, with a quote of now."""
        if line.interruption is not None or (line.quote is not None and not line.is_fresh and not line.is_asked):
            line.interruption = None
            self._want(line)

    # --- keeping lines -------------------------------------------------------------------------------------------

    async def _settled(self, line: Line) -> None:
        """Returns when the quote is whole or has had time to become so, or when the line has ended.

        Raises BrokerDisconnected, BrokerLinkDown when the feed is lost meanwhile.
        """
        loop = asyncio.get_running_loop()
        while line.failure is None and line.interruption is None and not line.is_whole:
            until = None
            if line.is_fresh and line.first_price_at is not None:
                until = line.first_price_at + self.settings.settle_s
                if loop.time() >= until:
                    return
            self._session.linked()
            line.arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await line.arrived.wait()

    async def _restore(self, connection: Connection) -> None:
        """A new connection has no lines: every one that has readers is wanted again."""
        if self.settings.market_data_type is not MarketDataType.LIVE:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
            if not connection.is_open:
                raise connection.disconnected()
            connection.client.reqMarketDataType(int(self.settings.market_data_type))
        self._connection = connection
        self._want_all()

    def _want_all(self) -> None:
        """Ask for every line again, with no old value left; those that only linger are let go."""
        for line in list(self._lines.values()):
            line.detach()
            if line.subscriber_count:
                self._want(line)
            else:
                self._drop(line)

    def _lost(self, reason: str) -> None:
        now = datetime.now(UTC)
        for line in self._lines.values():
            line.lose(reason, now)

    def _noticed(self, code: int, _text: str) -> None:
        if code == DATA_LOST:
            self._want_all()
        elif code == DATA_KEPT:
            # Kept, says IBKR; a line that then stays silent is asked for again.
            silent_at = asyncio.get_running_loop().time() + self.settings.stale_after_s
            for line in self._lines.values():
                line.retry_at = silent_at if line.gap is not None else None
            self._work.set()

    def _look_at_lines(self) -> None:
        now, clock = datetime.now(UTC), asyncio.get_running_loop().time()
        for line in self._lines.values():
            line.age(now, self.settings.stale_after_s)
            if line.interruption is not None and line.retry_at is None:
                line.retry_at = clock + RETRY_S
            elif line.retry_at is not None and clock >= line.retry_at:
                line.retry_at = None
                self._want(line)

    def _free_a_lingering_line(self) -> bool:
        lingering = next((line for line in self._lines.values() if line.subscriber_count == 0), None)
        if lingering is not None:
            self._drop(lingering)
        return lingering is not None

    def _drop(self, line: Line, *, is_live: bool = True) -> None:
        """Keep the line no longer; `is_live`: TWS still sends it and is told to stop."""
        if not self._is_kept(line):
            return
        del self._lines[line.instrument.con_id]
        self._wanted.pop(line, None)
        if line.linger is not None:
            line.linger.cancel()
        if is_live and line.connection is not None:
            self._ended.append((line.connection, line.request_id))
            self._work.set()
        line.detach()

    def _is_kept(self, line: Line) -> bool:
        return self._lines.get(line.instrument.con_id) is line
