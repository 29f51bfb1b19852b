"""What a fault is: its kind, the messages it strikes, how often, how likely, for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from ibkr_gateway_server.simulator.wire import UNSET_DOUBLE, UNSET_INTEGER

# No field of the protocol is longer; a fault's own text is not the place to try how much a client takes.
MAX_TEXT = 1000


class Fault(Enum):
    """What goes wrong. The values are what a scenario's author reads."""

    # Of a client's message, named by its id (3: placeOrder).
    LOSE = "it is read and forgotten: no effect, no reply"
    DISCONNECT_BEFORE = "the connection breaks before it takes effect"
    DISCONNECT_AFTER = "it takes effect, and the connection breaks before any reply"
    CLOSE_AFTER = "it takes effect, and the connection ends after what is said to it at once"
    LATE = "it takes effect `delay` seconds later"
    REFUSE = "it has no effect and is answered with the error `code` and `text`"
    WARN = "it takes effect and is answered with the error `code` and `text` as well"
    READ_ONLY = "orders and cancels are refused with 321, as by a read-only API"
    TOO_FAST = "the client is told that it is too fast (100), and let go"

    # Of the gateway's message, named by its id (3: orderStatus).
    LOSE_REPLY = "it is not sent"
    DELAY_REPLY = "it is sent `delay` seconds later"
    DUPLICATE_REPLY = "it is sent twice"
    REORDER_REPLY = "it is sent after the next one"
    CORRUPT_FIELD = "its field number `field` (0 is the message id) holds `value`"
    SENTINEL = "its figures hold `value`: nan, -1, max_double, max_int, empty or ?"
    PRECEDE_UNKNOWN = "a message with an id that nobody knows is sent before it"
    BAD_LENGTH = "its length prefix is `value`: 0, -1 or 0x7fffffff"
    RESET_MID_FRAME = "half of it is sent, and the connection breaks"
    DUPLICATE_BARS = "every bar in it is there twice"
    UNORDERED_BARS = "its bars are in the wrong order"
    BAD_DATE = "its first bar has no readable date"
    ORDER_ID = "nextValidId says `value`"
    ACCOUNTS = "managedAccounts says `value`"

    # Of connections.
    REFUSE_CONNECTIONS = "for `duration` seconds nobody listens"
    NEVER_GREET = "a connection is taken, and nothing is ever said"
    HALF_OPEN = "connections neither read nor write for `duration` seconds, and break then"
    SPLIT = "bytes go out in pieces of `value` bytes"
    MERGE = "everything that is to be said goes out in one piece"
    SERVER_VERSION = "the version `value` is agreed to, whatever the client offers"
    CLIENT_ID_IN_USE = "the start is refused with 326"

    # At once.
    DISCONNECT = "every connection breaks"
    CLOSE = "every connection ends after what has been said"
    LINK_LOST = "1100: the gateway has lost IBKR, for `duration` seconds; 1102 then, or 1101 with the value data_lost"
    SERVER_LINK_BROKEN = "2110: as 1100"
    LINK_RESTORED = "1102: it is back, and data goes on"
    LINK_RESTORED_DATA_LOST = "1101: it is back, and market data has to be asked for again"
    FARM_BROKEN = "2103, 2105 or 2157: the farm `value` (market, history, contracts) is down, and its data silent"
    FARM_INACTIVE = "2108 or 2107: the farm `value` (market, history) sleeps until it is asked"
    FARM_CONNECTING = "2119: the market data farm is connecting, and silent"
    FARM_OK = "2104, 2106 or 2158: the farm `value` is back"
    PORT_CHANGED = "1300 with the port `value`, and every connection ends"
    COMPETING_SESSION = "10197, `times` times: live market data goes to another login, for `duration` seconds"
    LINE_ERROR = "every line is told the error `code` and `text`: 10167 makes it delayed, others but notices end it"
    DEPTH_RESET = "317: every book begins anew"
    BUST = "10225: bars that go on are ended"
    LIVE_UPDATES_LOST = "10182: bars that go on are ended"
    CLOCK_SKEW = "the gateway's clock is told `value` seconds off"


ON_REQUEST = frozenset(
    {
        *(Fault.LOSE, Fault.DISCONNECT_BEFORE, Fault.DISCONNECT_AFTER, Fault.CLOSE_AFTER, Fault.LATE, Fault.REFUSE),
        *(Fault.WARN, Fault.READ_ONLY, Fault.TOO_FAST),
    }
)
ON_REPLY = frozenset(
    {
        *(Fault.LOSE_REPLY, Fault.DELAY_REPLY, Fault.DUPLICATE_REPLY, Fault.REORDER_REPLY, Fault.CORRUPT_FIELD),
        *(Fault.SENTINEL, Fault.PRECEDE_UNKNOWN, Fault.BAD_LENGTH, Fault.RESET_MID_FRAME, Fault.DUPLICATE_BARS),
        *(Fault.UNORDERED_BARS, Fault.BAD_DATE, Fault.ORDER_ID, Fault.ACCOUNTS),
    }
)
ON_CONNECTION = frozenset(
    {
        *(Fault.REFUSE_CONNECTIONS, Fault.NEVER_GREET, Fault.HALF_OPEN, Fault.SPLIT, Fault.MERGE),
        *(Fault.SERVER_VERSION, Fault.CLIENT_ID_IN_USE),
    }
)
AT_ONCE = frozenset(Fault) - ON_REQUEST - ON_REPLY - ON_CONNECTION

