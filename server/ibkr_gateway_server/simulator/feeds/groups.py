"""A display group that a client follows; on a gateway, which has no screen, only clients change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator.market import Market

GROUPS = (1, 2, 3, 4, 5, 6, 7)


@dataclass(slots=True)
class GroupEvents:
    """One subscribeToGroupEvents, and what the group shows."""

    req_id: int
    group: int
    shown: str = "none"

    def changes(self, _market: Market, _now: float) -> Iterator[list[str]]:
        """Nothing comes by itself."""
        return iter(())
