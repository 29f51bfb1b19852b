"""An order's terms in one form: as a caller asked for them, as the broker has them, as the gateway tells them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ibkr_gateway_server.domain.orders import LegRole, OrderSpec, OrderStatus, OrderType, Side
from ibkr_gateway_server.simulator.orders import Terms

_TYPES = {"STP LMT": OrderType.STP_LMT, "TRAIL LIMIT": OrderType.TRAIL_LIMIT}
_STOPPED = frozenset({OrderType.STP, OrderType.STP_LMT, OrderType.MIT, OrderType.LIT})
_LIMITED = frozenset({OrderType.LMT, OrderType.STP_LMT, OrderType.LIT})
_TRAILING = frozenset({OrderType.TRAIL, OrderType.TRAIL_LIMIT})


@dataclass(frozen=True, slots=True)
class Shown:
    """What differs from one order to another; prices that its type does not have are None."""

    side: Side
    quantity: Decimal
    kind: OrderType
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    """By an amount or a percentage; never by both."""

    def __str__(self) -> str:
        prices = " ".join(f"{price:f}" for price in (self.limit, self.stop, self.trail) if price is not None)
        return f"{self.side} {self.quantity:f} {self.kind} {prices}".rstrip()


def wanted(spec: OrderSpec, role: LegRole) -> Shown:
    """What a caller has asked for. Not by the order core's own rules: those are what is looked at."""
    if spec.order_type is not OrderType.BRACKET:
        trail = spec.trailing_amount or spec.trailing_percent
        return Shown(spec.side, spec.quantity, spec.order_type, spec.limit_price, spec.stop_price, trail)
    if role is LegRole.ENTRY:
        kind = OrderType.MKT if spec.limit_price is None else OrderType.LMT
        return Shown(spec.side, spec.quantity, kind, spec.limit_price)
    closing = Side.SELL if spec.side is Side.BUY else Side.BUY
    if role is LegRole.TAKE_PROFIT:
        return Shown(closing, spec.quantity, OrderType.LMT, spec.take_profit_price)
    kind = OrderType.STP if spec.stop_loss_limit_price is None else OrderType.STP_LMT
    return Shown(closing, spec.quantity, kind, spec.stop_loss_limit_price, spec.stop_loss_price)


def at_broker(terms: Terms) -> Shown:
    """What the broker has."""
    kind = _TYPES.get(terms.order_type) or OrderType(terms.order_type)
    return Shown(
        Side(terms.action),
        Decimal(str(terms.quantity)),
        kind,
        _price(terms.limit_price) if kind in _LIMITED else None,
        _price(terms.aux_price) if kind in _STOPPED else None,
        _price(terms.aux_price or terms.trailing_percent) if kind in _TRAILING else None,
    )


def told(status: OrderStatus) -> Shown:
    """What the gateway says."""
    assert status.order_type is not None
    trail = status.trailing_amount or status.trailing_percent
    return Shown(status.side, status.quantity, status.order_type, status.limit_price, status.stop_price, trail)


def _price(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))
