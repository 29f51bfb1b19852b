"""What a caller may do."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Who calls: the name of the token, empty while there are no tokens; and what he may do."""

    name: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raises ScopeMissing."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)


LOCAL = Caller("", frozenset(Scope))
"""Any program of this machine, while there are no tokens: it may do everything."""