# Faults of one kind of message, so that it need not be named.
MESSAGES_OF = {
    Fault.READ_ONLY: frozenset({3, 4, 58}),
    Fault.DUPLICATE_BARS: frozenset({17}),
    Fault.UNORDERED_BARS: frozenset({17}),
    Fault.BAD_DATE: frozenset({17}),
    Fault.ORDER_ID: frozenset({9}),
    Fault.ACCOUNTS: frozenset({15}),
    Fault.SENTINEL: frozenset({1, 2, 21, 45, 94, 95}),
}
SENTINELS = {
    "nan": "NaN",
    "-1": "-1",
    "max_double": UNSET_DOUBLE,
    "max_int": UNSET_INTEGER,
    "empty": "",
    "?": "?",
}
FARMS = ("market", "history", "contracts")
# What lasts: without a duration, until faults are cleared.
LASTING = frozenset({Fault.REFUSE_CONNECTIONS, Fault.HALF_OPEN, Fault.SPLIT, Fault.MERGE})
_BY_TIME = frozenset({Fault.LATE, Fault.DELAY_REPLY})
_NUMBERS = frozenset({Fault.BAD_LENGTH, Fault.ORDER_ID, Fault.SERVER_VERSION, Fault.SPLIT, Fault.PORT_CHANGED})
_CODED = frozenset({Fault.REFUSE, Fault.WARN, Fault.LINE_ERROR})


class WrongRule(ValueError):
    """A fault that cannot be. `key` is what is wrong with it."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault to come. Raises WrongRule for one that makes no sense."""

    fault: Fault
    message_id: int | None = None
    """The kind of message it strikes; None: any, or those that it is about."""
    times: int | None = 1
    """How often it strikes; None: whenever it can."""
    probability: float = 1.0
    """How likely it strikes when it can. The gateway's seed decides."""
    duration_s: float | None = None
    """Seconds until it is over, used up or not; None: when it is used up."""
    delay_s: float = 0.0
    code: int = 0
    """The error of REFUSE, WARN and LINE_ERROR."""
    text: str = ""
    """Its text; empty: the one that gateways send with the code."""
    field: int | None = None
    value: str = ""

    def __post_init__(self) -> None:
        if self.message_id is not None and not 0 < self.message_id < 10_000:
            raise WrongRule("message", f"{self.message_id} is not a message id")
        if self.times is not None and not 0 < self.times <= 1_000_000_000:
            raise WrongRule("times", f"{self.times} is not a number of times, 1 or more")
        if not 0 < self.probability <= 1:
            raise WrongRule("probability", f"{self.probability:g} is not above 0 and at most 1")
        if self.duration_s is not None and not 0 < self.duration_s < 1e9:
            raise WrongRule("duration", f"{self.duration_s:g} is not a number of seconds above 0")
        if not 0 <= self.delay_s < 1e9:
            raise WrongRule("delay", f"{self.delay_s:g} is not a number of seconds")
        if len(self.value) > MAX_TEXT or len(self.text) > MAX_TEXT or "\0" in self.value + self.text:
            raise WrongRule("value", f"it has more than {MAX_TEXT} characters, or a NUL")
        self._check_what_the_kind_needs()

    def _check_what_the_kind_needs(self) -> None:
        fault = self.fault
        if fault in _BY_TIME and not self.delay_s:
            raise WrongRule("delay", f"{fault.name} needs seconds above 0")
        if fault in _CODED and not 0 < self.code < 100_000:
            raise WrongRule("code", f"{fault.name} needs an error code")
        if fault is Fault.CORRUPT_FIELD and (self.field is None or not 0 <= self.field < 1000):
            raise WrongRule("field", "CORRUPT_FIELD needs a field's number")
        if fault is Fault.SENTINEL and self.value not in SENTINELS:
            raise WrongRule("value", f"{self.value!r} is none of {', '.join(SENTINELS)}")
        if fault in (Fault.FARM_BROKEN, Fault.FARM_INACTIVE, Fault.FARM_OK) and self.value not in FARMS:
            raise WrongRule("value", f"{self.value!r} is none of {', '.join(FARMS)}")
        if fault in (Fault.LINK_LOST, Fault.SERVER_LINK_BROKEN) and self.value not in ("", "data_lost"):
            raise WrongRule("value", f"{self.value!r} is not data_lost")
        if fault is Fault.ACCOUNTS and not self.value:
            raise WrongRule("value", "ACCOUNTS needs what is said, as DU1,DU2")
        if fault in _NUMBERS:
            self._check_number()
        if fault is Fault.CLOCK_SKEW:
            self._check_skew()

    def _check_number(self) -> None:
        low, high = {Fault.SPLIT: (1, 1 << 20), Fault.PORT_CHANGED: (1, 65535)}.get(self.fault, (-(1 << 31), 1 << 32))
        if not low <= self.number < high + 1:
            raise WrongRule("value", f"{self.value!r} is not from {low} to {high}")

    def _check_skew(self) -> None:
        if not math.isfinite(self.seconds) or abs(self.seconds) > 1e9:
            raise WrongRule("value", f"{self.value!r} is not a number of seconds")

    @property
    def number(self) -> int:
        """The value as a whole number; SPLIT and PORT_CHANGED have one of their own. Raises WrongRule."""
        if not self.value and self.fault in (Fault.SPLIT, Fault.PORT_CHANGED):
            return 1 if self.fault is Fault.SPLIT else 4002
        try:
            return int(self.value, 0)
        except ValueError:
            raise WrongRule("value", f"{self.value!r} is not a whole number") from None

    @property
    def seconds(self) -> float:
        """The value as seconds. Raises WrongRule."""
        try:
            return float(self.value)
        except ValueError:
            raise WrongRule("value", f"{self.value!r} is not a number of seconds") from None

    def is_about(self, message_id: int) -> bool:
        """Whether it can strike a message with this id."""
        if self.message_id is not None:
            return message_id == self.message_id
        about = MESSAGES_OF.get(self.fault)
        return about is None or message_id in about
