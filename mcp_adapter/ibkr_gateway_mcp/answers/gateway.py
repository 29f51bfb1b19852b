"""The gateway itself."""

from __future__ import annotations

from typing import Literal

from ibkr_gateway_mcp.answers.common import Answer, Untrusted

TradingMode = Literal["PAPER", "LIVE", "SIMULATION"]
SessionState = Literal[
    "CONNECTING",
    "HANDSHAKING",
    "SYNCING",
    "READY",
    "LINK_DOWN",
    "FARM_DEGRADED",
    "RECONNECTING",
    "STOPPING",
    "FATAL",
]
HaltLevel = Literal["BLOCK_NEW", "CANCEL_OWN", "GLOBAL_CANCEL"]


class Health(Answer):
    """How the gateway is."""

    status: Literal["OK", "DEGRADED"] | None = None
    """DEGRADED: the gateway answers, IBKR does not, or not for everything."""
    is_broker_connected: bool = False
    """True when the session with IBKR is there."""
    session_state: SessionState | None = None
    """Where the session with IBKR stands."""
    server_time: str | None = None
    """Gateway's clock."""
    trading_mode: TradingMode | None = None
    """LIVE is real money."""
    orders_enabled: bool = False
    """False: placing an order answers SIMULATED and sends nothing."""
    version: str | None = None
    """Version of the gateway."""
    is_simulation: bool = False
    """True on the simulator."""


class TradingBlocker(Answer):
    """One thing in the way of orders."""

    reason: str
    """One of the gateway's closed list."""
    message: str | None = None
    """What it is."""
    remedy: str | None = None
    """What a person can do about it."""
    since_time: str | None = None
    """Missing: since the start."""
    retry_time: str | None = None
    """When it ends by itself. Missing: not known."""


class TradingStatus(Answer):
    """Whether an order would be sent now, and why not."""

    trading_mode: TradingMode | None = None
    """LIVE is real money."""
    orders_enabled: bool = False
    """False: placing an order answers SIMULATED and sends nothing."""
    has_live_override: bool = False
    """True when live orders are authorized by a file."""
    can_send_orders: bool = False
    """True when a valid order would be sent now."""
    blockers: list[TradingBlocker] = []
    """Everything in the way; empty when can_send_orders."""
    max_notional: str | None = None
    """Largest value of one order, decimal. Missing: no limit."""
    max_size_per_symbol: str | None = None
    """Largest quantity of one order, decimal. Missing: no limit."""
    halt_level: HaltLevel | None = None
    """The halt that is engaged. Missing: none."""
    halt_comment: Untrusted | None = None
    """Why it was engaged."""
    halt_time: str | None = None
    """Since when. Missing: no halt."""


class Halted(Answer):
    """The halt is engaged and survives a restart; a person releases it."""

    cancel_requested_count: int = 0
    """Cancels sent."""
    status: TradingStatus
    """The status with the halt."""
