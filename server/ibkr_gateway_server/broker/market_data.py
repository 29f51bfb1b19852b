"""Market data: one upstream line per contract, however many read it.

IBKR gives live data to one login at a time (10197). A line whose data goes to another is asked for as delayed until
one of those, tried again each minute, gets a live price: then all are asked for as live. The kind of data is the
connection's, not the request's, so three messages leave at once, with nothing between them that could be asked for
under the wrong kind: "delayed", the request, and the kind that all other requests have.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.keeping import BY_COMPETITION, BY_SILENCE, RETRY_S, Keeper, MarketDataSettings
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError, MarketDataLines
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.tallies import BROKER_TIMEOUTS, LINES
from ibkr_gateway_server.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class LineUsage:
    """One line in use."""

    instrument: Instrument
    subscriber_count: int
    last_tick_time: datetime | None


class MarketData(Keeper[int, Line]):
    """Every line: made for its first reader, shared by all, given back after its last."""

    requests = "market-data"

    def __init__(
        self, session: Session, contracts: Contracts, pacer: Pacer, settings: MarketDataSettings | None = None
    ) -> None:
        super().__init__(session, contracts, pacer, settings)
        # When, on the loop's clock, one of those that were outbid is tried again.
        self._try_live_at: float | None = None
        session.tallies.watch(LINES, lambda: len(self._kept))

    async def snapshot(self, instrument: Instrument, timeout_s: float) -> Quote:
        """One quote: from a line that flows, at no cost, else from a new one as soon as it is whole.

        A streaming line is used rather than IBKR's snapshot request: that takes up to 11 s to end, needs a line as
        well, and teaches nothing to the next caller, whereas this line lingers and answers him at once. At the timeout
        the answer is what has come; where the line is old, it is asked for again and answers with all it has.
        Raises the errors of `acquire`, MarketDataNotSubscribed, CompetingSession, BrokerTimeout when no price comes.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        self._session.linked()
        if (quote := self.at_hand(instrument)) is not None:
            return quote
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
                self.tallies.add(BROKER_TIMEOUTS, "reqMktData")
                raise BrokerTimeout(f"a quote of {line.instrument.label()}", timeout_s)
            return line.quote
        finally:
            self.release(line)

    def at_hand(self, instrument: Instrument) -> Quote | None:
        """The quote of a line that flows and has all that it usually has; its time to linger begins anew."""
        known = self._contracts.known(instrument)
        line = self._kept.get(known.con_id) if known is not None else None
        if line is None or line.interruption is not None or not line.is_whole:
            return None
        self._count_reader(line)
        self.release(line)
        return line.quote

    async def acquire(self, instrument: Instrument) -> Line:
        """The line of a contract, made when it has none. Give it back by `release`.

        Raises ContractNotFound, ContractAmbiguous, MarketDataLines, BrokerDisconnected, BrokerLinkDown.
        """
        details = await self._contracts.detail(instrument)
        resolved = details.instrument
        line = self._kept.get(resolved.con_id)
        if line is None:
            self._session.linked()
            if len(self._kept) >= self.settings.line_limit and not self._free_a_lingering_line():
                raise MarketDataLines(len(self._kept), self.settings.line_limit)
            line = Line(resolved, self)
            self._keep(line)
        line.details = details
        self._count_reader(line)
        return line

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every line that is kept."""
        return tuple(self._kept.values())

    def usage(self) -> tuple[LineUsage, ...]:
        """Every line in use."""
        return tuple(
            LineUsage(line.instrument, line.subscriber_count, line.quote.receive_time if line.quote else None)
            for line in self._kept.values()
        )

    def line_usage(self) -> Usage:
        """Lines in use, and how many there may be."""
        return Usage("market_data_lines", len(self._kept), self.settings.line_limit)

    def refused(self, line: Line, code: int, text: str) -> DomainError:
        """IBKR has ended this line; returns what its readers fail with."""
        return self._refusal(line, code, text, "reqMktData")

    def outbid(self, line: Line) -> bool:
        """Its live data goes to another login; returns whether it is asked for otherwise."""
        if line.is_fallback:
            # Another notice of the same burst, as long as it has not been asked for as delayed.
            return line in self._wanted
        asks_for_live = self.settings.market_data_type is MarketDataType.LIVE
        if not (self.settings.fall_back_to_delayed and asks_for_live and self._is_kept(line)):
            return False
        line.is_fallback = True
        self._want(line, BY_COMPETITION)
        return True

    def regained(self, line: Line) -> None:
        """Live data is back, of one line and so of all."""
        self._try_live_at = None
        for other in self._kept.values():
            if other.is_outbid and other is not line:
                self._want_live(other)

    def _want_live(self, line: Line) -> None:
        line.is_fallback = False
        self._want(line, BY_COMPETITION)

    def _freshen(self, line: Line) -> None:
        """Ask again for a line whose quote is old: a quiet market answers at once, with a quote of now."""
        if line.interruption is not None or (line.quote is not None and not line.is_fresh and not line.is_asked):
            line.interruption = None
            self._want(line, BY_COMPETITION if line.is_outbid else BY_SILENCE)

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

    def _key(self, kept: Line) -> int:
        return kept.instrument.con_id

    def _cost(self, kept: Line) -> int:
        return super()._cost(kept) + (2 if kept.is_fallback else 0)

    def _ask(self, kept: Line, connection: Connection) -> None:
        request_id = kept.attach(connection, self._session.now())
        if kept.is_fallback:
            connection.client.reqMarketDataType(int(MarketDataType.DELAYED))
        connection.client.reqMktData(request_id, to_contract(kept.instrument), "", False, False, [])
        if kept.is_fallback:
            connection.client.reqMarketDataType(int(self.settings.market_data_type))

    def _cancel(self, connection: Connection, request_id: int) -> None:
        connection.client.cancelMktData(request_id)

    async def _restore(self, connection: Connection) -> None:
        """A new connection has no lines: every one that has readers is wanted again."""
        if self.settings.market_data_type is not MarketDataType.LIVE:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
            if not connection.is_open:
                raise connection.disconnected()
            connection.client.reqMarketDataType(int(self.settings.market_data_type))
        await super()._restore(connection)

    def _look_at_kept(self, clock: float) -> None:
        super()._look_at_kept(clock)
        outbid = [line for line in self._kept.values() if line.is_outbid]
        if not outbid:
            self._try_live_at = None
        elif self._try_live_at is None:
            self._try_live_at = clock + RETRY_S
        elif clock >= self._try_live_at and self._can_send():
            self._try_live_at = clock + RETRY_S
            self._want_live(max(outbid, key=lambda line: line.subscriber_count))

    def _free_a_lingering_line(self) -> bool:
        lingering = next((line for line in self._kept.values() if line.subscriber_count == 0), None)
        if lingering is not None:
            self._drop(lingering)
        return lingering is not None
