"""One connection as a state machine: bytes in, bytes out, no socket and no clock.

    hello ("API\\0", versions) → version agreed → startApi → running → closed

`receive` takes what has arrived; `take` gives what is to be sent, in the pieces in which a live gateway sends it.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from enum import Enum

from ibkr_gateway_server.simulator.behaviour import MIN_CLIENT_VERSION
from ibkr_gateway_server.simulator.codec import messages, orders
from ibkr_gateway_server.simulator.faults import Fault
from ibkr_gateway_server.simulator.feeds import Feeds
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.orders import Execution, Order
from ibkr_gateway_server.simulator.requests import HANDLERS
from ibkr_gateway_server.simulator.requests.accounts import tell_position
from ibkr_gateway_server.simulator.wire import Fields, FrameReader, ProtocolError, UnreadableRequest, frame, split

_VERSIONS = re.compile(rb"v(\d{1,4})(?:\.\.(\d{1,4}))?(?: .*)?", re.DOTALL)

START_API = 71

# The fastest a client may send. Source: TWS API, error 100.
MESSAGES_PER_SECOND = 50

# Notices after the start, as live gateways send them.
_FARMS = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefnj"),
)


class Stage(Enum):
    """How far the conversation is."""

    HELLO = 1
    VERSION = 2
    AGREED = 3
    RUNNING = 4
    CLOSED = 5


class Session:
    """One client's connection. Subscriptions live here; accounts and orders in the gateway."""

    def __init__(self, gateway: Gateway, counts: Counter[int] | None = None) -> None:
        self.gateway = gateway
        self.version = 0
        self.client_id = -1
        self.stage = Stage.HELLO
        self.data_type = 1
        self.feeds = Feeds()
        self.binds_manual_orders = False
        self._counts = counts if counts is not None else Counter()
        self._arrivals: deque[float] = deque(maxlen=MESSAGES_PER_SECOND + 1)
        self._reader = FrameReader()
        self._pieces: list[bytes] = []
        self._piece: list[bytes] = []
        self.is_aborted = False

    @property
    def is_closed(self) -> bool:
        """True when nothing more is said; send what is left and close."""
        return self.stage is Stage.CLOSED

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the client. Malformed ones close the connection, as a live gateway does."""
        if self.is_closed:
            return
        self.gateway.advance(now)
        self._reader.feed(data)
        try:
            self._read()
        except ProtocolError:
            self.close()

    def advance(self) -> None:
        """Send what is new since the last look: ticks, bars, P&L."""
        if self.stage is not Stage.RUNNING:
            return
        self.send(*self.feeds.changes(self.gateway.market, self.gateway.now))

    def take(self) -> list[bytes]:
        """Bytes to send; each piece goes out by itself."""
        self._cut()
        pieces, self._pieces = self._pieces, []
        return pieces

    def close(self) -> None:
        """End the conversation; what was said still goes out."""
        self.stage = Stage.CLOSED
        if self in self.gateway.sessions:
            self.gateway.sessions.remove(self)

    def abort(self) -> None:
        """End it as a crash does: nothing more goes out."""
        self.close()
        self.is_aborted = True
        self._piece, self._pieces = [], []

    def send(self, *messages_: Iterable[str]) -> None:
        """Queue messages; all of one look go out in one piece."""
        faults = self.gateway.faults
        for message in messages_:
            fields = list(message)
            if not faults.loses(fields[0]):
                self._piece.append(frame(fields))

    def error(self, req_id: int, code: int, text: str) -> None:
        """Send an error or a notice."""
        self.send(messages.error(self.version, req_id, code, text, self.gateway.now))

    def notify(self, code: int, text: str) -> None:
        """Send a notice that belongs to no request, once the conversation is on."""
        if self.stage is Stage.RUNNING:
            self.error(-1, code, text)

    def _cut(self) -> None:
        """What is said from here on goes out by itself."""
        if self._piece:
            self._pieces.append(b"".join(self._piece))
            self._piece = []

    def _read(self) -> None:
        if self.stage is Stage.HELLO and not self._hello():
            return
        for payload in self._reader.payloads():
            self._payload(payload)
            if self.is_closed:
                break

    def _hello(self) -> bool:
        """Whether the client has said what it speaks."""
        hello = self._reader.take(4)
        if hello is None:
            return False
        if hello != b"API\0":
            raise ProtocolError("not the TWS API")
        self.stage = Stage.VERSION
        return True

    def _payload(self, payload: bytes) -> None:
        if self.stage is Stage.VERSION:
            self._agree(payload)
        else:
            self._message(split(payload))

    def _agree(self, payload: bytes) -> None:
        """The highest version both know; a client that knows none of ours is sent away."""
        versions = _VERSIONS.fullmatch(payload)
        if versions is None:
            raise ProtocolError("no version range")
        version = min(int(versions[2] or versions[1]), self.gateway.behaviour.max_version)
        if version < MIN_CLIENT_VERSION or version < int(versions[1]):
            self.close()
            return
        self.version = version
        self.stage = Stage.AGREED
        # This reply goes out alone: a client that reads it discards whatever came with it.
        self.send([str(version), messages.connection_time(self.gateway.now)])
        self._cut()

    def _message(self, fields: list[str]) -> None:
        if not fields or len(fields[0]) > 9 or not (fields[0].isascii() and fields[0].isdigit()):
            raise ProtocolError("no message id")
        message_id = int(fields[0])
        self._counts[message_id] += 1
        fault = self.gateway.faults.take(message_id)
        if fault is Fault.DISCONNECT_BEFORE:
            self.abort()
        if fault in (Fault.LOSE, Fault.DISCONNECT_BEFORE) or self._is_too_fast():
            return
        self._answer(message_id, Fields(fields[1:]))
        if fault is Fault.DISCONNECT_AFTER:
            self.abort()

    def _answer(self, message_id: int, fields: Fields) -> None:
        handler = HANDLERS.get(message_id)
        if self.stage is Stage.AGREED:
            if message_id == START_API:
                self._start(fields)
        elif handler is None:
            self.error(-1, 507, "Bad Message Length null")
            self.close()
        else:
            try:
                handler(self, fields)
            except UnreadableRequest as unreadable:
                self.error(-1, 320, f"Error reading request.Message id {message_id}. {unreadable}")

    def _is_too_fast(self) -> bool:
        """Whether the connection has just ended for sending too fast."""
        self._arrivals.append(self.gateway.now)
        if not self.gateway.behaviour.enforces_pacing or len(self._arrivals) <= MESSAGES_PER_SECOND:
            return False
        if self._arrivals[-1] - self._arrivals[0] >= 1.0:
            return False
        text = (
            f"Max rate of messages per second has been exceeded:max={MESSAGES_PER_SECOND} rec={len(self._arrivals)} (1)"
        )
        self.error(-1, 100, text)
        self.close()
        return True

    def _start(self, fields: Fields) -> None:
        fields.skip()
        client_id = fields.integer()
        if any(session.client_id == client_id for session in self.gateway.sessions):
            self.error(-1, 326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
            self.close()
            return
        self.client_id = client_id
        self.stage = Stage.RUNNING
        self.gateway.sessions.append(self)
        self._repeat_open_orders()
        self.send(messages.managed_accounts(tuple(self.gateway.ledgers)))
        self.send(messages.next_valid_id(self.gateway.next_order_id(client_id)))
        for code, text in _FARMS:
            self.error(-1, code, text)

    def _repeat_open_orders(self) -> None:
        """Before anything else a client that comes back is told of its open orders, as captured in 2026."""
        own = [each for each in self.gateway.open_orders() if each.client_id == self.client_id and not each.is_unbound]
        for order in own:
            self.order_changed(order)
        if own:
            self.send(messages.open_order_end())

    def order_bound(self, order: Order) -> None:
        """orderBound: an order that was placed by hand has an id from now on."""
        self.send(orders.order_bound(order))

    def order_opened(self, order: Order) -> None:
        """openOrder alone."""
        self.send(orders.open_order(self.version, order))

    def order_changed(self, order: Order) -> None:
        """openOrder and orderStatus."""
        self.send(orders.open_order(self.version, order), orders.order_status(order))

    def status_changed(self, order: Order) -> None:
        """orderStatus alone. A cancelled order's carries the id of the client that cancelled it."""
        self.send(orders.order_status(order, order.cancelled_by))

    def executed(self, execution: Execution) -> None:
        """execDetails under no request."""
        self.send(orders.exec_details(self.version, -1, execution))

    def commission_reported(self, execution: Execution) -> None:
        """commissionReport."""
        currency = execution.order.listing.currency
        report = (execution.execution_id, execution.commission, currency, execution.realized_pnl)
        self.send(messages.commission_report(*report))

    def position_changed(self, account: str, listing: Listing) -> None:
        """A position after a fill, to those who follow positions."""
        tell_position(self, account, listing)
