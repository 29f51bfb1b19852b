"""What all that works orders shares: the time, the book of orders, the market, the accounts, and who is listening."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ibkr_gateway_server.simulator.agenda import Agenda
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.blotter import Blotter
from ibkr_gateway_server.simulator.hours import TradingHours
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.orders import Execution, Order
from ibkr_gateway_server.simulator.valuation import Valuation


class Listener(Protocol):
    """One connection, as the gateway sees it."""

    client_id: int
    binds_manual_orders: bool

    def order_bound(self, order: Order) -> None: ...
    def order_opened(self, order: Order) -> None: ...
    def order_changed(self, order: Order) -> None: ...
    def status_changed(self, order: Order) -> None: ...
    def executed(self, execution: Execution) -> None: ...
    def commission_reported(self, execution: Execution) -> None: ...
    def position_changed(self, account: str, listing: Listing) -> None: ...
    def error(self, req_id: int, code: int, text: str) -> None: ...


class Audience:
    """The connections that are on, and who of them hears of what."""

    def __init__(self) -> None:
        self.sessions: list[Listener] = []

    def of(self, order: Order) -> Iterator[Listener]:
        """The client that placed an order, and the one that cancels it. An order that was placed by hand has no client
        until it is bound."""
        for session in self.sessions:
            is_owner = session.client_id == order.client_id and not order.is_unbound
            if is_owner or session.client_id == order.cancelled_by:
                yield session

    def order_changed(self, order: Order) -> None:
        """openOrder and orderStatus."""
        order.told_revision = order.revision
        for session in self.of(order):
            session.order_changed(order)

    def status_changed(self, order: Order) -> None:
        """orderStatus; with the openOrder before it, if there has been none of these terms yet."""
        if not order.is_told:
            self.order_changed(order)
            return
        for session in self.of(order):
            session.status_changed(order)

    def error(self, order: Order, code: int, text: str) -> None:
        """An error or a warning about an order."""
        for session in self.of(order):
            session.error(order.order_id, code, text)

    def tell(self, order: Order, what: Callable[[Listener], None]) -> None:
        """Anything else about an order."""
        for session in self.of(order):
            what(session)

    def position_changed(self, account: str, listing: Listing) -> None:
        """Every client may watch positions."""
        for session in self.sessions:
            session.position_changed(account, listing)


@dataclass(slots=True)
class Floor:
    """Where orders are worked."""

    agenda: Agenda
    blotter: Blotter
    audience: Audience
    market: Market
    ledgers: dict[str, Ledger]
    valuation: Valuation
    behaviour: Behaviour
    hours: TradingHours
