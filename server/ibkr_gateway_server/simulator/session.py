"""One connection as a state machine: bytes in, bytes out, no socket and no clock.

    hello ("API\\0", versions) → version agreed → startApi → running → closed

`receive` takes what has arrived; `take` gives what is to be sent, in the pieces in which a live gateway sends it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from enum import Enum

from ibkr_gateway_server.simulator.behaviour import MAX_SERVER_VERSION, MIN_CLIENT_VERSION
from ibkr_gateway_server.simulator.codec import messages, orders
from ibkr_gateway_server.simulator.faults import Fault, Rule
from ibkr_gateway_server.simulator.faults.outage import PASSING
from ibkr_gateway_server.simulator.faults.replies import Broken, Troubled, skewed
from ibkr_gateway_server.simulator.faults.requests import IN_USE, PACING, READ_ONLY, id_of, text_of
from ibkr_gateway_server.simulator.faults.rules import MESSAGES_OF
from ibkr_gateway_server.simulator.feeds import Feeds
from ibkr_gateway_server.simulator.feeds.bars import LiveBars
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.orders import Execution, Order
from ibkr_gateway_server.simulator.pacing import MESSAGES_PER_SECOND, MessagePace
from ibkr_gateway_server.simulator.requests import HANDLERS
from ibkr_gateway_server.simulator.requests.accounts import tell_position
from ibkr_gateway_server.simulator.wire import Fields, FrameReader, ProtocolError, UnreadableRequest, frame, split

_VERSIONS = re.compile(rb"v(\d{1,4})(?:\.\.(\d{1,4}))?(?: .*)?", re.DOTALL)

START_API = 71
HISTORICAL_BARS, REAL_TIME_BARS, TICK_BY_TICK = 20, 50, 97
# Under this id violations of the limit on all messages are counted.
ANY_MESSAGE = 0
# What is answered to a request that came too fast; one for ticks is only counted, since nobody has told the answer.
REFUSALS = {
    HISTORICAL_BARS: (162, PACING),
    REAL_TIME_BARS: (420, "Invalid Real-time Query:Historical data request pacing violation"),
}

# What was half said is on its way before the connection breaks.
_HALF_SAID_S = 0.05


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
        self._pace = MessagePace()
        self._reader = FrameReader()
        self._pieces: list[bytes] = []
        self._piece: list[bytes] = []
        self._troubled = Troubled(gateway.later, self._say)
        # While the link is lost: what a live gateway hears of when it is back.
        self._held: list[list[str]] = []
        self._is_answering = False
        self._is_half_said = False
        self.is_stuck = gateway.faults.take_connection({Fault.NEVER_GREET}, gateway.now) is not None
        """True: it neither reads nor says anything."""
        self.is_half_open = False
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
        self.look_at_connection()
        if self.is_stuck or self._is_half_said or self.is_closed:
            return
        self._reader.feed(data)
        try:
            self._read()
        except ProtocolError:
            self.close()

    def advance(self) -> None:
        """Send what is new since the last look: ticks, bars, P&L."""
        self.look_at_connection()
        if self.stage is not Stage.RUNNING:
            return
        market, now, outage = self.gateway.market, self.gateway.now, self.gateway.faults.outage
        if outage.is_any:
            self.send(*self.feeds.changes(market, now, outage.silences, PASSING))
        else:
            self.send(*self.feeds.changes(market, now))

    def take(self) -> list[bytes]:
        """Bytes to send; each piece goes out by itself."""
        if self.is_stuck:
            return []
        self._cut()
        pieces, self._pieces = self._pieces, []
        faults, now = self.gateway.faults, self.gateway.now
        if pieces and faults.touch_connections:
            if faults.lasting(Fault.MERGE, now) is not None:
                pieces = [b"".join(pieces)]
            if (split_ := faults.lasting(Fault.SPLIT, now)) is not None:
                whole, size = b"".join(pieces), split_.number
                pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        return pieces

    def look_at_connection(self) -> None:
        """Whether the connection works: a half-open one does not, and breaks when that is over."""
        faults = self.gateway.faults
        if not self.is_half_open and not faults.touch_connections:
            return
        is_half_open = faults.lasting(Fault.HALF_OPEN, self.gateway.now) is not None
        if is_half_open:
            self.is_stuck = self.is_half_open = True
        elif self.is_half_open:
            self.abort()

    def close(self) -> None:
        """End the conversation; what was said still goes out."""
        self.stage = Stage.CLOSED
        if self in self.gateway.sessions:
            self.gateway.sessions.remove(self)

    def abort(self) -> None:
        """End it as a crash does: nothing more goes out."""
        self.close()
        self.is_aborted, self.is_stuck = True, False
        self._piece, self._pieces, self._held = [], [], []

    def send(self, *messages_: Iterable[str]) -> None:
        """Queue messages; all of one look go out in one piece."""
        faults = self.gateway.faults
        for message in messages_:
            fields = list(message)
            if faults.outage.link_is_lost and not self._is_answering:
                self._held.append(fields)
            elif faults.touch_replies or faults.outage.skew_s or self._troubled.is_waiting:
                self._send_troubled(fields)
            else:
                self._say(frame(fields))

    def say_held(self) -> None:
        """The link is back: say what has happened without it."""
        held, self._held = self._held, []
        self.send(*held)

    def error(self, req_id: int, code: int, text: str) -> None:
        """Send an error or a notice."""
        self.send(messages.error(self.version, req_id, code, text, self.gateway.now))

    def notify(self, code: int, text: str) -> None:
        """Send a notice that belongs to no request, once the conversation is on."""
        if self.stage is Stage.RUNNING:
            was_answering, self._is_answering = self._is_answering, True
            self.error(-1, code, text)
            self._is_answering = was_answering

    def _say(self, data: bytes) -> None:
        if not (self._is_half_said or self.is_aborted):
            self._piece.append(data)

    def _send_troubled(self, fields: list[str]) -> None:
        faults, now = self.gateway.faults, self.gateway.now
        # The handshake's reply is the one message without an id; a number that is no id of a message means none.
        is_message = self.stage not in (Stage.HELLO, Stage.VERSION, Stage.AGREED) or fields[0] == "4"
        rule = faults.take_reply(int(fields[0]), now) if is_message and faults.touch_replies else None
        try:
            for data in self._troubled.pass_on(skewed(fields, faults.outage.skew_s), rule, self.version):
                self._say(data)
        except Broken as broken:
            self._say(broken.half)
            self._is_half_said = True
            self.gateway.later(_HALF_SAID_S, self.abort)

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
            if self.is_closed or self._is_half_said:
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
        forced = self.gateway.faults.take_connection({Fault.SERVER_VERSION}, self.gateway.now)
        version = min(int(versions[2] or versions[1]), self.gateway.behaviour.max_version)
        if forced is not None:
            version = forced.number
        elif version < MIN_CLIENT_VERSION or version < int(versions[1]):
            self.close()
            return
        # What is said is said in a version that there is, whatever was agreed to.
        self.version = min(max(version, MIN_CLIENT_VERSION), MAX_SERVER_VERSION)
        self.stage = Stage.AGREED
        # This reply goes out alone: a client that reads it discards whatever came with it.
        self.send([str(version), messages.connection_time(self.gateway.now)])
        self._cut()

    def _message(self, fields: list[str]) -> None:
        if not fields or len(fields[0]) > 9 or not (fields[0].isascii() and fields[0].isdigit()):
            raise ProtocolError("no message id")
        message_id = int(fields[0])
        self._counts[message_id] += 1
        fault = self.gateway.faults.take(message_id, self.gateway.now)
        if self._is_too_fast() or not self.gateway.faults.outage.hears(message_id):
            return
        if fault is None:
            self._answer(message_id, fields[1:])
        else:
            self._answer_troubled(fault, message_id, fields[1:])

    def _answer_troubled(self, rule: Rule, message_id: int, fields: list[str]) -> None:
        """What becomes of a request that meets a fault."""
        fault = rule.fault
        if fault is Fault.DISCONNECT_BEFORE:
            self.abort()
        elif fault is Fault.LATE:
            self.gateway.later(rule.delay_s, lambda: self._answer_late(message_id, fields))
        elif fault is Fault.TOO_FAST:
            self._let_go(MESSAGES_PER_SECOND + 1)
        elif fault is Fault.READ_ONLY:
            self._answer_error(id_of(message_id, fields, self.version), 321, READ_ONLY)
        elif fault is Fault.REFUSE:
            self._answer_error(id_of(message_id, fields, self.version), rule.code, text_of(rule.code, rule.text))
        elif fault is not Fault.LOSE:
            self._answer(message_id, fields)
        if fault is Fault.WARN:
            self._answer_error(id_of(message_id, fields, self.version), rule.code, text_of(rule.code, rule.text))
        elif fault is Fault.DISCONNECT_AFTER:
            self.abort()
        elif fault is Fault.CLOSE_AFTER:
            self.close()

    def _answer_late(self, message_id: int, fields: list[str]) -> None:
        """A request takes effect now; an order also when its connection has ended meanwhile."""
        is_order = message_id in MESSAGES_OF[Fault.READ_ONLY]
        if (is_order or not self.is_closed) and self.gateway.faults.outage.hears(message_id):
            self._answer(message_id, fields)

    def _answer_error(self, req_id: int, code: int, text: str) -> None:
        self._is_answering = True
        self.error(req_id, code, text)
        self._is_answering = False

    def _answer(self, message_id: int, texts: list[str]) -> None:
        """Do what a request asks for. While it does, what is said is an answer."""
        self._is_answering = True
        try:
            self._handle(message_id, texts)
        except UnreadableRequest as unreadable:
            self.error(-1, 320, f"Error reading request.Message id {message_id}. {unreadable}")
        finally:
            self._is_answering = False

    def _handle(self, message_id: int, texts: list[str]) -> None:
        handler, fields = HANDLERS.get(message_id), Fields(texts)
        if self.stage is Stage.AGREED:
            if message_id == START_API:
                self._start(fields)
        elif handler is None:
            self.error(-1, 507, "Bad Message Length null")
            self.close()
        elif self._asks_too_much(message_id, texts) and message_id in REFUSALS:
            self.error(id_of(message_id, texts, self.version), *REFUSALS[message_id])
        else:
            handler(self, fields)

    def _asks_too_much(self, message_id: int, texts: list[str]) -> bool:
        """Whether a request violates the rules of pacing, and these are enforced."""
        gateway = self.gateway
        if message_id == HISTORICAL_BARS:
            is_one = gateway.history_pace.refuses(texts[1:], gateway.now, len(self.feeds.of(LiveBars)))
        elif message_id == REAL_TIME_BARS:
            is_one = gateway.bar_pace.refuses(gateway.now)
        elif message_id == TICK_BY_TICK:
            is_one = gateway.tick_pace.refuses(texts[1:], gateway.now)
        else:
            return False
        gateway.pacing_violations[message_id] += is_one
        return is_one and gateway.behaviour.enforces_pacing

    def _is_too_fast(self) -> bool:
        """Whether the connection has just ended for sending too fast."""
        if not self._pace.is_too_fast(self.gateway.now):
            return False
        self.gateway.pacing_violations[ANY_MESSAGE] += 1
        if not self.gateway.behaviour.enforces_pacing:
            return False
        self._let_go(self._pace.count)
        return True

    def _let_go(self, count: int) -> None:
        """Error 100, and the end."""
        text = f"Max rate of messages per second has been exceeded:max={MESSAGES_PER_SECOND} rec={count} (1)"
        self._answer_error(-1, 100, text)
        self.close()

    def _start(self, fields: Fields) -> None:
        fields.skip()
        client_id = fields.integer()
        taken = self.gateway.faults.take_connection({Fault.CLIENT_ID_IN_USE}, self.gateway.now) is not None
        if taken or any(session.client_id == client_id for session in self.gateway.sessions):
            self.error(-1, 326, IN_USE)
            self.close()
            return
        self.client_id = client_id
        self.stage = Stage.RUNNING
        self.gateway.sessions.append(self)
        self._repeat_open_orders()
        self.send(messages.managed_accounts(tuple(self.gateway.ledgers)))
        self.send(messages.next_valid_id(self.gateway.next_order_id(client_id)))
        for code, text in self.gateway.faults.outage.farms():
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
