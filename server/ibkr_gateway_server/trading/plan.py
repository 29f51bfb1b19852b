"""Plans: the orders at IBKR that one set of terms amounts to."""

from __future__ import annotations

from ibkr_gateway_server.domain.orders import LegRole, LegTerms, OrderSpec


def legs_of(spec: OrderSpec, group: str) -> tuple[LegTerms, ...]:
    return (
        LegTerms(
            LegRole.ENTRY,
            spec.order_type,
            spec.side,
            spec.quantity,
            spec.time_in_force,
            spec.limit_price,
            spec.stop_price,
        ),
    )
