"""Appraisal: what an order is, is worth and would cost, before anything of it is recorded or sent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.domain.errors import DomainError, Reason, Violations
from ibkr_gateway_server.domain.instruments import ContractDetails, PriceLadder, SecurityType
from ibkr_gateway_server.domain.order_terms import PRICE_FIELDS
from ibkr_gateway_server.domain.orders import (
    Blocker,
    Leg,
    LegTerms,
    MarginSource,
    OrderSpec,
    OrderType,
    Preview,
    Side,
    WhatIf,
)
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.trading.guard import Guard
from ibkr_gateway_server.trading.plan import legs_of

log = logging.getLogger(__name__)

# IBKR takes fractions of currencies and coins; of anything else it refuses them over this API (code 10243), even
# where a contract's details name a smaller increment.
FRACTIONAL_TYPES = frozenset({SecurityType.CASH, SecurityType.CRYPTO})


class Appraiser:
    """Asks the broker what an order's terms mean. Nothing it does can place one."""

    def __init__(
        self,
        guard: Guard,
        contracts: Contracts,
        accounts: Accounts,
        market_data: MarketData,
        quote_timeout_s: float,
    ) -> None:
        self._guard = guard
        self._contracts = contracts
        self._accounts = accounts
        self._market_data = market_data
        self._quote_timeout_s = quote_timeout_s

    async def resolve(self, spec: OrderSpec) -> OrderSpec:
        """The spec with its contract and account in full, its terms checked against the contract's rules.

        Raises FieldsInvalid, ContractNotFound, ContractAmbiguous, AccountRequired, AccountNotFound, Unavailable.
        """
        instrument = await self._contracts.resolve(spec.instrument)
        details = await self._contracts.detail(instrument)
        resolved = replace(spec, instrument=instrument, account_id=self._accounts.account_id(spec.account_id))
        check_terms(resolved, details, await self._contracts.ladder(instrument))
        return resolved

    async def check_limits(self, spec: OrderSpec) -> None:
        """Hold a resolved order against the operator's limits, each leg of it. Raises AccountMismatch, MaxSize,
        MaxNotional, NoReferencePrice."""
        self._guard.check_account(spec.account_id)
        self._guard.check_size(spec)
        if self._guard.rules.max_notional is not None:
            plan = legs_of(spec, "")
            needs_quote = any(own_price(terms) is None for terms in plan)
            quote = await self._quote(spec) if needs_quote else None
            for terms in plan:
                self._guard.check_notional(spec, _valued(spec, terms, quote).estimated_notional)

    async def preview(
        self, spec: OrderSpec, ask_what_if: Callable[[OrderSpec, LegTerms], Awaitable[WhatIf]]
    ) -> Preview:
        """What a resolved order would do: by IBKR's what-if of its entry where orders may be sent, else by estimate."""
        quote = await self._quote(spec)
        legs = tuple(_valued(spec, terms, quote) for terms in legs_of(spec, ""))
        what_if, warnings = await self._what_if(spec, legs[0].terms, ask_what_if)
        warnings += _remarks(spec, legs, has_figures=what_if is not None)
        return Preview(
            instrument=spec.instrument,
            legs=legs,
            margin_source=MarginSource.BROKER_WHATIF if what_if else MarginSource.ESTIMATE,
            what_if=what_if,
            notional=legs[0].estimated_notional,
            quote=quote,
            warnings=tuple(warnings),
            blockers=self._blockers(spec, legs),
        )

    async def _what_if(
        self, spec: OrderSpec, entry: LegTerms, ask_what_if: Callable[[OrderSpec, LegTerms], Awaitable[WhatIf]]
    ) -> tuple[WhatIf | None, list[str]]:
        """IBKR's figures, or why there are none."""
        if not self._guard.status((spec.account_id,)).can_send_orders:
            # IBKR computes a what-if from an order message, and none leaves the gateway while orders may not.
            return None, ["commission and margin are not known: orders cannot be sent now, so IBKR was not asked"]
        try:
            what_if = await ask_what_if(spec, entry)
            # IBKR states margins in the account's base currency and does not name it.
            what_if = replace(what_if, currency=(await self._accounts.summary(spec.account_id)).currency)
        except DomainError as error:
            return None, [f"commission and margin are not known: IBKR gave no what-if: {error.message}"]
        return what_if, [what_if.warning] if what_if.warning else []

    def _blockers(self, spec: OrderSpec, legs: tuple[Leg, ...]) -> tuple[Blocker, ...]:
        blockers = list(self._guard.status((spec.account_id,)).blockers)
        checks: list[Callable[[], None]] = [lambda: self._guard.check_size(spec)]
        checks += [partial(self._guard.check_notional, spec, leg.estimated_notional) for leg in legs]
        for check in checks:
            try:
                check()
            except DomainError as error:
                blockers.append(Blocker(error.reason, error.message, "change the order, or have the limit changed"))
        return tuple(dict.fromkeys(blockers))

    def market(self, spec: OrderSpec) -> dict[str, Any] | None:
        """The market as it is known now, for the record; None: no line of it flows. Costs no wait and no message."""
        return snapshot_of(self._market_data.at_hand(spec.instrument))

    async def _quote(self, spec: OrderSpec) -> Quote | None:
        try:
            return await self._market_data.snapshot(spec.instrument, self._quote_timeout_s)
        except DomainError as error:
            log.info("no quote to value an order by", extra={"reason": error.reason})
            return None


