"""What a caller may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ibkr_gateway_server.domain.errors import ScopeMissing


class Scope(StrEnum):
    """One thing a caller may do. None contains another: a token has what it names and nothing else."""

    READ = "read"
    """Market data, contracts, accounts, orders, the record: everything that changes nothing."""
    PREVIEW = "preview"
    """IBKR's what-if for an order."""
    TRADE = "trade"
    """Orders: place, change, cancel; and the halt."""
    ADMIN = "admin"
    """Orders of others, the end of a halt, control of the simulator."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name of the token, empty while there are no tokens; what he may do; until when, None: for good."""

    name: str
    scopes: frozenset[Scope]
    expire_time: datetime | None = None

    def require(self, scope: Scope) -> None:
        """Raises ScopeMissing."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)


LOCAL = Caller("", frozenset(Scope))
"""Any program of this machine, while there are no tokens: it may do everything."""
