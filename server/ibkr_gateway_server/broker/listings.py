"""What is listed: symbols by how they begin, options by their underlying."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from ibkr_gateway_server.broker.answers import DayAnswers
from ibkr_gateway_server.broker.contracts import Contracts, from_contract, iso_date
from ibkr_gateway_server.broker.numbers import decimal
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import RateLimited
from ibkr_gateway_server.domain.instruments import Instrument, OptionChain, SecurityType, SymbolMatch

# Source: TWS API, reqMatchingSymbols: at least one second between two calls.
SEARCH_INTERVAL_S = 1.0


class Listings:
    """Searches for symbols and reads option chains. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        session: Session,
        contracts: Contracts,
        pacer: Pacer,
        clock: Callable[[], float],
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self._session = session
        self._contracts = contracts
        self._pacer = pacer
        self._clock = clock
        self._next_search_at = clock()
        self._matches: DayAnswers[str, tuple[SymbolMatch, ...]] = DayAnswers(today)
        self._chains: DayAnswers[tuple[int, str], tuple[OptionChain, ...]] = DayAnswers(today)

    async def search(self, pattern: str) -> tuple[SymbolMatch, ...]:
        """Contracts whose symbol or name begins so, best first as IBKR orders them; none is an answer.

        Raises RateLimited when too many searches wait for their second, BrokerTimeout, BrokerDisconnected,
        BrokerLinkDown. Source: TWS API, reqMatchingSymbols.
        """
        # IBKR does not tell small letters from capitals.
        return await self._matches.get(pattern.casefold(), lambda: self._search(pattern))

    async def option_chain(self, underlying: Instrument, exchange: str = "") -> tuple[OptionChain, ...]:
        """The options on an underlying by exchange and trading class; none is an answer.

        Raises what `Contracts.resolve` raises. Source: TWS API, reqSecDefOptParams.
        """
        named = await self._contracts.resolve(underlying)
        # Options on a future are asked for at an exchange; those on all else everywhere.
        where = (exchange or named.exchange) if named.security_type is SecurityType.FUT else ""
        chains = await self._chains.get((named.con_id, where), lambda: self._chain(named, where))
        return tuple(chain for chain in chains if exchange in ("", chain.exchange))

    # --- asking --------------------------------------------------------------------------------------------------

    async def _search(self, pattern: str) -> tuple[SymbolMatch, ...]:
        connection = self._session.linked()
        timeout_s = self._session.timings.request_timeout_s
        await self._turn(timeout_s)
        await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        rows = await connection.ask(
            "reqMatchingSymbols",
            lambda request_id: connection.client.reqMatchingSymbols(request_id, pattern),
            timeout_s=timeout_s,
            about=pattern,
        )
        return tuple(_match(row) for row in rows)

    async def _chain(self, underlying: Instrument, exchange: str) -> tuple[OptionChain, ...]:
        connection = self._session.linked()
        timeout_s = self._session.timings.request_timeout_s
        await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        rows = await connection.ask(
            "reqSecDefOptParams",
            lambda request_id: connection.client.reqSecDefOptParams(
                request_id, underlying.symbol, exchange, str(underlying.security_type or ""), underlying.con_id
            ),
            timeout_s=timeout_s,
            about=underlying.label(),
        )
        return _chains(rows)

    async def _turn(self, timeout_s: float) -> None:
        """Wait for a second of one's own, in order. Raises RateLimited."""
        now = self._clock()
        at = max(now, self._next_search_at)
        if at - now > timeout_s:
            raise RateLimited(retry_after_s=round(at - now, 3))
        self._next_search_at = at + SEARCH_INTERVAL_S
        await asyncio.sleep(at - now)


def _match(row: Any) -> SymbolMatch:
    contract = row.contract
    # An issuer of bonds is found as well, as a contract without a number (-1).
    contract.conId = max(contract.conId, 0)
    kinds = (kind for kind in row.derivativeSecTypes if kind in SecurityType.__members__)
    return SymbolMatch(from_contract(contract), contract.description, tuple(SecurityType(kind) for kind in kinds))


def _chains(rows: list[tuple[str, str, str, str, list[str], list[float]]]) -> tuple[OptionChain, ...]:
    """Rows of one exchange, trading class and multiplier are one chain, however often they come."""
    listed: dict[tuple[str, str, str], tuple[set[str], set[Decimal]]] = {}
    for exchange, _underlying, trading_class, multiplier, expiries, strikes in rows:
        days, prices = listed.setdefault((exchange, trading_class, multiplier), (set(), set()))
        days.update(day for day in map(iso_date, expiries) if day)
        prices.update(price for price in map(decimal, strikes) if price is not None)
    return tuple(
        OptionChain(exchange, trading_class, decimal(multiplier) or None, tuple(sorted(days)), tuple(sorted(prices)))
        for (exchange, trading_class, multiplier), (days, prices) in sorted(listed.items())
    )
