"""What the steps share: connections that keep every callback, waiting, contracts and orders."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order
from ibapi.order_cancel import OrderCancel
from ibapi.wrapper import EWrapper

from compat.record import Recorder, Script

ACCOUNT = "DU1234567"
CLIENT, WATCHER, LATE = 3, 9, 5
# Far above what any step takes, so that a busy machine fails none.
PATIENCE_S = 15.0
# What the library calls a request's id, by callback.
REQUEST_IDS = ("reqId", "tickerId", "requestId")

script = Script()
step = script.step


class Connection(EWrapper, EClient):
    """One connection; its callbacks are kept, each with its arguments by their names."""

    def __init__(self) -> None:
        EWrapper.__init__(self)
        EClient.__init__(self, self)
        self.events: list[SimpleNamespace] = []
        self.judged = 0
        """As many of them have been looked at for errors."""
        self._thread: threading.Thread | None = None

    def open(self, port: int, client_id: int) -> None:
        """Connect and handle what comes in a thread of its own, as IBKR's documentation has it."""
        self.connect("127.0.0.1", port, client_id)
        self._thread = threading.Thread(target=self.run, name=f"client {client_id}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Disconnect, and wait for the thread's end."""
        self.disconnect()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive(), "its thread has not ended"

    @property
    def is_lost(self) -> bool:
        """Whether its thread has ended: at a message that the library cannot read, it does."""
        return self._thread is not None and not self._thread.is_alive()

    def told(self, callback: str, since: int = 0, **wanted: Any) -> list[SimpleNamespace]:
        """Events of a callback, from the `since`-th event on, whose arguments are these."""
        return [
            event
            for event in self.events[since:]
            if event.callback == callback and all(getattr(event, name) == value for name, value in wanted.items())
        ]


def _keeping(name: str, signature: inspect.Signature) -> Callable[..., None]:
    def keep(self: Connection, *arguments: Any, **named: Any) -> None:
        found = signature.bind(self, *arguments, **named)
        found.apply_defaults()
        values = {key: value for key, value in found.arguments.items() if key != "self"}
        for alias in REQUEST_IDS:
            if alias in values:
                values["reqId"] = values[alias]
        self.events.append(SimpleNamespace(callback=name, **values))

    return keep


for _name, _method in inspect.getmembers(EWrapper, inspect.isfunction):
    if not _name.startswith("_") and not _name.endswith("ProtoBuf"):
        setattr(Connection, _name, _keeping(_name, inspect.signature(_method)))


class Talk:
    """One client's conversation."""

    def __init__(self, recorder: Recorder, port: int, closed_port: int, server_version: int) -> None:
        self.port, self.closed_port, self.server_version = port, closed_port, server_version
        self.recorder = recorder
        self.api, self.watcher = Connection(), Connection()
        self._request_id, self._order_id = 1000, 0
        self.since = 0
        """Where this step's events begin."""
        self.aapl = contract("AAPL", "STK", conId=265598)
        self.ibm = contract("IBM", "STK", conId=8314)
        self.filled = 0
        """The id of an order that has filled."""

    def begin(self) -> None:
        """A step begins."""
        self.since = len(self.api.events)

    def end(self) -> None:
        """A step has ended: hand its errors to the recorder."""
        for connection in (self.api, self.watcher):
            for event in connection.told("error", connection.judged):
                self.recorder.error(event.reqId, event.errorCode, event.errorString)
            connection.judged = len(connection.events)

    def reconnected(self) -> None:
        """A new connection takes the place of one that is closed."""
        self.end()
        self.api = Connection()
        self.since = 0

    def next_id(self) -> int:
        """An id for a request."""
        self._request_id += 1
        return self._request_id

    def next_order_id(self) -> int:
        """An id for an order, from the first that the gateway has told."""
        self._order_id = max(self._order_id + 1, self.api.told("nextValidId")[0].orderId)
        return self._order_id

    def until(self, what: str, is_so: Callable[[], Any]) -> Any:
        """Wait for a condition. Returns what it returns. Raises TimeoutError with what was waited for."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := is_so():
                return found
            if self.api.is_lost:
                raise ConnectionError(f"the client's thread has ended; waited for: {what}")
            time.sleep(0.005)
        raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")

    def wait(self, callback: str, count: int = 1, **wanted: Any) -> list[SimpleNamespace]:
        """Wait for so many events of this step, and return all there are."""
        self.until(f"{count} {callback}", lambda: len(self.told(callback, **wanted)) >= count)
        return self.told(callback, **wanted)

    def told(self, callback: str, **wanted: Any) -> list[SimpleNamespace]:
        """This step's events."""
        return self.api.told(callback, self.since, **wanted)

    def error(self, code: int, count: int = 1, **wanted: Any) -> SimpleNamespace:
        """Wait for an error code; the first such error of this step."""
        return self.wait("error", count, errorCode=code, **wanted)[0]

    def ask(self, request: Callable[..., None], *arguments: Any, rows: str, end: str) -> list[SimpleNamespace]:
        """Send a request whose first argument is an id; its rows, once its end has come."""
        req_id = self.next_id()
        request(req_id, *arguments)
        self.wait(end, reqId=req_id)
        return self.told(rows, reqId=req_id)

    def quote(self) -> tuple[float, float]:
        """Bid and ask of AAPL now."""
        rows = self.ask(self.api.reqMktData, self.aapl, "", True, False, [], rows="tickPrice", end="tickSnapshotEnd")
        prices = {row.tickType: row.price for row in rows}
        return prices[1], prices[2]

    def place(self, wanted: Order, status: str, what: Contract | None = None) -> int:
        """Place an order and wait until it has a status. Returns its id."""
        order_id = self.next_order_id()
        self.api.placeOrder(order_id, what or self.aapl, wanted)
        self.wait("orderStatus", orderId=order_id, status=status)
        return order_id

    def seen(self, order_id: int) -> tuple[SimpleNamespace, SimpleNamespace]:
        """An order as another client is told of it: openOrder and orderStatus."""
        since = len(self.watcher.events)
        self.watcher.reqAllOpenOrders()
        self.until("the orders' end", lambda: self.watcher.told("openOrderEnd", since))
        (opened,) = self.watcher.told("openOrder", since, orderId=order_id)
        (status,) = self.watcher.told("orderStatus", since, orderId=order_id)
        return opened, status

    def cancel(self, order_id: int) -> None:
        """Cancel an order, wait for both its words."""
        self.api.cancelOrder(order_id, OrderCancel())
        self.wait("orderStatus", orderId=order_id, status="Cancelled")
        self.error(202, reqId=order_id)


def contract(symbol: str, kind: str, **more: Any) -> Contract:
    """A contract; in dollars, routed by SMART, unless told otherwise."""
    found = Contract()
    found.symbol, found.secType, found.currency, found.exchange = symbol, kind, "USD", "SMART"
    for name, value in more.items():
        assert hasattr(found, name), name
        setattr(found, name, value)
    return found


def order(kind: str, action: str = "BUY", quantity: int = 10, **more: Any) -> Order:
    """An order of a type."""
    found = Order()
    found.action, found.totalQuantity, found.orderType = action, Decimal(quantity), kind
    for name, value in more.items():
        assert hasattr(found, name), name
        setattr(found, name, value)
    return found
