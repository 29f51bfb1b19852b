"""Which accounts this gateway is of: the one that is set, or those that the first login had.

TWS may come back logged in as somebody else. Reads then simply answer for the accounts there are; orders must not
follow to an account that nobody meant.
"""

from __future__ import annotations

from ibkr_gateway_server.domain.errors import AccountGone, AccountNotPinned, DomainError


class AccountPin:
    """Compares what each login has with what it should have."""

    def __init__(self, pinned: str = "") -> None:
        self.pinned = pinned
        """The only account that is served; empty: all of the login's."""
        self._first: frozenset[str] = frozenset()
        self._managed: tuple[str, ...] = ()

    def note(self, managed: tuple[str, ...]) -> None:
        """A login has these accounts."""
        self._managed = managed
        self._first = self._first or frozenset(managed)

    def served(self, managed: tuple[str, ...]) -> tuple[str, ...]:
        """Those that are answered for: with an account set that one alone, or none where the login lacks it."""
        return tuple(account for account in managed if self.pinned in ("", account))

    @property
    def accounts(self) -> tuple[str, ...]:
        """Those of the last login that are answered for."""
        return self.served(self._managed)

    @property
    def mismatch(self) -> DomainError | None:
        """Why no order may leave for this login; None: it is the right one, or not known yet."""
        if not self._managed:
            return None
        if self.pinned and self.pinned not in self._managed:
            return AccountNotPinned()
        if not self.pinned and not self._first.issubset(self._managed):
            return AccountGone(len(self._first.difference(self._managed)))
        return None

    def check(self) -> None:
        """Raises AccountNotPinned, AccountGone."""
        if (mismatch := self.mismatch) is not None:
            raise mismatch
