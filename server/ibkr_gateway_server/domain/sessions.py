"""Where the session with IBKR stands, as everything above the broker sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class SessionState(StrEnum):
    """The states of one supervised connection to TWS or IB Gateway."""

    CONNECTING = "CONNECTING"
    HANDSHAKING = "HANDSHAKING"
    SYNCING = "SYNCING"
    READY = "READY"
    LINK_DOWN = "LINK_DOWN"
    FARM_DEGRADED = "FARM_DEGRADED"
    RECONNECTING = "RECONNECTING"
    STOPPING = "STOPPING"
    FATAL = "FATAL"

    @property
    def is_connected(self) -> bool:
        """True when the socket to TWS is there and its first questions are answered."""
        return self in (SessionState.READY, SessionState.LINK_DOWN, SessionState.FARM_DEGRADED)

    @property
    def is_linked(self) -> bool:
        """True when TWS reaches IBKR, so that requests are answered and orders accepted."""
        return self in (SessionState.READY, SessionState.FARM_DEGRADED)

    @property
    def is_syncing(self) -> bool:
        """True when TWS is there and has not yet told what it is asked first."""
        return self in (SessionState.HANDSHAKING, SessionState.SYNCING)


@dataclass(frozen=True, slots=True)
class Farm:
    """One of IBKR's data farms and IBKR's last code about it."""

    name: str
    ibkr_code: int
    is_ok: bool


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One moment of the session. `epoch` counts connections; `reason` is empty while all is well."""

    state: SessionState
    epoch: int
    since_time: datetime
    reason: str = ""
    message: str = ""
    next_attempt_time: datetime | None = None
    farms: tuple[Farm, ...] = ()
    clock_skew: timedelta | None = None
    """IBKR's clock ahead of ours, to the second; None: not asked yet."""
    serves_data: bool = False
    """True when IBKR is reached for data: also while accounts and orders are not read to their end yet."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something of the session that belongs into the record."""

    kind: str
    epoch: int
    body: Mapping[str, object] = field(default_factory=dict)
