"""Appraisal: what an order is, is worth and would cost, before anything of it is recorded or sent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal

from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.domain.errors import DomainError, Reason, Violations
from ibkr_gateway_server.domain.instruments import ContractDetails, PriceLadder, SecurityType
from ibkr_gateway_server.domain.orders import (
    Blocker,
    Leg,
    LegRole,
    LegTerms,
    MarginSource,
    OrderSpec,
    Preview,
    Side,
    WhatIf,
)
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.trading.guard import Guard

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
        """Hold a resolved order against the operator's limits. Raises AccountMismatch, MaxSize, MaxNotional,
        NoReferencePrice."""
        self._guard.check_account(spec.account_id)
        self._guard.check_size(spec)
        if self._guard.rules.max_notional is not None:
            quote = None if spec.limit_price is not None else await self._quote(spec)
            self._guard.check_notional(spec, notional(spec, reference_price(spec, quote)))

    async def preview(
        self, spec: OrderSpec, ask_what_if: Callable[[OrderSpec, LegTerms], Awaitable[WhatIf]]
    ) -> Preview:
        """What a resolved order would do: by IBKR's what-if where orders may be sent, else by estimate."""
        quote = await self._quote(spec)
        price = reference_price(spec, quote)
        value = notional(spec, price)
        blockers = self._blockers(spec, value)
        warnings: list[str] = []
        what_if = None
        if self._guard.status((spec.account_id,)).can_send_orders:
            try:
                what_if = await ask_what_if(spec, _entry_leg(spec, price, value).terms)
                # IBKR states margins in the account's base currency and does not name it.
                what_if = replace(what_if, currency=(await self._accounts.summary(spec.account_id)).currency)
                warnings += [what_if.warning] if what_if.warning else []
            except DomainError as error:
                what_if = None
                warnings.append(f"commission and margin are not known: IBKR gave no what-if: {error.message}")
        else:
            # IBKR computes a what-if from an order message, and none leaves the gateway while orders may not.
            warnings.append("commission and margin are not known: orders cannot be sent now, so IBKR was not asked")
        if price is None:
            warnings.append("there is no fresh quote to value the order by")
        return Preview(
            instrument=spec.instrument,
            legs=(_entry_leg(spec, price, value),),
            margin_source=MarginSource.BROKER_WHATIF if what_if else MarginSource.ESTIMATE,
            what_if=what_if,
            notional=value,
            quote=quote,
            warnings=tuple(warnings),
            blockers=blockers,
        )

    def _blockers(self, spec: OrderSpec, value: Decimal | None) -> tuple[Blocker, ...]:
        blockers = list(self._guard.status((spec.account_id,)).blockers)
        checks: tuple[Callable[[], None], ...] = (
            lambda: self._guard.check_size(spec),
            lambda: self._guard.check_notional(spec, value),
        )
        for check in checks:
            try:
                check()
            except DomainError as error:
                blockers.append(Blocker(error.reason, error.message, "change the order, or have the limit changed"))
        return tuple(blockers)

    async def _quote(self, spec: OrderSpec) -> Quote | None:
        try:
            return await self._market_data.snapshot(spec.instrument, self._quote_timeout_s)
        except DomainError as error:
            log.info("no quote to value an order by", extra={"reason": error.reason})
            return None


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
    for name, price in (("limit_price", spec.limit_price), ("stop_price", spec.stop_price)):
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


def reference_price(spec: OrderSpec, quote: Quote | None) -> Decimal | None:
    """The price an order is valued by: its limit, else what it would meet now. None: there is no fresh price."""
    if spec.limit_price is not None:
        return spec.limit_price
    if quote is None or quote.is_stale:
        return None
    price = quote.reference_price(buying=spec.side is Side.BUY)
    return None if price is None else Decimal(repr(price))


def notional(spec: OrderSpec, price: Decimal | None) -> Decimal | None:
    """Quantity × price × multiplier, in the contract's currency."""
    return None if price is None else spec.quantity * price * (spec.instrument.multiplier or Decimal(1))


def _entry_leg(spec: OrderSpec, price: Decimal | None, value: Decimal | None) -> Leg:
    terms = LegTerms(
        role=LegRole.ENTRY,
        order_type=spec.order_type,
        side=spec.side,
        quantity=spec.quantity,
        time_in_force=spec.time_in_force,
        limit_price=spec.limit_price,
        stop_price=spec.stop_price,
    )
    return Leg(terms, price, value)
