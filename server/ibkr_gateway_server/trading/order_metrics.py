"""Orders in the metrics: how many came to each state, how many are open in each, and how long fills took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ibkr_gateway_server.domain.events import OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import LegRole, OrderState, OrderStatus
from ibkr_gateway_server.metrics import Metrics


class OrdersObserver:
    """Counts this gateway's orders, each leg by itself, from what is told of them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: dict[tuple[str, LegRole | None], OrderState] = {}

    def begin(self, orders: Iterable[OrderStatus]) -> None:
        """Orders that were open before anything was told: those of an earlier life."""
        for status in orders:
            self._note(status)

    def observe(self, events: Sequence[OrderEvent]) -> None:
        """Take what was told."""
        for event in events:
            if isinstance(event.happening, StatusChanged) and event.client_order_id:
                self._count(event.happening.status)

    def _count(self, status: OrderStatus) -> None:
        if not self._note(status):
            return
        self._metrics.orders.labels(status.state, status.instrument.symbol).inc()
        if status.state is OrderState.FILLED:
            elapsed_s = (status.update_time - status.create_time).total_seconds()
            self._metrics.order_time_to_fill.labels(status.instrument.symbol).observe(elapsed_s)

    def _note(self, status: OrderStatus) -> bool:
        """Keep the gauge true; whether the state is another than it was."""
        leg = (status.client_order_id, status.leg_role)
        before = self._open.get(leg)
        if status.state is before:
            return False
        if before is not None:
            self._metrics.active_orders.labels(before).dec()
            del self._open[leg]
        if status.state.is_open:
            self._metrics.active_orders.labels(status.state).inc()
            self._open[leg] = status.state
        return True
