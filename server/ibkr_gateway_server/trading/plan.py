"""Plans: the orders that IBKR gets for one order of the contract, and whether what IBKR shows are still these.

A bracket is three. The entry waits in TWS (transmit false) until its exits are there; the last of them sends all, so
that the entry never works without its protection. The exits carry the entry's order id as parentId and share an OCA
group. Source: TWS API, bracket orders.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from ibkr_gateway_server.domain.evidence import OpenOrderSeen
from ibkr_gateway_server.domain.order_terms import (
    BROKER_ORDER_TYPES,
    LegRole,
    LegTerms,
    OcaType,
    OrderSpec,
    OrderType,
    Side,
    TimeInForce,
)

# A take-profit that has filled in part must not take the protection of the rest away with it: the exits reduce each
# other, and cannot both fill. IB: ocaType 2.
EXITS_OCA_TYPE = OcaType.REDUCE_WITH_BLOCK

# As IBKR spells a type elsewhere than in the TWS API's table.
_OTHER_SPELLINGS = {"LIMIT": "LMT", "MARKET": "MKT"}
_TYPES = {code: kind for kind, code in BROKER_ORDER_TYPES.items()}


def legs_of(spec: OrderSpec, group: str) -> tuple[LegTerms, ...]:
    """The orders of a spec in the order in which they are written, the entry first. `group` names a bracket's exits."""
    spec = spec.normalised()
    if spec.order_type is OrderType.BRACKET:
        return _bracket(spec, group)
    plain = LegTerms(
        role=LegRole.ENTRY,
        order_type=spec.order_type,
        side=spec.side,
        quantity=spec.quantity,
        time_in_force=spec.time_in_force,
        limit_price=spec.limit_price,
        stop_price=spec.stop_price,
        trailing_amount=spec.trailing_amount,
        trailing_percent=spec.trailing_percent,
        trail_stop_price=spec.trail_stop_price,
        limit_offset=spec.limit_offset,
        oca_group=spec.oca_group,
        oca_type=spec.oca_type,
    )
    return (plain,)


def _bracket(spec: OrderSpec, group: str) -> tuple[LegTerms, ...]:
    oca_type, closing = spec.oca_type or EXITS_OCA_TYPE, spec.side.opposite
    is_limited = spec.stop_loss_limit_price is not None
    return (
        LegTerms(
            role=LegRole.ENTRY,
            order_type=OrderType.MKT if spec.limit_price is None else OrderType.LMT,
            side=spec.side,
            quantity=spec.quantity,
            time_in_force=spec.time_in_force,
            limit_price=spec.limit_price,
            transmits=False,
        ),
        LegTerms(
            role=LegRole.TAKE_PROFIT,
            order_type=OrderType.LMT,
            side=closing,
            quantity=spec.quantity,
            time_in_force=spec.time_in_force,
            limit_price=spec.take_profit_price,
            oca_group=group,
            oca_type=oca_type,
            transmits=False,
        ),
        LegTerms(
            role=LegRole.STOP_LOSS,
            order_type=OrderType.STP_LMT if is_limited else OrderType.STP,
            side=closing,
            quantity=spec.quantity,
            time_in_force=spec.time_in_force,
            limit_price=spec.stop_loss_limit_price,
            stop_price=spec.stop_loss_price,
            oca_group=group,
            oca_type=oca_type,
            transmits=spec.bracket_transmit,
        ),
    )


def same_terms(seen: OpenOrderSeen, terms: LegTerms) -> bool:
    """Whether what IBKR shows of an order are these terms."""
    return terms_shown(terms, seen) == terms


def terms_shown(terms: LegTerms, seen: OpenOrderSeen) -> LegTerms:
    """These terms as IBKR shows them: all of what a change, ours or one made in TWS, may touch.

    What IBKR chooses or moves by itself is left out: a trailing order's limit price, a relative order's offset that was
    not given. Its stop has only ever moved with the market from where it was put, else somebody has put it back.
    """
    kind = _TYPES.get(_OTHER_SPELLINGS.get(seen.broker_order_type, seen.broker_order_type))
    is_another = kind is not None and kind is not terms.order_type

    def of(known: Decimal | None, shown: Decimal | None) -> Decimal | None:
        if is_another:
            return shown
        return known if known is None or shown is None else shown

    trailing = (seen.trailing_amount, seen.trailing_percent)
    if trailing == (None, None):
        trailing = (terms.trailing_amount, terms.trailing_percent)
    shown = replace(
        terms,
        order_type=kind if kind is not None and is_another else terms.order_type,
        side=seen.side,
        # A completed order that has filled is shown with nothing left to do.
        quantity=seen.quantity or seen.filled_quantity or terms.quantity,
        limit_price=of(terms.limit_price, seen.limit_price),
        stop_price=of(terms.stop_price, seen.stop_price),
        trailing_amount=trailing[0],
        trailing_percent=trailing[1],
        limit_offset=of(terms.limit_offset, seen.limit_offset),
    )
    if seen.time_in_force in TimeInForce.__members__:
        shown = replace(shown, time_in_force=TimeInForce(seen.time_in_force))
    return shown if _has_trailed(seen, terms) else replace(shown, trail_stop_price=seen.trail_stop_price)


def _has_trailed(seen: OpenOrderSeen, terms: LegTerms) -> bool:
    """Whether a trailing stop is where it was put, or on from there: up for a sale, down for a purchase."""
    first, now = terms.trail_stop_price, seen.trail_stop_price
    if first is None or now is None:
        return True
    return now >= first if terms.side is Side.SELL else now <= first
