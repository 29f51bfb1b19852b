"""The gateway behind all connections: accounts, orders, executions and the clock they share.

It does no I/O and reads no clock: `advance(now)` lets time pass, and what happens is handed to the sessions that a live
gateway would tell.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from ibkr_gateway_server.simulator import acceptance, history, hours, matching
from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.codec.orders import Preview
from ibkr_gateway_server.simulator.commissions import commission
from ibkr_gateway_server.simulator.faults import Faults
from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.market import QUOTES_PER_S, Market, Tape, scramble
from ibkr_gateway_server.simulator.opening import opening_ledgers
from ibkr_gateway_server.simulator.orders import AT_CLOSE, STOPS, TRAILING, Execution, Order, Terms
from ibkr_gateway_server.simulator.valuation import Valuation

FIRST_PERM_ID = 1_000_000_000

_STOCK_VENUES = ("IEX", "NASDAQ", "ARCA", "BATS", "EDGX", "NYSE")
_VENUES = {"FUT": "CME", "OPT": "CBOE", "CASH": "IDEALPRO"}


class Listener(Protocol):
    """One connection, as the gateway sees it."""

    client_id: int

    def order_opened(self, order: Order) -> None: ...
    def order_changed(self, order: Order) -> None: ...
    def status_changed(self, order: Order) -> None: ...
    def executed(self, execution: Execution) -> None: ...
    def commission_reported(self, execution: Execution) -> None: ...
    def position_changed(self, account: str, listing: Listing) -> None: ...
    def error(self, req_id: int, code: int, text: str) -> None: ...


@dataclass(order=True)
class _Event:
    time: float
    number: int
    act: Callable[[], None] = field(compare=False)


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
        self.now = now
        self.behaviour = behaviour or Behaviour()
        self.faults = Faults()
        self.trading_hours = TradingHours(always=self.behaviour.always_open)
        self.market = Market(seed, self.trading_hours, tape)
        for listing in FIXED:
            self.market.follow(listing)
        self.catalogue = Catalogue(datetime.fromtimestamp(now, UTC).date(), self.mark)
        self.valuation = Valuation(self.catalogue, self.mark)
        self._closing = Valuation(self.catalogue, lambda listing: self.market.prices(listing, self.now).close)
        currencies = {account: self.behaviour.base_currencies.get(account, "USD") for account in accounts}
        self.ledgers = opening_ledgers(currencies, self.catalogue, self.valuation, self._closing)
        self.orders: dict[tuple[int, int], Order] = {}
        self.executions: list[Execution] = []
        self.sessions: list[Listener] = []
        self._next_order_ids: dict[int, int] = {}
        self._events: list[_Event] = []
        self._numbers = itertools.count()
        # Unique for ever, as IBKR's are: a gateway that is started again must not repeat those of its last life.
        self._life = int(now)
        self._perm_ids = itertools.count(FIRST_PERM_ID + (self._life * 1000 + seed) % 1_000_000_000)
        self._alive: dict[tuple[int, int], Order] = {}
        self._quote = -1
        self._day_end = hours.day_span(FIXED[0], now)[1]

    @property
    def next_event_time(self) -> float | None:
        """When something is due next; None: nothing is."""
        return self._events[0].time if self._events else None

    def advance(self, now: float) -> None:
        """Let time pass: do what is due, in order, then look at every working order if there is a new quote."""
        while self._events and self._events[0].time <= now:
            event = heapq.heappop(self._events)
            self.now = max(self.now, event.time)
            event.act()
        self.now = max(self.now, now)
        if self.now >= self._day_end:
            self._begin_day()
        if self._quote != (quote := self._quote_number()):
            self._quote = quote
            for order in list(self._alive.values()):
                self._look_at(order)

    def look_again(self) -> None:
        """The market has been moved by hand: look at every working order."""
        self._quote = -1

    def _quote_number(self) -> int:
        return int(self.now * QUOTES_PER_S)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, _Event(self.now + delay_s, next(self._numbers), act))

    def _begin_day(self) -> None:
        """Midnight in New York: what has been gained is yesterday's."""
        for ledger in self.ledgers.values():
            ledger.begin_day(self._closing)
        self._day_end = hours.day_span(FIXED[0], self.now)[1]

    def next_order_id(self, client_id: int) -> int:
        """The lowest order id this client may use; it persists over its sessions."""
        return self._next_order_ids.setdefault(client_id, 1)

    def reserve_order_ids(self, client_id: int, count: int) -> int:
        """reqIds: later ids, since the client says it will use these."""
        self._next_order_ids[client_id] = self.next_order_id(client_id) + max(count, 1)
        return self._next_order_ids[client_id]

    def mark(self, listing: Listing) -> float:
        """The price a position is valued at now."""
        return self.market.prices(listing, self.now).mark

    def place(self, client_id: int, order_id: int, contract: ContractQuery, terms: Terms) -> None:
        """A new order, or a change of a working one. Raises OrderRefused with IBKR's code and text."""
        known = self.orders.get((client_id, order_id))
        listing = acceptance.tradable(self.catalogue, contract)
        acceptance.check(terms, listing, self.ledgers, self.market)
        if known is not None:
            self._modify(known, listing, terms)
            return
        if order_id < self.next_order_id(client_id):
            raise OrderRefused(103, "Duplicate order id")
        self._next_order_ids[client_id] = order_id + 1
        order = Order(client_id, order_id, next(self._perm_ids), contract, listing, terms)
        self.orders[client_id, order_id] = order
        if not terms.transmit:
            order.is_staged = True
            return
        self._transmit(order)

    def preview(self, client_id: int, order_id: int, contract: ContractQuery, terms: Terms) -> tuple[Order, Preview]:
        """A what-if: the order as it would be, its margin and commission. Nothing is placed."""
        listing = acceptance.tradable(self.catalogue, contract)
        acceptance.check(terms, listing, self.ledgers, self.market)
        order = Order(client_id, order_id, 0, contract, listing, terms)
        return order, acceptance.preview(terms, listing, self.ledgers[terms.account], self.valuation)

    def cancel(self, client_id: int, order_id: int) -> None:
        """Cancel an order. Raises OrderRefused with IBKR's code and text."""
        order = self.orders.get((client_id, order_id))
        if order is None and self.behaviour.cancels_across_clients:
            others = (other for other in self._alive.values() if other.order_id == order_id)
            order = next(others, None)
        if order is None:
            raise OrderRefused(10147, f"OrderId {order_id} that needs to be cancelled is not found.")
        if order.is_done or order.status == "PendingCancel":
            text = f"OrderId {order_id} that needs to be cancelled can not be cancelled, state: {order.status}."
            raise OrderRefused(10148, text)
        self._cancel(order, client_id)

    def cancel_all(self, client_id: int) -> None:
        """reqGlobalCancel: every open order of the login."""
        for order in self.open_orders():
            if order.status != "PendingCancel":
                self._cancel(order, client_id)

    def open_orders(self) -> list[Order]:
        """Orders that may still fill, oldest first."""
        return list(self._alive.values())

    def completed_orders(self) -> list[Order]:
        """Orders that have ended today, oldest first."""
        return [order for order in self.orders.values() if order.is_done and order.completed_status]

    def _transmit(self, order: Order) -> None:
        """Send an order on, and with it the staged ones it belongs to: its parent and its parent's other children."""
        order.is_staged = False
        parent = self._parent_of(order)
        if parent is not None and parent.is_staged:
            family = (other for other in self.orders.values() if other.is_staged)
            siblings = [other for other in family if self._parent_of(other) is parent]
            for member in (parent, *siblings):
                self._release(member)
        self._release(order)

    def _release(self, order: Order) -> None:
        order.is_staged = False
        ledger = self.ledgers[order.terms.account]
        if not acceptance.affordable(order.terms, order.listing, ledger, self.valuation):
            self._later(self.behaviour.acknowledge_s, partial(self._reject, order))
            return
        self._alive[order.client_id, order.order_id] = order
        self._hold(order)
        if not order.is_buy and order.listing.sec_type == "STK" and not order.why_held and not order.held_until:
            # Live gateways report a stock's sale as Submitted from its first word on; everything else as PreSubmitted.
            order.status = "Submitted"
        self._later(self.behaviour.acknowledge_s, partial(self._acknowledged, order))

    def _parent_of(self, order: Order) -> Order | None:
        return self.orders.get((order.client_id, order.terms.parent_id)) if order.terms.parent_id else None

    def _children_of(self, order: Order) -> list[Order]:
        return [other for other in self._alive.values() if self._parent_of(other) is order]

    def _hold(self, order: Order) -> None:
        """What the order waits for: its parent, a price, a time."""
        parent, terms = self._parent_of(order), order.terms
        reasons = ["child"] if parent is not None and parent.status != "Filled" else []
        reasons += ["trigger"] if order.waits_for_trigger else []
        order.why_held = ",".join(reasons)
        if terms.order_type in AT_CLOSE:
            order.held_until = hours.next_close(order.listing, self.now)
        elif terms.tif == "OPG":
            order.held_until = hours.next_opening(order.listing, self.now)
        elif terms.good_after_time:
            order.held_until = self._time_of(terms.good_after_time)
        if terms.tif == "GTD":
            self._later(self._time_of(terms.good_till_date) - self.now, partial(self._expire, order, terms))

    def _expire(self, order: Order, terms: Terms) -> None:
        """The end of an order's time, unless it has been given another."""
        if order.terms is terms:
            self._cancelled(order)

    def _time_of(self, text: str) -> float:
        """A time in an order's terms; one that cannot be read is now."""
        try:
            return history.end_of(text, float("inf"))
        except history.BadRequest:
            return self.now

    def _reject(self, order: Order) -> None:
        self._end(order, "Inactive", "")
        self._tell(order, lambda session: session.order_changed(order))
        self._tell(order, lambda session: session.error(order.order_id, 201, acceptance.UNAFFORDABLE))

    def _acknowledged(self, order: Order) -> None:
        if order.is_done:
            return
        if order.terms.tif in ("IOC", "FOK") and not order.why_held and not self._is_marketable(order):
            self._tell(order, lambda session: session.order_opened(order))
            self._never_filled(order)
            return
        # A stop's first word is said twice by live gateways.
        for _ in range(2 if "trigger" in order.why_held and order.terms.order_type in STOPS - TRAILING else 1):
            self._tell(order, lambda session: session.order_changed(order))
        if not order.why_held:
            delay = max(order.held_until - self.now, self.behaviour.exchange_s)
            self._later(delay, partial(self._at_exchange, order))

    def _is_marketable(self, order: Order) -> bool:
        return matching.fill_of(order, self.market.prices(order.listing, self.now)) is not None

    def _at_exchange(self, order: Order) -> None:
        """The order has reached the exchange: it fills at once or rests."""
        if order.is_done or order.status == "PendingCancel" or order.why_held:
            return
        is_resting = order.terms.order_type != "MKT" and not self._is_marketable(order)
        if order.status == "PreSubmitted" and is_resting:
            order.status = "Submitted"
            self._tell(order, lambda session: session.order_changed(order))
        order.is_elected = True
        self._look_at(order)

    def _never_filled(self, order: Order) -> None:
        """An immediate order ends with what it has: all or nothing is never active, the other is cancelled."""
        if order.terms.tif == "FOK":
            self._end(order, "Inactive", "Cancelled by System:")
        else:
            order.status = "PendingCancel"
            self._tell(order, lambda session: session.status_changed(order))
            self._end(order, "Cancelled", "Cancelled by System:")
        self._tell(order, lambda session: session.status_changed(order))

    def _look_at(self, order: Order) -> None:
        """One look at the market for one order."""
        if order.is_done or order.status == "PendingCancel" or self.now < order.held_until:
            return
        if order.last_quote == self._quote_number():
            return
        prices = self.market.prices(order.listing, self.now)
        if order.why_held == "trigger" and matching.is_triggered(order, prices):
            order.is_elected, order.why_held, order.status = True, "", "Submitted"
            self._tell(order, lambda session: session.order_changed(order))
        if order.is_elected and not order.why_held and (found := matching.fill_of(order, prices)) is not None:
            self._fill(order, *found)

    def _fill(self, order: Order, price: float, quantity: float) -> None:
        listing, ledger = order.listing, self.ledgers[order.terms.account]
        fee = commission(listing, quantity, price)
        gain = ledger.fill(listing, quantity if order.is_buy else -quantity, price, fee)
        total = order.filled + quantity
        order.average_price = (order.average_price * order.filled + price * quantity) / total
        order.first_price = order.first_price or price
        order.filled, order.last_price, order.last_quote = total, price, self._quote_number()
        number = len(self.executions) + 1
        venue = _VENUES.get(listing.sec_type) or _STOCK_VENUES[scramble(self.seed + number) % len(_STOCK_VENUES)]
        execution = Execution(
            order=order,
            execution_id=f"{self._life & 0xFFFFFFFF:08x}.{number:08x}.01.01",
            time=self.now,
            exchange=venue,
            quantity=quantity,
            price=price,
            cumulative=total,
            average_price=order.average_price,
            last_liquidity=2,
            commission=fee,
            realized_pnl=gain,
        )
        self.executions.append(execution)
        if order.remaining <= 1e-9:
            self._end(order, "Filled", f"Filled Size: {total:g}")
        elif order.status == "PreSubmitted":
            order.status = "Submitted"
        self._tell(order, lambda session: session.executed(execution))
        self._tell(order, lambda session: session.order_changed(order))
        order.commission = (order.commission or 0.0) + fee
        self._later(self.behaviour.acknowledge_s, partial(self._report_commission, execution))
        for session in self.sessions:
            session.position_changed(order.terms.account, listing)
        if order.is_done:
            self._after_fill(order)
        elif order.terms.tif == "IOC":
            self._never_filled(order)

    def _report_commission(self, execution: Execution) -> None:
        self._tell(execution.order, lambda session: session.commission_reported(execution))

    def _after_fill(self, order: Order) -> None:
        """A filled parent releases its children; a filled member of a group cancels the others."""
        for child in self._children_of(order):
            self._hold(child)
            self._later(self.behaviour.exchange_s, partial(self._acknowledged, child))
        if order.terms.oca_group:
            for other in self.open_orders():
                if other.terms.oca_group == order.terms.oca_group:
                    self._later(self.behaviour.exchange_s, partial(self._cancelled, other))

    def _modify(self, order: Order, listing: Listing, terms: Terms) -> None:
        if order.status == "Filled":
            raise OrderRefused(104, "Cannot modify a filled order.")
        if order.is_done:
            raise OrderRefused(103, "Duplicate order id")
        if (terms.action, terms.account, listing) != (order.terms.action, order.terms.account, order.listing):
            raise OrderRefused(105, "Order being modified does not match original order.")
        order.is_elected = order.is_elected and terms.order_type == order.terms.order_type
        order.terms, order.stop_level = terms, None
        if order.is_staged:
            if terms.transmit:
                self._transmit(order)
            return
        self._hold(order)
        if order.remaining <= 0:
            self._later(self.behaviour.exchange_s, partial(self._cancelled, order))
        else:
            self._later(self.behaviour.acknowledge_s, partial(self._acknowledged, order))

    def _cancel(self, order: Order, client_id: int) -> None:
        """Ask for the end: told as pending at once, done when the exchange has heard."""
        order.cancelled_by = client_id
        if order.is_staged:
            self._end(order, "Cancelled", "Cancelled by Trader")
            return
        order.status = "PendingCancel"
        self._tell(order, lambda session: session.status_changed(order))
        self._later(self.behaviour.exchange_s, partial(self._cancelled, order))

    def _cancelled(self, order: Order) -> None:
        if order.is_done:
            return
        children = self._children_of(order)
        self._end(order, "Cancelled", "Cancelled by Trader")
        self._tell(order, lambda session: session.status_changed(order))
        self._tell(order, lambda session: session.error(order.order_id, 202, "Order Canceled - reason:"))
        for child in children:
            self._cancelled(child)

    def _end(self, order: Order, status: str, completed_status: str) -> None:
        order.status, order.why_held = status, ""
        order.completed_status, order.completed_time = completed_status, self.now
        self._alive.pop((order.client_id, order.order_id), None)

    def _tell(self, order: Order, what: Callable[[Listener], None]) -> None:
        """Tell the client that placed an order, and the one that cancels it."""
        for session in self.sessions:
            if session.client_id in (order.client_id, order.cancelled_by):
                what(session)
