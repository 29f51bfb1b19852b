"""Orders: what they would do, what has become of them."""

from __future__ import annotations

from typing import Literal

from ibkr_gateway_mcp.answers.common import Answer, Failure, Instrument, Money, Notice, Side, Untrusted
from ibkr_gateway_mcp.answers.market import Quote

OrderType = Literal[
    "MKT", "LMT", "STP", "STP_LMT", "TRAIL", "TRAIL_LIMIT", "BRACKET", "MOC", "LOC", "OPG", "MIT", "LIT", "REL"
]
TimeInForce = Literal["DAY", "GTC", "IOC", "FOK", "GTD", "OPG"]
OcaType = Literal["CANCEL_WITH_BLOCK", "REDUCE_WITH_BLOCK", "REDUCE_WITHOUT_BLOCK"]
LegRole = Literal["ENTRY", "TAKE_PROFIT", "STOP_LOSS"]
OrderState = Literal[
    "SIMULATED",
    "NOT_SENT",
    "PENDING",
    "SENT",
    "UNKNOWN",
    "WORKING",
    "PARTIAL",
    "FILLED",
    "CANCEL_PENDING",
    "CANCELLED",
    "REJECTED",
    "PRESUMED_NOT_PLACED",
    "CLOSED_UNCONFIRMED",
    "CONFLICT",
]
ENDED: frozenset[OrderState] = frozenset({"SIMULATED", "NOT_SENT", "FILLED", "CANCELLED", "REJECTED"})
"""States in which there is nothing left to cancel."""


class OrderLeg(Answer):
    """One order of a plan; prices per unit, decimals."""

    role: LegRole | None = None
    """Its part."""
    order_type: OrderType | None = None
    """How it is filled."""
    side: Side | None = None
    """Buy or sell."""
    quantity: str | None = None
    """Units, decimal."""
    limit_price: str | None = None
    """Limit price."""
    stop_price: str | None = None
    """Stop price."""
    time_in_force: TimeInForce | None = None
    """How long it lives."""
    estimated_price: str | None = None
    """Price it is valued by. Missing: none."""
    estimated_notional: str | None = None
    """Its value, decimal. Missing: no price."""
    trailing_amount: str | None = None
    """Trailing distance as a price."""
    trailing_percent: str | None = None
    """Trailing distance in percent."""
    trail_stop_price: str | None = None
    """First stop of a trailing order. Missing: from the market."""
    limit_offset: str | None = None
    """Distance of the limit."""


class OrderPreview(Answer):
    """What an order would do. Nothing has been sent."""

    preview_id: str
    """Give it to place_order with the same terms: the preview is good for this one order, until expire_time."""
    client_order_id: str
    """Id that the order will have when it is placed by this preview: get_order_status finds it by it."""
    is_simulation: bool
    """True when orders are disabled: place_order answers SIMULATED and sends nothing."""
    trading_mode: str
    """Where the order would go: PAPER, LIVE (real money) or SIMULATION."""
    legs: list[OrderLeg]
    """One for a plain order, three for a bracket."""
    total_notional: Money | None = None
    """Value of the entry. Missing: no price to value it by."""
    commission: Money | None = None
    """Expected commission. Missing: not known."""
    min_commission: Money | None = None
    """Lowest expected. Missing: not known."""
    max_commission: Money | None = None
    """Highest expected. Missing: not known."""
    initial_margin_change: Money | None = None
    """Change of the margin to open. Missing: not known."""
    maintenance_margin_change: Money | None = None
    """Change of the margin to keep. Missing: not known."""
    margin_source: Literal["BROKER_WHATIF", "ESTIMATE"] | None = None
    """Where commission and margin come from: IBKR, or the gateway's estimate."""
    quote: Quote | None = None
    """The quote used. Missing: none was fresh."""
    warnings: list[Untrusted] = []
    """What should be known, partly in IBKR's words."""
    blockers: list[Failure] = []
    """Why place_order would refuse this now. Empty: it would not."""
    expire_time: str
    """When the preview ends."""


