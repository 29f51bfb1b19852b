"""What must be true at every moment: a final word must be true when it is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from ibkr_gateway_server.domain.events import OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import LegRole, OrderState, OrderStatus
from ibkr_gateway_server.simulator.orders import Order

from tests.reliability.intents import Intent, leg_name
from tests.reliability.invariants import QUARANTINE_S, TRUE, Finding, orders_of, shown_of
from tests.reliability.life import Life
from tests.reliability.world import World


class Watch:
    """Looks at every event as it is recorded: a final word must be true when it is said."""

    def __init__(self, world: World, intents: Sequence[Intent]) -> None:
        self.found: list[Finding] = []
        self.states: Counter[str] = Counter()
        self._world = world
        self._order_ref: Callable[[str, LegRole], str] = lambda _key, _role: ""
        self._keys = {intent.key for intent in intents}
        self._presumed: list[OrderStatus] = []

    def look(self, life: Life, events: Sequence[OrderEvent]) -> None:
        """Events have just become durable."""
        self._order_ref = life.store.order_ref
        for event in events:
            if isinstance(event.happening, StatusChanged) and event.client_order_id in self._keys:
                self._look_at(event.happening.status)

    def _look_at(self, status: OrderStatus) -> None:
        key, state = leg_name(status.client_order_id, status.leg_role), status.state
        self.states[state] += 1
        self._world.note(f"recorded {key}: {state} {status.filled_quantity}")
        orders = self._orders(status)
        alive = [order for order in orders if not order.is_done and not order.is_staged]
        if (
            (state is OrderState.FILLED and not any(order.status == "Filled" for order in orders))
            or (state in (OrderState.CANCELLED, OrderState.REJECTED, OrderState.CLOSED_UNCONFIRMED) and alive)
            or (state is OrderState.REJECTED and any(order.filled for order in orders))
            or (state is OrderState.NOT_SENT and orders)
        ):
            self._tell(TRUE, status, orders)
        if state is OrderState.PRESUMED_NOT_PLACED:
            self._presumed.append(status)

    def overlooked(self) -> list[Finding]:
        """Orders that were presumed never placed, though the broker had them, or took them soon enough to wait for."""
        for status in self._presumed:
            orders = self._orders(status)
            if any(map(self._is_overlooked, orders)):
                self._tell(TRUE, status, orders)
        return self.found

    def _is_overlooked(self, order: Order) -> bool:
        """One that works or has worked, and was not taken too late for anyone to wait for it."""
        return order.status != "Inactive" and not order.is_staged and not self._world.is_late(order, QUARANTINE_S)

    def _orders(self, status: OrderStatus) -> list[Order]:
        assert status.leg_role is not None
        return orders_of(self._world.simulator.gateway, self._order_ref(status.client_order_id, status.leg_role))

    def _tell(self, invariant: str, status: OrderStatus, orders: Sequence[Order]) -> None:
        name = leg_name(status.client_order_id, status.leg_role)
        self.found.append((invariant, f"{name} is told {status.state}; the broker has: {shown_of(orders)}"))
