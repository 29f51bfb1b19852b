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
from typing import Protocol

from ibkr_gateway_server.simulator import matching
from ibkr_gateway_server.simulator.codec.orders import Preview
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery, Listing
from ibkr_gateway_server.simulator.ledger import Ledger, commission
from ibkr_gateway_server.simulator.market import Market, scramble
from ibkr_gateway_server.simulator.orders import KNOWN_TYPES, Execution, Order, Terms

START_CASH = 1_000_000.0
FIRST_PERM_ID = 1_000_000_000

# Seconds, as on a nearby live gateway: from a request to its acknowledgement, from there to the exchange's word.
ACKNOWLEDGE_S = 0.005
EXCHANGE_S = 0.02

UNAFFORDABLE = (
    "Order rejected - reason:We are unable to accept your order. Your Available Funds are insufficient to cover the "
    "Initial Margin of this order."
)

_STOCK_VENUES = ("IEX", "NASDAQ", "ARCA", "BATS", "EDGX", "NYSE")
_VENUES = {"FUT": "CME", "OPT": "CBOE", "CASH": "IDEALPRO"}


class Listener(Protocol):
    """One connection, as the gateway sees it."""

    client_id: int

    def order_changed(self, order: Order, *, client_id: int | None = None) -> None: ...
    def status_changed(self, order: Order, *, client_id: int | None = None) -> None: ...
    def executed(self, execution: Execution) -> None: ...
    def commission_reported(self, execution: Execution) -> None: ...
    def position_changed(self, account: str, listing: Listing) -> None: ...
    def order_error(self, order_id: int, code: int, text: str) -> None: ...


