"""The trading status as it changes, and since when each thing has been in the way of orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import Reason
from ibkr_gateway_server.domain.orders import TradingStatus

# How often what tells nobody of its changes is looked at: the files of the override and of the halt, and whether the
# record can be written.
LOOK_S = 1.0


class TradingWatch:
    """Looks at the status whenever the session changes and every second besides. `look` gives it as it is now."""

    def __init__(self, look: Callable[[], TradingStatus], session: Session) -> None:
        self._look = look
        self._session = session
        self._since: dict[Reason, datetime] = {}
        self._changed = asyncio.Event()
        self._never = asyncio.Event()
        self.status = self._dated(look())

    def now(self) -> TradingStatus:
        """The status at this moment."""
        status = self._dated(self._look())
        if status != self.status:
            self.status = status
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        return self.status

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            known = self._session.status
            self.now()
            await self._session.changed(known, LOOK_S, self._never)

    async def changes(self) -> AsyncIterator[TradingStatus]:
        """The status now, and each newer one; a slow reader sees the newest."""
        while True:
            status, changed = self.status, self._changed
            yield status
            if self.status is status:
                await changed.wait()

    def _dated(self, status: TradingStatus) -> TradingStatus:
        """With the time since which each blocker has been there; one that went and came back is new."""
        now = self._session.now()
        self._since = {
            blocker.reason: blocker.since_time or self._since.get(blocker.reason, now) for blocker in status.blockers
        }
        dated = (replace(blocker, since_time=self._since[blocker.reason]) for blocker in status.blockers)
        return replace(status, blockers=tuple(dated))
