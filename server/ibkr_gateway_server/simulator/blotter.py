"""The book of all orders and executions of a login, their ids, and how orders belong together."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from ibkr_gateway_server.simulator.orders import Execution, Order

FIRST_PERM_ID = 1_000_000_000


class Blotter:
    """Orders by their ids, and those that may still fill."""

    def __init__(self, life: int, seed: int) -> None:
        # Unique for ever, as IBKR's are: a gateway that is started again must not repeat those of its last life.
        self._life = life
        self._perm_ids = itertools.count(FIRST_PERM_ID + (life * 1000 + seed) % 1_000_000_000)
        self._next_order_ids: dict[int, int] = {}
        self._bound_ids = itertools.count(-1, -1)
        self.by_id: dict[tuple[int, int], Order] = {}
        self.by_perm_id: dict[int, Order] = {}
        self.executions: list[Execution] = []
        self._alive: dict[int, Order] = {}
        self._children: dict[int, list[Order]] = defaultdict(list)

    def next_perm_id(self) -> int:
        """The id of a new order, for ever."""
        return next(self._perm_ids)

    def next_execution_id(self) -> str:
        """The id of a new fill; its last part counts its corrections."""
        return f"{self._life & 0xFFFFFFFF:08x}.{len(self.executions) + 1:08x}.01.01"

    def next_order_id(self, client_id: int) -> int:
        """The lowest order id this client may use; it persists over its sessions."""
        return self._next_order_ids.setdefault(client_id, 1)

    def use_order_ids_to(self, client_id: int, order_id: int) -> None:
        """This client has used, or will use, ids up to and with this one."""
        self._next_order_ids[client_id] = max(self.next_order_id(client_id), order_id + 1)

    def enter(self, order: Order) -> None:
        """Write a new order down."""
        self.by_perm_id[order.perm_id] = order
        if order.parent is not None:
            self._children[order.parent.perm_id].append(order)
        if not order.is_unbound:
            self.by_id[order.client_id, order.order_id] = order

    def bind(self, order: Order) -> None:
        """Give an order that was placed by hand an id. Negative, so that it meets none of the client's own: a guess,
        from clients that take order ids of nought or less for manual ones (ib_insync, Wrapper.orderKey)."""
        order.order_id = next(self._bound_ids)
        self.by_id[order.client_id, order.order_id] = order

    def activate(self, order: Order) -> None:
        """From now on it may fill."""
        self._alive[order.perm_id] = order

    def retire(self, order: Order) -> None:
        """It has ended."""
        self._alive.pop(order.perm_id, None)

    def alive(self) -> list[Order]:
        """Orders that may still fill, oldest first."""
        return list(self._alive.values())

    def unbound(self) -> list[Order]:
        """Those of them that were placed by hand and that no client owns."""
        return [order for order in self._alive.values() if order.is_unbound]

    def completed(self) -> list[Order]:
        """Orders that have ended, oldest first."""
        return [order for order in self.by_perm_id.values() if order.is_done and order.completed_status]

    def children_of(self, order: Order) -> list[Order]:
        """Orders that may fill, or wait to be transmitted, and were attached to this one."""
        return [other for other in self._children.get(order.perm_id, ()) if not other.is_done]

    def staged_family(self, order: Order) -> Iterator[Order]:
        """The staged orders that go out with this one: its ancestors, and all that is attached to them."""
        root = order
        while root.parent is not None and root.parent.is_staged:
            root = root.parent
        waiting = [root]
        while waiting:
            member = waiting.pop(0)
            if member.is_staged or member is order:
                yield member
            waiting += self.children_of(member)

    def group_of(self, order: Order) -> list[Order]:
        """The other orders of its one-cancels-all group."""
        terms = order.terms
        if not terms.oca_group:
            return []
        key = (terms.account, terms.oca_group)
        found = (other for other in self._alive.values() if (other.terms.account, other.terms.oca_group) == key)
        return [other for other in found if other is not order]
