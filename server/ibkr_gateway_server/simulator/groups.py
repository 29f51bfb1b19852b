"""One-cancels-all groups: what a fill or a cancel of one order does to the others.

Types, as the TWS API documents ocaType: 1 cancels the others with block, 2 and 3 reduce them in proportion, with and
without block. "With block" is protection against overfilling: until the others have heard of a fill, they cannot fill.
Without it, a second order of the group may fill before its reduction has reached the exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ibkr_gateway_server.simulator.floor import Floor
from ibkr_gateway_server.simulator.orders import Order

CANCEL_WITH_BLOCK, REDUCE_WITH_BLOCK = 1, 2


class Groups:
    """Keeps groups in balance. `end` cancels an order at once."""

    def __init__(self, floor: Floor, end: Callable[[Order], None]) -> None:
        self._floor = floor
        self._end = end

    def join_brackets(self, order: Order) -> None:
        """Attached orders are one group by themselves: its name is the parent's permanent id, its type 3.

        Captured from a paper gateway in August 2026 (ibkr-go, api_bracket_trigger_aapl): both children of a bracket
        that named no group came back so.
        """
        if order.parent is not None and not order.terms.oca_group:
            order.terms = replace(order.terms, oca_group=str(order.parent.perm_id), oca_type=3)

    def filled(self, order: Order, before: float) -> None:
        """A fill has left `order.remaining` of `before`: the others are cancelled or reduced alike."""
        kind = order.terms.oca_type
        # "When one order or part of an order executes" is how the API describes what triggers every type.
        left = 0.0 if kind == CANCEL_WITH_BLOCK else order.remaining / before
        for other in self._floor.blotter.group_of(order):
            blocks = kind in (CANCEL_WITH_BLOCK, REDUCE_WITH_BLOCK)
            other.blocks += blocks
            self._floor.agenda.later(self._floor.behaviour.exchange_s, partial(self._reduce, other, left, blocks))

    def cancelled(self, order: Order) -> None:
        """A client's cancel of one order takes the group with it, as captured on a paper gateway in 2026 (ibx, 343).
        That a bracket's children do not take each other along is a guess."""
        if order.parent is not None and order.terms.oca_group == str(order.parent.perm_id):
            return
        for other in self._floor.blotter.group_of(order):
            self._floor.agenda.later(self._floor.behaviour.exchange_s, partial(self._reduce, other, 0.0, False))

    def _reduce(self, order: Order, left: float, blocks: bool) -> None:
        """The others' share has reached this one: so much is left of what it had."""
        order.blocks -= blocks
        if order.is_done:
            return
        # Whole units; which way a half is rounded is a guess.
        remaining = float(int(order.remaining * left + 0.5))
        if remaining <= 0:
            self._end(order)
        elif remaining < order.remaining:
            order.terms = replace(order.terms, quantity=order.filled + remaining)
            self._floor.audience.order_changed(order)
