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

# Order types a paper gateway takes and this one works; others are taken by IBKR but not simulated, and say so.
WORKED_TYPES = STOPS | TOUCHES | AT_CLOSE | {"MKT", "LMT", "MTL"}
KNOWN_TYPES = WORKED_TYPES | {
    *("REL", "MIDPRICE", "PEG MID", "PEG MKT", "PEG BENCH", "PEG BEST", "SNAP MKT"),
    *("SNAP MID", "SNAP PRIM", "VOL", "BOX TOP", "PEG STK", "IBALGO", "PASSV REL", "LWTK", "MKT PRT", "STP PRT"),
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


@dataclass(slots=True)
class Order:
    """One order: its terms, where it stands, what has filled."""

    client_id: int
    order_id: int
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
    is_elected: bool = False
    is_staged: bool = False
    stop_level: float | None = None
    # Epoch seconds before which it is not worked: a close, an opening, the client's own "good after".
    held_until: float = 0.0
    # The quote it last traded against: what a quote shows is taken once.
    last_quote: int = -1
    cancelled_by: int | None = None
    commission: float | None = None
    completed_status: str = ""
    completed_time: float = 0.0
    executions: list[str] = field(default_factory=list)

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
    def is_done(self) -> bool:
        """True when nothing can happen to it any more."""
        return self.status in DONE


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
