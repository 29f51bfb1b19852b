"""An order as the simulated gateway holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import Listing

# Types that wait for a price before they are orders at all, and whether they trigger like a stop (against the holder)
# or like a touch (in the holder's favour).
STOPS = frozenset({"STP", "STP LMT", "TRAIL", "TRAIL LIMIT"})
TOUCHES = frozenset({"MIT", "LIT"})
TRAILING = frozenset({"TRAIL", "TRAIL LIMIT"})
AT_CLOSE = frozenset({"MOC", "LOC"})
LIMITED = frozenset({"LMT", "STP LMT", "LIT", "LOC"})
# Types whose price follows the quote: the near side, the far side, or the midpoint. A limit price only bounds them.
AT_MIDPOINT = frozenset({"MIDPRICE", "PEG MID"})
PEGGED = AT_MIDPOINT | {"REL", "PEG MKT"}
IMMEDIATE = frozenset({"IOC", "FOK"})

# Order types a paper gateway takes and this one works; others are taken by IBKR but not simulated, and say so.
WORKED_TYPES = STOPS | TOUCHES | AT_CLOSE | PEGGED | {"MKT", "LMT", "MTL"}
KNOWN_TYPES = WORKED_TYPES | {
    *("PEG BENCH", "PEG BEST", "SNAP MKT", "SNAP MID", "SNAP PRIM", "VOL", "BOX TOP", "PEG STK", "IBALGO"),
    *("PASSV REL", "LWTK", "MKT PRT", "STP PRT"),
}
DONE = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})


@dataclass(slots=True)
class Terms:
    """What a client asks for, as decoded from placeOrder."""

    action: str = ""
    quantity: float = 0.0
    order_type: str = ""
    limit_price: float | None = None
    aux_price: float | None = None
    tif: str = "DAY"
    oca_group: str = ""
    account: str = ""
    order_ref: str = ""
    transmit: bool = True
    parent_id: int = 0
    outside_rth: bool = False
    hidden: bool = False
    display_size: int = 0
    all_or_none: bool = False
    good_after_time: str = ""
    good_till_date: str = ""
    oca_type: int = 3
    trail_stop_price: float | None = None
    trailing_percent: float | None = None
    limit_price_offset: float | None = None
    what_if: bool = False
    model_code: str = ""
    unsimulated: tuple[str, ...] = ()

    @property
    def trail(self) -> tuple[float | None, ...]:
        """What a trailing stop's level depends on."""
        return (self.aux_price, self.trail_stop_price, self.trailing_percent)

    @property
    def trailing_offset(self) -> float:
        """How far a trailing limit is from its stop: as given, or as the first stop and limit prices say."""
        if self.limit_price_offset is not None:
            return self.limit_price_offset
        if self.limit_price and self.trail_stop_price:
            return abs(self.trail_stop_price - self.limit_price)
        return 0.0


@dataclass(slots=True)
class Order:
    """One order: its terms, where it stands, what has filled."""

    client_id: int
    order_id: int
    """0 for an order placed by hand in TWS, until client 0 has bound it."""
    perm_id: int
    contract: ContractQuery
    listing: Listing
    terms: Terms
    status: str = "PreSubmitted"
    filled: float = 0.0
    average_price: float = 0.0
    last_price: float = 0.0
    first_price: float = 0.0
    why_held: str = ""
    parent: Order | None = None
    revision: int = 0
    """Counts changes: what was planned for an earlier one does not happen."""
    is_staged: bool = False
    is_exercise: bool = False
    """It is the instruction to exercise an option, or to let it lapse, in the form of an order that never trades."""
    told_revision: int = -1
    """The last revision that its client has had an openOrder of."""
    is_elected: bool = False
    """Its trigger has been reached."""
    is_working: bool = False
    """It is at the exchange and may fill."""
    is_resting: bool = False
    """It has been looked at there without a fill: what it gets from now on, it gets as a maker."""
    became_market: bool = False
    """It has been changed from a working limit to a market order."""
    is_located: bool = False
    """The shares that it sells short have been found."""
    blocks: int = 0
    """Fills elsewhere in its group that it must be reduced by before it may fill ("with block")."""
    stop_level: float | None = None
    peg: float | None = None
    """Where a pegged order has rested since the last look."""
    shown_limit: float | None = None
    """A limit price that openOrder shows and the client never gave."""
    notices: list[tuple[int, str]] = field(default_factory=list)
    """Warnings that go out with its acknowledgement: it lives on."""
    # Epoch seconds before which it is not worked: a close, an opening, the client's own "good after".
    held_until: float = 0.0
    # The quote it last traded against: what a quote shows is taken once.
    last_quote: int = -1
    is_cancel_asked: bool = False
    cancelled_by: int | None = None
    charged: float = 0.0
    """Commission of its fills so far."""
    commission: float | None = None
    """As much of that as has been reported, which openOrder shows."""
    completed_status: str = ""
    completed_time: float = 0.0

    @property
    def remaining(self) -> float:
        """Units not filled."""
        return self.terms.quantity - self.filled

    @property
    def is_buy(self) -> bool:
        """Direction."""
        return self.terms.action == "BUY"

    @property
    def waits_for_trigger(self) -> bool:
        """True while it is held for a price."""
        return self.terms.order_type in STOPS | TOUCHES and not self.is_elected

    @property
    def trailing_limit(self) -> float | None:
        """The limit price of a trailing order, at its stop made worse by the offset."""
        if self.terms.order_type != "TRAIL LIMIT" or self.stop_level is None:
            return None
        offset = self.terms.trailing_offset
        return self.stop_level + offset if self.is_buy else self.stop_level - offset

    @property
    def is_auction(self) -> bool:
        """True for an order of the opening or the closing auction."""
        return self.terms.order_type in AT_CLOSE or self.terms.tif == "OPG"

    @property
    def is_told(self) -> bool:
        """True when its client has had an openOrder of it as it is now."""
        return self.told_revision == self.revision

    @property
    def is_done(self) -> bool:
        """True when nothing can happen to it any more."""
        return self.status in DONE

    @property
    def is_unbound(self) -> bool:
        """True for an order placed by hand that no client owns yet."""
        return self.order_id == 0


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill."""

    order: Order
    execution_id: str
    time: float
    exchange: str
    quantity: float
    price: float
    cumulative: float
    average_price: float
    last_liquidity: int
    commission: float
    realized_pnl: float | None
