"""How long the desk waits."""

from __future__ import annotations

from dataclasses import dataclass

from ibkr_gateway_server.trading.doubts import Patience
from ibkr_gateway_server.trading.guard import Mode


@dataclass(frozen=True, slots=True)
class DeskTimings:
    """How long the desk waits, in seconds."""

    ack_timeout_s: float = 10.0
    """For IBKR's first word on an order or a cancel; then its state is UNKNOWN and evidence is gathered."""
    order_pacing_timeout_s: float = 0.25
    """For room among the messages to TWS; then the order or the cancel is refused, unsent."""
    evidence_timeout_s: float = 10.0
    """For each question of a reconciliation."""
    what_if_timeout_s: float = 10.0
    """For IBKR's answer to a what-if."""
    preview_quote_timeout_s: float = 3.0
    """For a quote to value an order by."""
    quarantine_s: float | None = None
    """For an order that was never acknowledged to show up; None: 120 s, and 600 s for live orders."""
    grace_s: float = 600.0
    """For an order that was acknowledged, and that no complete evidence names any more, to show up."""

    def patience(self, mode: Mode) -> Patience:
        """How long silence must last before anything is concluded from it."""
        quarantine_s = self.quarantine_s if self.quarantine_s is not None else 600.0 if mode is Mode.LIVE else 120.0
        return Patience(quarantine_s, self.grace_s)
