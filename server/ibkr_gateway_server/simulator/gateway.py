"""The gateway behind all connections: accounts, orders, executions and the clock they share.

It does no I/O and reads no clock: `advance(now)` lets time pass, and what happens is handed to the sessions that a live
gateway would tell. What it does follows from its seed, the time it starts at, and what it is asked when.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ibkr_gateway_server.simulator import acceptance, hours
from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.agenda import Agenda
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.blotter import Blotter
from ibkr_gateway_server.simulator.codec.orders import Preview
from ibkr_gateway_server.simulator.exchange import Exchange
from ibkr_gateway_server.simulator.expiry import settle
from ibkr_gateway_server.simulator.faults import Faults
from ibkr_gateway_server.simulator.floor import Audience, Floor, Listener
from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.market import QUOTES_PER_S, Market, Tape
from ibkr_gateway_server.simulator.opening import opening_ledgers
from ibkr_gateway_server.simulator.orders import Execution, Order, Terms
from ibkr_gateway_server.simulator.pacing import HistoryPace, RealTimeBarPace, TickPace
from ibkr_gateway_server.simulator.valuation import Valuation

# Orders whose price follows the market are looked at with every quote; when so much time passes at once that there are
# more than this, with every few quotes.
MAX_LOOKS = 2400

# What a change made by hand may touch.
_CHANGEABLE = frozenset({"quantity", "limit_price", "aux_price", "tif", "order_type", "trailing_percent"})


class Gateway:
    """Accounts and orders of one simulated login."""

    def __init__(
        self,
        seed: int,
        accounts: Sequence[str],
        now: float,
        behaviour: Behaviour | None = None,
        tape: Tape | None = None,
    ) -> None:
        self.seed = seed
        self.behaviour = behaviour or Behaviour()
        self.faults = Faults(seed)
        self.history_pace, self.bar_pace, self.tick_pace = HistoryPace(), RealTimeBarPace(), TickPace()
        # By message id: requests that came too fast, whether that is enforced or not.
        self.pacing_violations: Counter[int] = Counter()
        self.trading_hours = TradingHours(always=self.behaviour.always_open)
        self.market = Market(seed, self.trading_hours, tape)
        for listing in FIXED:
            self.market.follow(listing)
        self._agenda = Agenda(now)
        self.catalogue = Catalogue(datetime.fromtimestamp(now, UTC).date(), self.mark)
        self.valuation = Valuation(self.catalogue, self.mark)
        self._closing = Valuation(self.catalogue, lambda listing: self.market.prices(listing, self.now).close)
        currencies = {account: self.behaviour.base_currencies.get(account, "USD") for account in accounts}
        self.ledgers = opening_ledgers(currencies, self.catalogue, self.valuation, self._closing)
        self._blotter = Blotter(int(now), seed)
        self._audience = Audience()
        floor = (self._agenda, self._blotter, self._audience, self.market, self.ledgers, self.valuation)
        self._exchange = Exchange(Floor(*floor, self.behaviour, self.trading_hours))
        self._is_moved = False
        self._plan_next_day()

    # Time.

    @property
    def now(self) -> float:
        """The time, in epoch seconds."""
        return self._agenda.now

    @property
    def next_event_time(self) -> float | None:
        """When something is due next; None: nothing is."""
        return self._agenda.next_time

    def advance(self, now: float) -> None:
        """Let time pass: do what is due and look at every order with each new quote, in the order of time, so that it
        does not matter how often this is called."""
        stride = max(int((now - self.now) * QUOTES_PER_S) // MAX_LOOKS, 1)
        while True:
            due = self._agenda.next_time
            event_at = math.inf if due is None else due
            look_at = self._exchange.next_look(now, stride)
            if min(event_at, look_at) > now:
                break
            if event_at <= look_at:
                self._agenda.run_next()
            else:
                self._agenda.move_to(look_at)
                self._exchange.look()
        self._agenda.move_to(now)
        if self._is_moved:
            self._is_moved = False
            self._exchange.look()

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do this so many seconds from now."""
        self._agenda.later(delay_s, act)

    def look_again(self) -> None:
        """The market has been moved by hand: look at every working order."""
        self._is_moved = True

    def mark(self, listing: Listing) -> float:
        """The price a position is valued at now."""
        return self.market.prices(listing, self.now).mark

    def _plan_next_day(self) -> None:
        """Midnight in New York: what has been gained until then is yesterday's."""
        self._agenda.at(hours.day_span(FIXED[0], self.now)[1], self._begin_day)

    def _begin_day(self) -> None:
        gone = self.catalogue.roll(datetime.fromtimestamp(self.now, UTC).date())
        self._exchange.expire(gone)
        for account, listing in settle(self.ledgers.values(), gone, self.market):
            self._audience.position_changed(account, listing)
        for ledger in self.ledgers.values():
            ledger.begin_day(self._closing)
        self._plan_next_day()

    # What there is.

    @property
    def sessions(self) -> list[Listener]:
        """The connections that are on."""
        return self._audience.sessions

    @property
    def orders(self) -> dict[tuple[int, int], Order]:
        """Every order that a client has placed or bound, by client and order id."""
        return self._blotter.by_id

    @property
    def executions(self) -> list[Execution]:
        """Every fill and correction, oldest first."""
        return self._blotter.executions

    def unlisted(self, tape: Tape) -> list[str]:
        """The symbols of a tape that nothing is listed under."""
        return sorted(tape.tracks.keys() - {listing.local_symbol for listing in self.catalogue})

    def open_orders(self) -> list[Order]:
        """Orders that may still fill, oldest first."""
        return self._blotter.alive()

    def completed_orders(self) -> list[Order]:
        """Orders that have ended today, oldest first."""
        today, _ = hours.day_span(FIXED[0], self.now)
        return [order for order in self._blotter.completed() if order.completed_time >= today]

    def next_order_id(self, client_id: int) -> int:
        """The lowest order id this client may use; it persists over its sessions."""
        return self._blotter.next_order_id(client_id)

    def reserve_order_ids(self, client_id: int, count: int) -> int:
        """reqIds: later ids, since the client says it will use these."""
        self._blotter.use_order_ids_to(client_id, self.next_order_id(client_id) + max(count, 1) - 1)
        return self.next_order_id(client_id)

    # What clients ask for.

    def place(self, client_id: int, order_id: int, contract: ContractQuery, terms: Terms) -> None:
        """A new order, or a change of a working one. Raises OrderRefused with IBKR's code and text."""
        had_tif = bool(terms.tif)
        listing = self._checked(contract, terms)
        known = self._blotter.by_id.get((client_id, order_id))
        if known is not None:
            self._change(known, listing, terms)
            return
        if order_id < self.next_order_id(client_id):
            raise OrderRefused(103, "Duplicate order id")
        parent = self._parent_of(client_id, terms)
        self._blotter.use_order_ids_to(client_id, order_id)
        order = self._enter(client_id, order_id, contract, listing, terms, parent)
        order.notices += acceptance.warnings_of(terms, had_tif=had_tif or not self.behaviour.presets_tif)
        if terms.transmit:
            self._exchange.transmit(order)
        else:
            order.is_staged = True

    def preview(self, client_id: int, order_id: int, contract: ContractQuery, terms: Terms) -> tuple[Order, Preview]:
        """A what-if: the order as it would be, its margin and commission. Nothing is placed."""
        listing = self._checked(contract, terms)
        order = Order(client_id, order_id, 0, contract, listing, terms)
        return order, acceptance.preview(terms, listing, self.ledgers[terms.account], self.valuation)

    def cancel(self, client_id: int, order_id: int) -> None:
        """Cancel an order. Raises OrderRefused with IBKR's code and text."""
        order = self._blotter.by_id.get((client_id, order_id))
        if order is None and self.behaviour.cancels_across_clients:
            others = (other for other in self.open_orders() if other.order_id == order_id and not other.is_unbound)
            order = next(others, None)
        if order is None:
            raise OrderRefused(10147, f"OrderId {order_id} that needs to be cancelled is not found.")
        if order.is_done or order.is_cancel_asked:
            state = order.status if order.is_done else "PendingCancel"
            text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {state}."
            raise OrderRefused(10148, text)
        self._exchange.cancel(order, client_id)

    def cancel_all(self, client_id: int) -> None:
        """reqGlobalCancel: every open order of the login, those placed by hand among them. One that is being cancelled
        cannot be any more, as captured."""
        for order in self.open_orders():
            if order.is_cancel_asked:
                self._audience.error(order, 161, acceptance.not_cancellable(order.perm_id))
            else:
                self._exchange.cancel(order, client_id)

    def exercise(self, client_id: int, req_id: int, contract: ContractQuery, listing: Listing, terms: Terms) -> None:
        """Take the exercise of an option, in the form of an order under the request's id. Raises OrderRefused."""
        if (client_id, req_id) in self._blotter.by_id:
            raise OrderRefused(103, "Duplicate order id")
        self._exchange.exercise(self._enter(client_id, req_id, contract, listing, terms, None))

    # What happens in TWS.

    def place_manually(self, contract: ContractQuery, terms: Terms) -> Order:
        """An order placed by hand in TWS. It belongs to client 0, to be bound. Raises OrderRefused."""
        listing = self._checked(contract, terms)
        order = self._enter(0, 0, contract, listing, terms, None)
        binder = (session for session in self.sessions if session.client_id == 0 and session.binds_manual_orders)
        if next(binder, None) is not None:
            self._bind(order)
        self._exchange.transmit(order)
        return order

    def modify_manually(self, perm_id: int, **changes: Any) -> Order:
        """A change made by hand in TWS of any order; its client is told of the new state. Raises OrderRefused,
        LookupError when there is no such order, ValueError for what cannot be changed."""
        order = self._of_perm_id(perm_id)
        if not _CHANGEABLE.issuperset(changes):
            raise ValueError(f"only these can be changed: {', '.join(sorted(_CHANGEABLE))}")
        terms = replace(order.terms, **changes)
        self._change(order, self._checked(order.contract, terms), terms)
        return order

    def cancel_manually(self, perm_id: int) -> Order:
        """A cancel made by hand in TWS. Raises OrderRefused, LookupError."""
        order = self._of_perm_id(perm_id)
        if order.is_done or order.is_cancel_asked:
            raise OrderRefused(161, acceptance.not_cancellable(perm_id))
        self._exchange.cancel(order, None)
        return order

    def bind_manual_orders(self) -> None:
        """Make orders placed by hand client 0's own, each with an id."""
        for order in self._blotter.unbound():
            self._bind(order)

    def correct_execution(self, execution_id: str, price: float) -> Execution:
        """The exchange corrects a fill's price. Raises LookupError when there is no such execution."""
        return self._exchange.fills.correct(execution_id, price)

    def _bind(self, order: Order) -> None:
        self._blotter.bind(order)
        self._audience.tell(order, lambda session: session.order_bound(order))

    def _of_perm_id(self, perm_id: int) -> Order:
        order = self._blotter.by_perm_id.get(perm_id)
        if order is None:
            raise LookupError(f"there is no order {perm_id}")
        return order

    def _checked(self, contract: ContractQuery, terms: Terms) -> Listing:
        listing = acceptance.tradable(self.catalogue, contract, self.behaviour)
        acceptance.check(terms, listing, self.ledgers, self.market)
        return listing

    def _parent_of(self, client_id: int, terms: Terms) -> Order | None:
        """The order that a new one is attached to. One that has ended without a fill is none: a guess."""
        if not terms.parent_id:
            return None
        parent = self._blotter.by_id.get((client_id, terms.parent_id))
        if parent is None or (parent.is_done and parent.status != "Filled"):
            raise OrderRefused(135, f"Can't find order with id ={terms.parent_id}")
        return parent

    def _enter(
        self,
        client_id: int,
        order_id: int,
        contract: ContractQuery,
        listing: Listing,
        terms: Terms,
        parent: Order | None,
    ) -> Order:
        perm_id = self._blotter.next_perm_id()
        order = Order(client_id, order_id, perm_id, contract, listing, terms, parent=parent)
        self._blotter.enter(order)
        return order

    def _change(self, order: Order, listing: Listing, terms: Terms) -> None:
        if order.status == "Filled":
            raise OrderRefused(104, "Cannot modify a filled order.")
        if order.is_done or order.is_exercise:
            raise OrderRefused(103, "Duplicate order id")
        if (terms.action, terms.account, listing) != (order.terms.action, order.terms.account, order.listing):
            raise OrderRefused(105, "Order being modified does not match original order.")
        self._exchange.change(order, terms)
