"""Market rules: the price steps that an exchange allows, by the rule's number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date

from ibkr_gateway_server.broker.answers import DayAnswers
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.numbers import decimal
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import BrokerTimeout, FieldsInvalid, FieldViolation
from ibkr_gateway_server.domain.instruments import PriceLadder


class MarketRules:
    """Asks for market rules, each once a day."""

    def __init__(self, session: Session, pacer: Pacer, today: Callable[[], date]) -> None:
        self._session = session
        self._pacer = pacer
        self._ladders: DayAnswers[int, PriceLadder] = DayAnswers(today)
        # A refusal does not say which rule it is about, so there is never more than one to be refused.
        self._one_at_a_time = asyncio.Lock()
        self._asking: tuple[Connection, str] | None = None
        session.on_notice(self._on_notice)

    async def ladder(self, rule: int) -> PriceLadder:
        """The price steps of a rule.

        Raises FieldsInvalid for a rule that IBKR does not know, RateLimited, BrokerTimeout, BrokerDisconnected,
        BrokerLinkDown. Source: TWS API, reqMarketRule; the refusal is error 321 without a request's id.
        """
        return await self._ladders.get(rule, lambda: self._bounded(rule))

    async def _bounded(self, rule: int) -> PriceLadder:
        timeout_s = self._session.timings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise BrokerTimeout("reqMarketRule", timeout_s) from None
        try:
            return await self._ask(rule, timeout_s)
        finally:
            self._one_at_a_time.release()

    async def _ask(self, rule: int, timeout_s: float) -> PriceLadder:
        connection = self._session.linked()
        await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        key = f"marketRule:{rule}"
        self._asking = (connection, key)
        try:
            rows = await connection.ask_shared(key, lambda: connection.client.reqMarketRule(rule), timeout_s=timeout_s)
        except FieldsInvalid:
            raise _unknown(rule) from None
        finally:
            self._asking = None
        steps = [
            (edge, step)
            for row in rows
            if (edge := decimal(row.lowEdge)) is not None and (step := decimal(row.increment))
        ]
        if not steps or len(steps) < len(rows):
            raise _unknown(rule)
        return PriceLadder(tuple(sorted(steps)))

    def _on_notice(self, code: int, text: str) -> None:
        if self._asking is None or code != 321 or "market rule" not in text.lower():
            return
        connection, key = self._asking
        if (collector := connection.callbacks.collectors.get(key)) is not None:
            collector.error(code, text)


def _unknown(rule: int) -> FieldsInvalid:
    why = f"IBKR names no price steps for {rule}; ContractDetails.market_rule_ids has the rules of a contract"
    return FieldsInvalid((FieldViolation("market_rule_id", why),))