def snapshot_of(quote: Quote | None) -> dict[str, Any] | None:
    """What of a quote belongs into the record of an order; prices per unit in the contract's currency."""
    if quote is None:
        return None
    return {
        "bid_price": quote.bid_price,
        "ask_price": quote.ask_price,
        "last_price": quote.last_price,
        "market_data_type": quote.market_data_type.name if quote.market_data_type is not None else "",
        "receive_time": quote.receive_time,
        "is_stale": quote.is_stale,
    }


def check_terms(spec: OrderSpec, details: ContractDetails, ladder: PriceLadder) -> None:
    """What only the contract tells: whole units, and prices on the tick. Raises FieldsInvalid with all of them."""
    found = Violations()
    fractional = spec.instrument.security_type in FRACTIONAL_TYPES
    increment = details.size_increment if fractional else max(details.size_increment, Decimal(1))
    if spec.quantity % increment:
        found.add(
            "order.quantity",
            f"{spec.quantity} is not a multiple of {increment:f}",
            Reason.QUANTITY_FRACTIONAL,
            quantity=str(spec.quantity),
            increment=f"{increment:f}",
        )
    for name in PRICE_FIELDS:
        price: Decimal | None = getattr(spec, name)
        neighbours = ladder.neighbours(price) if price is not None else None
        if price is not None and neighbours is not None:
            below, above = (f"{value:f}" for value in neighbours)
            step = f"{ladder.increment(price):f}"
            found.add(
                f"order.{name}",
                f"{price} is off the {step} tick; use {below} or {above}",
                Reason.TICK_SIZE,
                price=str(price),
                increment=step,
                below=below,
                above=above,
            )
    found.raise_if_any()


def own_price(terms: LegTerms) -> Decimal | None:
    """The price that a leg itself is valued by: its limit, else its stop. None: only the market tells.

    A trailing order's stop moves with the market, so the market values it.
    """
    return terms.limit_price if terms.limit_price is not None else terms.stop_price


def reference_price(terms: LegTerms, quote: Quote | None) -> Decimal | None:
    """The price a leg is valued by: its own, else what it would meet now. None: there is no fresh price."""
    own = own_price(terms)
    if own is not None:
        return own
    if quote is None or quote.is_stale:
        return None
    price = quote.reference_price(buying=terms.side is Side.BUY)
    return None if price is None else Decimal(repr(price))


def notional(spec: OrderSpec, price: Decimal | None) -> Decimal | None:
    """Quantity × price × multiplier, in the contract's currency."""
    return None if price is None else spec.quantity * price * (spec.instrument.multiplier or Decimal(1))


def _valued(spec: OrderSpec, terms: LegTerms, quote: Quote | None) -> Leg:
    price = reference_price(terms, quote)
    return Leg(terms, price, notional(spec, price))


def _remarks(spec: OrderSpec, legs: tuple[Leg, ...], *, has_figures: bool) -> list[str]:
    """What a caller should know of figures and legs beside IBKR's own warnings."""
    remarks = []
    if legs[0].estimated_price is None:
        remarks.append("there is no fresh quote to value the order by")
    if spec.order_type is OrderType.BRACKET:
        if has_figures:
            remarks.append("commission and margin are the entry's alone; its exits are charged when they fill")
        if not spec.bracket_transmit:
            remarks.append(
                "the bracket is staged in TWS: nothing of it works before it is transmitted there, and until then TWS "
                "says nothing of it"
            )
    return remarks
