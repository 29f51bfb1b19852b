"""How one adapter is run: which gateway it is a client of, and what it allows itself."""

from __future__ import annotations

from dataclasses import dataclass

from ibkr_gateway import AsyncGateway, Tls, connect
from ibkr_gateway.connection import DEFAULT_TARGET, DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a model may do before a person has to look. They come before the gateway's own limits, not instead."""

    per_minute: int = 5
    """Orders that are asked about in a minute; changes of orders count as orders, cancels count apart."""
    per_day: int = 20
    """The same in 24 hours; after a restart of the adapter, those of them that the gateway's record holds as orders."""
    approval_timeout_s: float = 60.0
    """Seconds that a person has to answer; no answer is no."""
    drift_percent: float = 1.0
    """How far the market may have moved since the preview, in percent; beyond it a new preview is needed."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run."""

    target: str = DEFAULT_TARGET
    token_file: str | None = None
    tls: Tls | None = None
    read_only: bool = False
    """True: no tool that could change anything is offered, whatever the token allows."""
    limits: Limits = Limits()
    timeout_s: float = DEFAULT_TIMEOUT_S
    """Seconds for one call of the gateway."""

    def connect(self) -> AsyncGateway:
        """A connection to the gateway; nothing is sent until the first call. Raises ValueError, OSError."""
        return connect(self.target, timeout_s=self.timeout_s, token_file=self.token_file, tls=self.tls or False)
