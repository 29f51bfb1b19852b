"""An order as the simulated gateway holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ibkr_gateway_server.simulator.instruments import ContractQuery, Listing

# Order types a paper gateway takes and this one works; others are taken by IBKR but not simulated, and say so.
WORKED_TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT", "MIT", "LIT", "TRAIL"})
KNOWN_TYPES = WORKED_TYPES | {
    *("TRAIL LIMIT", "MOC", "LOC", "REL", "MTL", "MIDPRICE", "PEG MID", "PEG MKT", "PEG BENCH", "PEG BEST", "SNAP MKT"),
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
    what_if: bool = False
    model_code: str = ""


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
    why_held: str = ""
    is_elected: bool = False
    is_staged: bool = False
    stop_level: float | None = None
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
    def is_done(self) -> bool:
        """True when nothing can happen to it any more."""
        return self.status in DONE


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill. `number` counts all of the gateway's fills."""

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