class OrderStatus(Answer):
    """One order's state, by IBKR's evidence alone."""

    client_order_id: str | None = None
    """The caller's id. Missing: placed elsewhere."""
    order_id: int | None = None
    """IBKR's id at its client. Missing until it is sent."""
    perm_id: int | None = None
    """IBKR's id in the account, for ever; name the order by it as perm:ID. Missing until IBKR has given it."""
    account_id: str | None = None
    """Whose."""
    instrument: Instrument | None = None
    """Of what."""
    side: Side | None = None
    """Buy or sell."""
    order_type: OrderType | None = None
    """How it is filled. Missing: placed elsewhere; see broker_order_type."""
    broker_order_type: str | None = None
    """IBKR's code of the type."""
    time_in_force: TimeInForce | None = None
    """How long it lives."""
    quantity: str | None = None
    """Units ordered, decimal."""
    limit_price: str | None = None
    """Limit price per unit, decimal."""
    stop_price: str | None = None
    """Stop price per unit, decimal."""
    state: OrderState | None = None
    """Where it stands. UNKNOWN: it may or may not be at IBKR, never place it again meanwhile."""
    broker_status: str | None = None
    """IBKR's own word for it. Missing: none heard."""
    filled_quantity: str | None = None
    """Units filled, decimal."""
    remaining_quantity: str | None = None
    """Units that may still fill, decimal."""
    average_fill_price: str | None = None
    """Per unit, decimal. Missing: nothing has filled."""
    commission: Money | None = None
    """Sum of the commissions reported. Missing: none yet."""
    origin: Literal["GATEWAY", "EXTERNAL", "EXTERNAL_OWN"] | None = None
    """Who placed it: this gateway, or TWS and other programs."""
    rejection: Notice | None = None
    """Why IBKR refused it. Missing: it did not."""
    warnings: list[Notice] = []
    """What IBKR warned of."""
    why_held: Untrusted | None = None
    """Why IBKR holds it. Missing: it does not."""
    create_time: str | None = None
    """When the intent was recorded."""
    update_time: str | None = None
    """When the state was last changed."""
    last_sequence: int = 0
    """Sequence of the newest event of it."""
    leg_role: LegRole | None = None
    """Its part. Missing: placed elsewhere."""
    parent_order_id: int | None = None
    """order_id of the entry that this leg waits for. Missing: none."""
    trailing_amount: str | None = None
    """Trailing distance as a price."""
    trailing_percent: str | None = None
    """Trailing distance in percent."""
    pending_modify_id: str | None = None
    """A change that IBKR has not confirmed; the terms above are those of before. Missing: none."""
    oca_group: str | None = None
    """Orders of one group cancel or reduce each other. Missing: none."""


class OrderResult(Answer):
    """What has become of an order by the time of the answer."""

    client_order_id: str
    """The order's id; get_order_status and cancel_order take it."""
    order_id: int | None = None
    """IBKR's id at its client. Missing until it is sent."""
    state: OrderState | None = None
    """Where it stands. UNKNOWN: it may or may not be at IBKR, never place it again meanwhile."""
    order_ids: list[int] = []
    """Ids of all legs in the order of leg_roles; 0 until it is sent."""
    leg_roles: list[LegRole] = []
    """Part of each leg."""
    warnings: list[Notice] = []
    """What IBKR warned of."""
    is_simulated: bool = False
    """True when nothing was sent because orders are disabled."""
    status: OrderStatus | None = None
    """The whole status, of the entry where there are several legs."""
    legs: list[OrderStatus] = []
    """The status of every leg in the order of leg_roles."""


class CancelResult(Answer):
    """What has become of a cancel."""

    status: OrderStatus
    """CANCELLED, or CANCEL_PENDING when IBKR has not confirmed in time. Of the entry where there are several legs."""
    legs: list[OrderStatus] = []
    """The state of every leg that was to be cancelled."""


class OpenOrders(Answer):
    """Orders that may still fill."""

    orders: list[OrderStatus]
    """Oldest first. Empty: none."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""