class OrderRefused(Exception):
    """An order, change or cancel that the gateway answers with an error code alone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


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
        *,
        acknowledge_s: float = ACKNOWLEDGE_S,
        exchange_s: float = EXCHANGE_S,
    ) -> None:
        self.seed = seed
        self.now = now
        self.market = Market(seed)
        self.catalogue = Catalogue(datetime.fromtimestamp(now, UTC).date())
        self.ledgers = {account: Ledger(account, START_CASH) for account in accounts}
        self.orders: dict[tuple[int, int], Order] = {}
        self.executions: list[Execution] = []
        self.sessions: list[Listener] = []
        self._acknowledge_s = acknowledge_s
        self._exchange_s = exchange_s
        self._next_order_ids: dict[int, int] = {}
        self._events: list[_Event] = []
        self._numbers = itertools.count()
        # Unique for ever, as IBKR's are: a gateway that is started again must not repeat those of its last life.
        self._life = int(now)
        self._perm_ids = itertools.count(FIRST_PERM_ID + (self._life * 1000 + seed) % 1_000_000_000)
        self._seed_positions()

    # --- time ----------------------------------------------------------------------------------------------------

    @property
    def next_event_time(self) -> float | None:
        """When something is due next; None: nothing is."""
        return self._events[0].time if self._events else None

    def advance(self, now: float) -> None:
        """Let time pass: do what is due, in order, then look at every working order."""
        while self._events and self._events[0].time <= now:
            event = heapq.heappop(self._events)
            self.now = max(self.now, event.time)
            event.act()
        self.now = max(self.now, now)
        for order in list(self.orders.values()):
            if not order.is_done and not order.is_staged and order.why_held != "child":
                self._look_at(order)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, _Event(self.now + delay_s, next(self._numbers), act))

    # --- ids and accounts ----------------------------------------------------------------------------------------

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

    def _seed_positions(self) -> None:
        """Something to look at: a few positions in the first account."""
        ledger = next(iter(self.ledgers.values()))
        held = (("AAPL", "STK", 100.0, 0.97), ("SPY", "STK", 40.0, 0.985), ("MES", "FUT", 1.0, 0.995))
        for symbol, kind, quantity, ratio in held:
            listing = self.catalogue.match(ContractQuery(symbol=symbol, sec_type=kind))[0]
            prices = self.market.prices(listing, self.now)
            cost = self.market.rounded(listing, prices.mark * ratio)
            ledger.open_at_start(listing, quantity, cost, prices.close)
            if kind != "FUT":
                ledger.cash -= quantity * cost

    # --- orders --------------------------------------------------------------------------------------------------

    def place(self, client_id: int, order_id: int, contract: ContractQuery, terms: Terms) -> None:
        """A new order, or a change of a working one. Raises OrderRefused with IBKR's code and text."""
        known = self.orders.get((client_id, order_id))
        listing = self._tradable(contract)
        self._check(terms, listing)
        if known is not None:
            self._modify(known, terms)
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
        listing = self._tradable(contract)
        self._check(terms, listing)
        order = Order(client_id, order_id, 0, contract, listing, terms)
        signed = terms.quantity if order.is_buy else -terms.quantity
        price = terms.limit_price if terms.order_type in matching.LIMITED and terms.limit_price else self.mark(listing)
        figures = self.ledgers[terms.account].figures(self.mark)
        held = self.ledgers[terms.account].holdings.get(listing.con_id)
        quantity = held.quantity if held else 0.0
        change = (abs(quantity + signed) - abs(quantity)) * price * listing.units * listing.margin_rate
        fee = commission(listing, terms.quantity, price)
        before = (figures.initial_margin, figures.maintenance_margin, figures.net_liquidation)
        changes = (change * 1.1, change, -fee)
        after = tuple(now + more for now, more in zip(before, changes, strict=True))
        return order, Preview(before, changes, (after[0], after[1], after[2]), fee, listing.currency)

    def cancel(self, client_id: int, order_id: int) -> None:
        """Cancel an order. Raises OrderRefused with IBKR's code and text."""
        order = self.orders.get((client_id, order_id))
        if order is None:
            raise OrderRefused(10147, f"OrderId {order_id} that needs to be cancelled is not found.")
        if order.is_done:
            state = order.status
            raise OrderRefused(
                10148, f"OrderId {order_id} that needs to be cancelled can not be cancelled, state: {state}."
            )
        if order.is_staged:
            self._end(order, "Cancelled", "Cancelled by Trader")
            return
        order.status = "PendingCancel"
        self._tell(lambda session: session.status_changed(order))
        self._later(self._exchange_s, lambda: self._cancelled(order))

    def cancel_all(self) -> None:
        """reqGlobalCancel: every open order of the login."""
        for order in self.open_orders():
            self.cancel(order.client_id, order.order_id)

    def open_orders(self) -> list[Order]:
        """Orders that may still fill, oldest first."""
        return [order for order in self.orders.values() if not order.is_done and not order.is_staged]

    def completed_orders(self) -> list[Order]:
        """Orders that have ended today, oldest first."""
        return [order for order in self.orders.values() if order.is_done and order.completed_status]

    # --- an order's life -----------------------------------------------------------------------------------------

    def _tradable(self, contract: ContractQuery) -> Listing:
        matches = self.catalogue.match(contract)
        if not matches:
            raise OrderRefused(200, "No security definition has been found for the request")
        if len(matches) > 1:
            raise OrderRefused(200, f"The contract description specified for {contract.symbol} is ambiguous.")
        if not matches[0].is_tradable:
            raise OrderRefused(201, "Order rejected - reason:This contract is not available for trading.")
        return matches[0]

    def _check(self, terms: Terms, listing: Listing) -> None:
        if terms.order_type not in KNOWN_TYPES:
            raise OrderRefused(321, "Error validating request.-'bF' : cause - Invalid order type was entered")
        if terms.order_type not in matching.STOPS | matching.TOUCHES | {"MKT", "LMT"}:
            raise OrderRefused(387, "Unsupported order type for this exchange and security type.")
        if terms.action not in ("BUY", "SELL"):
            raise OrderRefused(321, "Error validating request.-'bF' : cause - Invalid action was entered")
        if terms.quantity <= 0:
            raise OrderRefused(434, "The order size cannot be zero.")
        if terms.quantity % 1 and listing.sec_type != "CASH":
            raise OrderRefused(
                10243,
                "Fractional-sized order cannot be placed via API. Please use desktop version to place this order.",
            )
        terms.account = terms.account or (next(iter(self.ledgers)) if len(self.ledgers) == 1 else "")
        if terms.account not in self.ledgers:
            raise OrderRefused(321, "Error validating request.-'bF' : cause - You must specify a valid account")
        for price in (terms.limit_price if terms.order_type in matching.LIMITED else None, self._stop_of(terms)):
            if price is not None and abs(self.market.rounded(listing, price) - price) > 1e-9:
                raise OrderRefused(110, "The price does not conform to the minimum price variation for this contract.")

    @staticmethod
    def _stop_of(terms: Terms) -> float | None:
        return terms.aux_price if terms.order_type in matching.STOPS | matching.TOUCHES - {"TRAIL"} else None

    def _transmit(self, order: Order) -> None:
        order.is_staged = False
        parent = self.orders.get((order.client_id, order.terms.parent_id)) if order.terms.parent_id else None
        if parent is not None and parent.is_staged:
            self._transmit(parent)
            staged = [each for each in self.orders.values() if each.is_staged and each.client_id == order.client_id]
            for sibling in staged:
                if sibling.terms.parent_id == parent.order_id:
                    self._transmit(sibling)
        if not self._affordable(order):
            self._later(self._acknowledge_s, lambda: self._reject(order))
            return
        if parent is not None and parent.status != "Filled":
            order.why_held = "child"
        elif matching.waits_for_trigger(order):
            order.why_held = "trigger"
        elif not order.is_buy and order.listing.sec_type == "STK":
            # Live gateways report a stock's sale as Submitted from its first word on; everything else as PreSubmitted.
            order.status = "Submitted"
        self._later(self._acknowledge_s, lambda: self._acknowledged(order))

    def _affordable(self, order: Order) -> bool:
        ledger, listing = self.ledgers[order.terms.account], order.listing
        held = ledger.holdings.get(listing.con_id)
        quantity = held.quantity if held else 0.0
        signed = order.terms.quantity if order.is_buy else -order.terms.quantity
        added = abs(quantity + signed) - abs(quantity)
        if added <= 0:
            return True
        price = order.terms.limit_price if order.terms.order_type in matching.LIMITED else None
        need = added * (price or self.mark(listing)) * listing.units * listing.margin_rate * 1.1
        return need <= ledger.figures(self.mark).available

    def _reject(self, order: Order) -> None:
        order.status = "Inactive"
        self._end(order, "Inactive", "")
        self._tell(lambda session: session.order_changed(order))
        self._tell(lambda session: session.order_error(order.order_id, 201, UNAFFORDABLE), order.client_id)

    def _acknowledged(self, order: Order) -> None:
        if order.is_done:
            return
        self._tell(lambda session: session.order_changed(order))
        if not order.why_held:
            self._later(self._exchange_s, lambda: self._at_exchange(order))

    def _at_exchange(self, order: Order) -> None:
        """The order has reached the exchange: it fills at once, rests, or ends."""
        if order.is_done or order.status == "PendingCancel":
            return
        prices = self.market.prices(order.listing, self.now)
        is_marketable = matching.fill_of(order, prices) is not None
        if order.terms.tif in ("IOC", "FOK") and not is_marketable:
            self._never_filled(order)
            return
        if order.status == "PreSubmitted" and order.terms.order_type != "MKT" and not is_marketable:
            order.status = "Submitted"
            self._tell(lambda session: session.order_changed(order))
        order.is_elected = True
        self._look_at(order)

    def _never_filled(self, order: Order) -> None:
        if order.terms.tif == "FOK":
            self._end(order, "Inactive", "Cancelled by System:")
        else:
            order.status = "PendingCancel"
            self._tell(lambda session: session.status_changed(order))
            self._end(order, "Cancelled", "Cancelled by System:")
        self._tell(lambda session: session.status_changed(order))

    def _look_at(self, order: Order) -> None:
        """One look at the market for one order."""
        if order.status == "PendingCancel":
            return
        prices = self.market.prices(order.listing, self.now)
        if matching.waits_for_trigger(order):
            if order.why_held != "trigger" or not matching.is_triggered(order, prices):
                return
            order.is_elected, order.why_held, order.status = True, "", "Submitted"
            self._tell(lambda session: session.order_changed(order))
        if order.is_elected and (found := matching.fill_of(order, prices)) is not None:
            self._fill(order, *found)

    def _fill(self, order: Order, price: float, quantity: float) -> None:
        listing, ledger = order.listing, self.ledgers[order.terms.account]
        fee = commission(listing, quantity, price)
        gain = ledger.fill(listing, quantity if order.is_buy else -quantity, price, fee)
        total = order.filled + quantity
        order.average_price = (order.average_price * order.filled + price * quantity) / total
        order.filled, order.last_price = total, price
        number = len(self.executions) + 1
        venue = _VENUES.get(listing.sec_type) or _STOCK_VENUES[scramble(self.seed + number) % len(_STOCK_VENUES)]
        mixed = (self._life << 24) + self.seed * 1_000_003 + number
        execution = Execution(
            order=order,
            execution_id=f"0000e0d5.{scramble(mixed) >> 32:08x}.{number:02d}.01",
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
        order.executions.append(execution.execution_id)
        if order.remaining <= 1e-9:
            self._end(order, "Filled", f"Filled Size: {total:g}")
        elif order.status == "PreSubmitted":
            order.status = "Submitted"
        self._tell(lambda session: session.executed(execution))
        self._tell(lambda session: session.order_changed(order))
        order.commission = (order.commission or 0.0) + fee
        self._later(self._acknowledge_s, lambda: self._tell(lambda session: session.commission_reported(execution)))
        self._tell(lambda session: session.position_changed(order.terms.account, listing))
        if order.is_done:
            self._after_fill(order)
        elif order.terms.tif == "IOC":
            self._never_filled(order)

    def _after_fill(self, order: Order) -> None:
        """A filled parent releases its children; a filled member of a group cancels the others."""
        for other in self.open_orders():
            if other.terms.parent_id == order.order_id and other.client_id == order.client_id:
                other.why_held = "trigger" if matching.waits_for_trigger(other) else ""
                self._later(self._exchange_s, lambda other=other: self._acknowledged(other))  # type: ignore[misc]
            elif order.terms.oca_group and other.terms.oca_group == order.terms.oca_group:
                self._later(self._exchange_s, lambda other=other: self._cancelled(other))  # type: ignore[misc]

    def _modify(self, order: Order, terms: Terms) -> None:
        if order.is_done:
            raise OrderRefused(104, "Cannot modify a filled order.")
        if terms.action != order.terms.action:
            raise OrderRefused(105, "Order being modified does not match original order.")
        order.terms = terms
        if order.is_staged and terms.transmit:
            self._transmit(order)
        elif not order.is_staged:
            order.is_elected = order.is_elected and not matching.waits_for_trigger(order)
            self._later(self._acknowledge_s, lambda: self._acknowledged(order))

    def _cancelled(self, order: Order) -> None:
        if order.is_done:
            return
        self._end(order, "Cancelled", "Cancelled by Trader")
        self._tell(lambda session: session.status_changed(order))
        self._tell(
            lambda session: session.order_error(order.order_id, 202, "Order Canceled - reason:"), order.client_id
        )

    def _end(self, order: Order, status: str, completed_status: str) -> None:
        order.status, order.why_held = status, ""
        order.completed_status, order.completed_time = completed_status, self.now

    def _tell(self, what: Callable[[Listener], None], client_id: int | None = None) -> None:
        """Tell every session, or those of one client; each session knows what concerns it."""
        for session in self.sessions:
            if client_id is None or session.client_id == client_id:
                what(session)
