"""An order's terms in the TWS API's fields, and back: each type's prices under the names that IBKR gives them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.contracts import from_contract
from ibkr_gateway_server.broker.numbers import decimal
from ibkr_gateway_server.broker.numbers import text as plain_text
from ibkr_gateway_server.domain.evidence import OpenOrderSeen
from ibkr_gateway_server.domain.order_terms import BROKER_ORDER_TYPES, LegTerms, OcaType, OrderSpec, OrderType, Side

# IB: ocaType.
_OCA_TYPES = {OcaType.CANCEL_WITH_BLOCK: 1, OcaType.REDUCE_WITH_BLOCK: 2, OcaType.REDUCE_WITHOUT_BLOCK: 3}

# What an order's lmtPrice and auxPrice mean depends on its type; in any other they mean nothing, whatever is there.
# IBKR spells LMT in full in some completed orders.
_LIMITED = frozenset({"LMT", "LIMIT", "STP LMT", "LOC", "LIT", "TRAIL LIMIT"})
_STOPPED = frozenset({"STP", "STP LMT", "MIT", "LIT"})
_TRAILING = frozenset({"TRAIL", "TRAIL LIMIT"})
_RELATIVE = "REL"


def to_order(spec: OrderSpec, terms: LegTerms, client_id: int, ref: str, parent_id: int = 0) -> ib.Order:
    """One leg of a spec as TWS takes it. What is not given stays unset, as the library marks it."""
    order = ib.Order(
        clientId=client_id,
        action=terms.side.value,
        # Whole numbers go out without a decimal point, as TWS itself writes them.
        totalQuantity=float(terms.quantity) if terms.quantity % 1 else int(terms.quantity),
        orderType=BROKER_ORDER_TYPES[terms.order_type],
        tif=terms.time_in_force.value,
        goodTillDate=_time(spec.good_till_time),
        goodAfterTime=_time(spec.good_after_time),
        account=spec.account_id,
        orderRef=ref,
        outsideRth=spec.outside_regular_hours,
        allOrNone=spec.all_or_none,
        ocaGroup=terms.oca_group,
        ocaType=_OCA_TYPES[terms.oca_type] if terms.oca_type else 0,
        parentId=parent_id,
        transmit=terms.transmits,
    )
    if terms.limit_price is not None or terms.limit_offset is not None:
        # A leg without a limit price is in no book that could display it.
        order.hidden, order.displaySize = spec.hidden, spec.display_size
    for name, price in _prices(terms).items():
        if price is not None:
            setattr(order, name, float(plain_text(price)))
    return order


def order_seen(
    epoch: int, contract: ib.Contract, order: ib.Order, state: ib.OrderState, *, is_completed: bool = False
) -> OpenOrderSeen:
    """An openOrder or a completedOrder as evidence. Prices that its type does not have are left out, as live frames
    fill those fields: 0.0, a limit price of TWS's own before a stop is elected, a trail stop for plain limits."""
    kind = order.orderType
    percent = _given(order.trailingPercent) if kind in _TRAILING else None
    return OpenOrderSeen(
        epoch=epoch,
        order_id=order.orderId,
        client_id=order.clientId,
        perm_id=order.permId,
        account_id=order.account,
        order_ref=order.orderRef,
        instrument=from_contract(contract),
        side=Side.BUY if order.action == "BUY" else Side.SELL,
        broker_order_type=kind,
        quantity=decimal(float(order.totalQuantity)) or Decimal(0),
        time_in_force=order.tif,
        status=state.status,
        limit_price=_limit(order),
        stop_price=decimal(order.auxPrice) if kind in _STOPPED else None,
        is_completed=is_completed,
        filled_quantity=decimal(order.filledQuantity) if is_completed else None,
        completed_status=state.completedStatus if is_completed else "",
        # Captured: an order that trails by percent shows an amount of 0.
        trailing_amount=_given(order.auxPrice) if kind in _TRAILING and percent is None else None,
        trailing_percent=percent,
        trail_stop_price=decimal(order.trailStopPrice) if kind in _TRAILING else None,
        limit_offset=_limit_offset(order),
        oca_group=order.ocaGroup,
        parent_id=order.parentId,
    )


def _prices(terms: LegTerms) -> dict[str, Decimal | None]:
    """The price fields of a leg. auxPrice is a stop, a distance to trail by, or a relative order's offset."""
    fields = {"lmtPrice": terms.limit_price, "auxPrice": terms.stop_price}
    if terms.order_type in (OrderType.TRAIL, OrderType.TRAIL_LIMIT):
        fields["auxPrice"] = terms.trailing_amount
        fields["trailingPercent"] = terms.trailing_percent
        fields["trailStopPrice"] = terms.trail_stop_price
        fields["lmtPriceOffset"] = terms.limit_offset
    elif terms.order_type is OrderType.REL:
        fields["auxPrice"] = terms.limit_offset
    return fields


def _limit(order: ib.Order) -> Decimal | None:
    """The limit price. A relative order's bound is 0 where there is none."""
    if order.orderType == _RELATIVE:
        return _given(order.lmtPrice)
    return decimal(order.lmtPrice) if order.orderType in _LIMITED else None


def _limit_offset(order: ib.Order) -> Decimal | None:
    if order.orderType == _RELATIVE:
        return _given(order.auxPrice)
    return decimal(order.lmtPriceOffset) if order.orderType == "TRAIL LIMIT" else None


def _given(value: float | Decimal | None) -> Decimal | None:
    """A number for which 0 means none as well."""
    return decimal(value) or None


def _time(moment: datetime | None) -> str:
    """A point in time in the form that TWS takes as UTC: "20261123-15:30:00"."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y%m%d-%H:%M:%S")
