"""Orders at work: acknowledged, held, routed, looked at with every quote, changed, cancelled, expired.

What happens to an order later is planned on the agenda with the order's revision, so that a plan made before a change
comes to nothing after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from ibkr_gateway_server.simulator import matching
from ibkr_gateway_server.simulator.acceptance import (
    PRESET_TIF,
    UNAFFORDABLE,
    OrderRefused,
    affordable,
    not_cancellable,
)
from ibkr_gateway_server.simulator.fills import Fills
from ibkr_gateway_server.simulator.floor import Floor
from ibkr_gateway_server.simulator.groups import Groups
from ibkr_gateway_server.simulator.holding import end_of, hold_until_open, reasons_to_hold
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import QUOTES_PER_S
from ibkr_gateway_server.simulator.orders import IMMEDIATE, PEGGED, TRAILING, Order, Terms
from ibkr_gateway_server.simulator.reach import next_reach

# Rows of the book that an order may take in one quote.
DEPTH = 5
# A captured stop's first openOrder showed a limit price three steps above its stop, the second one none.
_FIRST_LIMIT_STEPS = 3

_BY_TRADER, _BY_SYSTEM = "Cancelled by Trader", "Cancelled by System:"
_CANCELLED = (202, "Order Canceled - reason:")
# As captured, whoever has ended it.
_EXERCISE_FAILED = (322, "Error processing request.Exercise/Lapse failed due to server rejection.")


class Exchange:
    """Works the orders of one login."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self.fills = Fills(floor)
        self._groups = Groups(floor, self._cancelled)

    # Time and quotes.

    def next_look(self, until: float, stride: int) -> float:
        """When the market may do something to an order next, up to `until`; infinite when it does not. Orders that
        must be looked at with every quote are looked at with every `stride`-th."""
        floor, found = self._floor, math.inf
        if int(self._now * QUOTES_PER_S) == int(until * QUOTES_PER_S):
            return found
        for order in floor.blotter.alive():
            if self._is_watched(order):
                begin = max(order.held_until, self._now)
                found = min(found, next_reach(order, floor.market, floor.hours, begin, min(until, found), stride))
        return found

    def look(self) -> None:
        """Look at the market for every order."""
        for order in self._floor.blotter.alive():
            self._look_at(order)

    @property
    def _now(self) -> float:
        return self._floor.agenda.now

    # The beginning of an order's life.

    def transmit(self, order: Order) -> None:
        """Send an order on, and with it the staged ones that it is attached to, and those attached to them."""
        for member in list(self._floor.blotter.staged_family(order)):
            self._release(member)

    def _release(self, order: Order) -> None:
        floor, terms = self._floor, order.terms
        order.is_staged = False
        # What is attached to a parent is not weighed before the parent has filled.
        is_weighed = order.parent is None or order.parent.is_done
        if is_weighed and not affordable(terms, order.listing, floor.ledgers[terms.account], floor.valuation):
            floor.agenda.later(floor.behaviour.acknowledge_s, partial(self._reject, order, UNAFFORDABLE))
            return
        self._groups.join_brackets(order)
        floor.blotter.activate(order)
        self._hold(order)
        if not order.is_buy and order.listing.sec_type == "STK" and not order.why_held and not order.held_until:
            # Live gateways report a stock's sale as Submitted from its first word on; everything else as PreSubmitted.
            order.status = "Submitted"
        self._plan(floor.behaviour.acknowledge_s, self._acknowledged, order)

    def _plan(self, delay_s: float, act: Callable[[Order], None], order: Order) -> None:
        """Do this later, unless the order has ended or been changed."""
        revision = order.revision

        def run() -> None:
            if not order.is_done and order.revision == revision:
                act(order)

        self._floor.agenda.later(delay_s, run)

    def _hold(self, order: Order) -> None:
        """Find out what the order waits for, and how long it lives."""
        floor = self._floor
        order.why_held = reasons_to_hold(floor, order)
        order.is_working = order.is_resting = False
        order.peg = None
        if order.terms.order_type in TRAILING:
            # Where it begins to trail from is told with its first word.
            matching.trail(order, floor.market.prices(order.listing, self._now))
        hold_until_open(floor, order)
        if (end := end_of(floor, order)) is not None:
            self._plan(end - self._now, self._expired, order)

    def _reject(self, order: Order, reason: str) -> None:
        self._end(order, "Inactive", "")
        self._floor.audience.order_changed(order)
        self._floor.audience.error(order, 201, reason)

    def _acknowledged(self, order: Order) -> None:
        floor, terms = self._floor, order.terms
        if order.status == "PendingCancel":
            floor.audience.order_changed(order)
            return
        warnings, order.notices = order.notices, []
        is_hopeless = terms.tif in IMMEDIATE and not order.why_held and not self._takes(order)
        if is_hopeless and terms.tif == "FOK":
            self._end(order, "Inactive", _BY_SYSTEM)
        elif is_hopeless:
            order.status = "Submitted"
        self._tell_new_terms(order)
        for code, text in warnings:
            floor.audience.error(order, code, text)
        if any(code == 399 for code, _ in warnings):
            # Captured: the state once more after the warning.
            floor.audience.order_changed(order)
        if order.is_done:
            return
        if order.is_cancel_asked:
            self._ask_exchange(order)
        elif "locate" in order.why_held:
            floor.audience.error(order, 404, "Order held while securities are located.")
            self._plan(floor.behaviour.locate_s, self._located, order)
        elif not order.why_held:
            self._plan(max(order.held_until - self._now, floor.behaviour.exchange_s), self._arrived, order)

    def _tell_new_terms(self, order: Order) -> None:
        """Live gateways say the first word of an order that waits for a price twice (a trailing one's once), and a
        stop's very first with a limit price of its own."""
        terms, audience = order.terms, self._floor.audience
        if order.why_held == "trigger" and terms.order_type not in TRAILING:
            if terms.order_type == "STP" and terms.aux_price and order.told_revision < 0:
                step = self._floor.market.step(order.listing, terms.aux_price)
                order.shown_limit = terms.aux_price + _FIRST_LIMIT_STEPS * step
            audience.order_changed(order)
            order.shown_limit = None
        audience.order_changed(order)

    def _located(self, order: Order) -> None:
        order.is_located = True
        self._hold(order)
        self._acknowledged(order)

    def _arrived(self, order: Order) -> None:
        """The order has reached the exchange: it fills at once or rests."""
        if order.status == "PendingCancel":
            return
        order.is_working = True
        self._submit_if_resting(order)
        self._look_at(order)
        # A quote that it has traded against is not looked at again.
        self._end_if_immediate(order)

    def _submit_if_resting(self, order: Order) -> None:
        is_resting = order.terms.order_type != "MKT" and not self._takes(order)
        if order.status == "PreSubmitted" and is_resting:
            order.status = "Submitted"
            self._floor.audience.order_changed(order)

    def _end_if_immediate(self, order: Order) -> None:
        """An order of the moment, or of an auction, ends with what it has."""
        if order.is_done or not (order.terms.tif in IMMEDIATE or order.is_auction):
            return
        order.status = "PendingCancel"
        self._floor.audience.order_changed(order)
        self._cancelled(order, _BY_SYSTEM)

    def exercise(self, order: Order) -> None:
        """Take an option's exercise: it rests like an order until it is cancelled or its day is over."""
        order.is_exercise = True
        self._floor.blotter.activate(order)
        self._plan(self._floor.behaviour.acknowledge_s, self._exercise_taken, order)
        if (end := end_of(self._floor, order)) is not None:
            self._plan(end - self._now, self._expired, order)

    def _exercise_taken(self, order: Order) -> None:
        self._floor.audience.error(order, *PRESET_TIF)
        self._floor.audience.order_changed(order)
        if order.is_cancel_asked:
            self._ask_exchange(order)

    # Looking at the market.

    @staticmethod
    def _is_watched(order: Order) -> bool:
        return order.is_working or order.why_held == "trigger"

    def _look_at(self, order: Order) -> None:
        """One look at the market for one order."""
        quote = int(self._now * QUOTES_PER_S)
        if order.is_done or order.blocks or self._now < order.held_until or order.last_quote == quote:
            return
        floor = self._floor
        is_open = floor.hours.is_open(order.listing, self._now, outside_rth=order.terms.outside_rth)
        if not is_open and not order.is_auction:
            order.held_until = floor.hours.next_open(order.listing, self._now, outside_rth=order.terms.outside_rth)
            return
        if order.why_held == "trigger" and order.status != "PendingCancel":
            self._elect(order)
        if not order.is_working:
            return
        taken = self._takes(order)
        for trade in taken:
            self._trade(order, trade)
        # What it did not take at once rests, unless it goes on taking at any price.
        order.is_resting = order.terms.order_type in PEGGED or matching.limit_of(order) is not None
        self._end_if_immediate(order)

    def _elect(self, order: Order) -> None:
        """Let a held order go when the price has reached its trigger."""
        prices = self._floor.market.prices(order.listing, self._now)
        if matching.is_triggered(order, prices):
            order.is_elected = order.is_working = True
            order.why_held, order.status = "", "Submitted"
            self._floor.audience.order_changed(order)

    def _takes(self, order: Order) -> list[matching.Trade]:
        """What the order would trade now."""
        market, listing = self._floor.market, order.listing
        prices = market.prices(listing, self._now)
        best = prices.ask if order.is_buy else prices.bid
        if best is None:
            return []
        limit = matching.limit_of(order, best)
        is_away = limit is not None and (best > limit if order.is_buy else best < limit)
        if is_away and not order.is_auction and order.terms.order_type not in PEGGED:
            return []
        book = market.book(listing, self._now, DEPTH)
        shown = book.asks if order.is_buy else book.bids
        if order.contract.exchange not in ("", "SMART"):
            # Sent to one exchange, it is filled there; that it finds there what the best venues show is a guess.
            shown = tuple(level._replace(venue=order.contract.exchange) for level in shown)
        return matching.taken_by(order, prices, shown, int(self._now * QUOTES_PER_S))

    def _trade(self, order: Order, trade: matching.Trade) -> None:
        before = order.remaining
        execution = self.fills.book(order, trade)
        if order.remaining <= 1e-9:
            self._end(order, "Filled", f"Filled Size: {order.filled:g}")
        elif order.status == "PreSubmitted":
            order.status = "Submitted"
        self.fills.tell(execution)
        self._groups.filled(order, before)
        if order.status == "Filled":
            self._free_children(order)

    def _free_children(self, order: Order) -> None:
        for child in self._floor.blotter.children_of(order):
            if not child.is_staged:
                child.revision += 1
                # A trailing stop trails from here.
                child.stop_level = None
                self._hold(child)
                self._plan(self._floor.behaviour.exchange_s, self._acknowledged, child)

    # Changes.

    def change(self, order: Order, terms: Terms) -> None:
        """Replace a live order's terms. Raises OrderRefused."""
        floor, old = self._floor, order.terms
        if order.status == "PendingCancel" or order.is_cancel_asked:
            # Documented for changes that cannot be made; that this is one of them is a guess.
            raise OrderRefused(134, "Modify order failed.")
        more = replace(terms, quantity=terms.quantity - old.quantity)
        is_weighed = more.quantity > 0 and not order.is_staged and order.parent is None
        if is_weighed and not affordable(more, order.listing, floor.ledgers[terms.account], floor.valuation):
            raise OrderRefused(201, UNAFFORDABLE)
        order.revision += 1
        order.became_market = order.is_working and terms.order_type == "MKT" != old.order_type
        order.is_elected = order.is_elected and terms.order_type == old.order_type
        if terms.trail != old.trail:
            order.stop_level = None
        order.terms = terms
        self._groups.join_brackets(order)
        if order.is_staged:
            if terms.transmit:
                self.transmit(order)
            return
        if order.remaining <= 0:
            # Nothing is left to do: as by FIX, an order for no more than it has is filled.
            order.terms = replace(terms, quantity=order.filled)
            self._end(order, "Filled", f"Filled Size: {order.filled:g}")
            floor.audience.order_changed(order)
            self._free_children(order)
            return
        self._hold(order)
        if order.why_held:
            order.status = "PreSubmitted"
        self._plan(floor.behaviour.acknowledge_s, self._acknowledged, order)

    # Ends.

    def cancel(self, order: Order, client_id: int | None) -> None:
        """Ask for an order's end, for a client or, without one, by hand. An order that is still on its way is
        acknowledged first."""
        order.cancelled_by = client_id
        order.is_cancel_asked = True
        if order.is_staged:
            self._plan(self._floor.behaviour.acknowledge_s, self._cancelled, order)
        elif order.is_told:
            self._ask_exchange(order)

    def _ask_exchange(self, order: Order) -> None:
        """Told as pending at once, done when the exchange has heard; until then it may still fill."""
        order.status = "PendingCancel"
        self._floor.audience.status_changed(order)
        self._floor.agenda.later(self._floor.behaviour.exchange_s, partial(self._cancel_heard, order))

    def _cancel_heard(self, order: Order) -> None:
        if order.status == "Filled":
            # The fill was first. The answer is a captured one to a cancel in vain; that it comes here too is a guess.
            self._floor.audience.error(order, 161, not_cancellable(order.perm_id))
        if not order.is_done:
            self._cancelled(order)
            self._groups.cancelled(order)

    def expire(self, gone: Collection[Listing]) -> None:
        """The end of contracts, and of the orders for them."""
        for order in self._floor.blotter.alive():
            if order.listing in gone:
                self._expired(order)

    def _expired(self, order: Order) -> None:
        """The end of its time in force."""
        self._cancelled(order, _BY_SYSTEM)

    def _cancelled(self, order: Order, completed_status: str = _BY_TRADER) -> None:
        if order.is_done:
            return
        self._end(order, "Cancelled", completed_status)
        if order.is_exercise:
            self._floor.audience.error(order, *_EXERCISE_FAILED)
        self._floor.audience.status_changed(order)
        self._floor.audience.error(order, *_CANCELLED)

    def _end(self, order: Order, status: str, completed_status: str) -> None:
        """It has ended; what is attached to it ends with it, unless it has filled."""
        order.status, order.why_held, order.is_working = status, "", False
        order.completed_status, order.completed_time = completed_status, self._now
        order.is_staged = False
        self._floor.blotter.retire(order)
        if status != "Filled":
            for child in self._floor.blotter.children_of(order):
                self._floor.agenda.later(0.0, partial(self._cancelled, child))
