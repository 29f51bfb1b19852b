"""Account streams: a summary, positions or P&L, and what changes of them.

Nothing is queued: a stream remembers what it has told and compares that with what is there when its reader is ready for
more, so that one that reads slowly gets fewer, newer events, and none is ever missing from the state that they add up
to. While the session is lost, or not there yet, nothing is told but the gap; after it the whole state comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.accounts import AccountPnl, AccountSummary, Position
from ibkr_gateway_server.domain.errors import DomainError, Reason, SessionAway
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, Resumed, SnapshotBegin, SnapshotEnd
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.opening import early_gap

Word = Heartbeat | Gap | Resumed | Draining | SnapshotBegin | SnapshotEnd
AccountItem = AccountSummary | Position | AccountPnl | Word

T = TypeVar("T")


class View(Protocol[T]):
    """What a stream is about."""

    async def ask(self) -> T:
        """The state, asked for where it is not followed yet. Raises what the broker raises."""
        ...

    def now(self, known: T) -> T | None:
        """The state as it is followed; None when something of it has to be asked for first."""
        ...

    def whole(self, state: T) -> Sequence[AccountItem]:
        """The state as events."""
        ...

    def changes(self, known: T, state: T) -> Sequence[AccountItem]:
        """What has changed, as events."""
        ...


@dataclass(frozen=True)
class SummaryView:
    """Balances and margin of one account."""

    accounts: Accounts
    account_id: str

    async def ask(self) -> AccountSummary:
        return await self.accounts.summary(self.account_id)

    def now(self, known: AccountSummary) -> AccountSummary | None:
        return self.accounts.summary_now(self.account_id)

    def whole(self, state: AccountSummary) -> Sequence[AccountItem]:
        return (state,)

    def changes(self, known: AccountSummary, state: AccountSummary) -> Sequence[AccountItem]:
        return () if replace(state, as_of_time=known.as_of_time) == known else (state,)


@dataclass(frozen=True)
class PositionsView:
    """Positions of one account. One that has been closed is told once more, with nothing held."""

    accounts: Accounts
    account_id: str

    async def ask(self) -> tuple[Position, ...]:
        return (await self.accounts.positions(self.account_id))[0]

    def now(self, known: tuple[Position, ...]) -> tuple[Position, ...] | None:
        return self.accounts.positions_now(self.account_id)

    def whole(self, state: tuple[Position, ...]) -> Sequence[AccountItem]:
        return (SnapshotBegin(), *state, SnapshotEnd())

    def changes(self, known: tuple[Position, ...], state: tuple[Position, ...]) -> Sequence[AccountItem]:
        before = {position.instrument.con_id: position for position in known}
        held = {position.instrument.con_id for position in state}
        closed = (position for con_id, position in before.items() if con_id not in held)
        return (
            *(_closed(position) for position in closed),
            *(position for position in state if before.get(position.instrument.con_id) != position),
        )


@dataclass(frozen=True)
class PnlView:
    """P&L of one account, and of its positions where these are wanted."""

    accounts: Accounts
    account_id: str
    with_positions: bool

    async def ask(self) -> AccountPnl:
        return await self.accounts.pnl(self.account_id, with_positions=self.with_positions)

    def now(self, known: AccountPnl) -> AccountPnl | None:
        state = self.accounts.pnl_now(self.account_id, with_positions=self.with_positions)
        # A position that is new has to be asked for.
        return state if state is not None and _contracts(state) <= _contracts(known) else None

    def whole(self, state: AccountPnl) -> Sequence[AccountItem]:
        return (state,)

    def changes(self, known: AccountPnl, state: AccountPnl) -> Sequence[AccountItem]:
        return () if replace(state, as_of_time=known.as_of_time) == known else (state,)


class AccountHub(Hub["AccountSubscription"]):
    """Opens account streams, and ends them all when the server drains."""

    def __init__(self, accounts: Accounts, session: Session) -> None:
        super().__init__(lambda: session.status)
        self.accounts = accounts
        self.session = session

    def subscribe(self, view: Callable[[], View[T]], heartbeat_s: float) -> AccountSubscription:
        """A stream: enter it, then iterate it for batches. Raises ShuttingDown.

        `view` is called once the session tells which accounts there are, and raises what is wrong with the one named.
        """
        self._refuse_when_draining()
        return AccountSubscription(self, view, heartbeat_s)


class AccountSubscription:
    """One subscriber. An async context manager and an async iterator of non-empty batches, oldest first."""

    def __init__(self, hub: AccountHub, view: Callable[[], View[T]], heartbeat_s: float) -> None:
        self._hub = hub
        self._follower = _Follower(view)
        self._heartbeat_s = heartbeat_s
        self._wake = asyncio.Event()
        self._draining: Draining | None = None

    async def __aenter__(self) -> Self:
        self._hub._open.add(self)
        self._hub.accounts.listen(self._wake.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.accounts.unlisten(self._wake.set)
        self._hub._open.discard(self)

    async def __aiter__(self) -> AsyncIterator[tuple[AccountItem, ...]]:
        session, loop = self._hub.session, asyncio.get_running_loop()
        status = session.status
        gap: Gap | None = None
        try:
            # What is wrong before the first event, and waiting cannot mend, is the call's error.
            first = tuple(await self._follower.begin())
        except SessionAway as away:
            gap = early_gap(away)
            first = (gap,)
        yield first
        heartbeat_at = loop.time() + self._heartbeat_s
        while self._draining is None:
            await session.changed(status, heartbeat_at - loop.time(), self._wake)
            self._wake.clear()
            epoch, status = status.epoch, session.status
            items: list[AccountItem] = []
            if gap is None and (not status.state.is_linked or status.epoch != epoch):
                gap = Gap(status.reason or Reason.BROKER_DISCONNECTED, datetime.now(UTC))
                items.append(gap)
            if status.state.is_linked or status.state is SessionState.FATAL:
                try:
                    if gap is not None:
                        items += [Resumed(recovered=False, gap_start_time=gap.start_time)]
                        items += await self._follower.begin()
                        gap = None
                    else:
                        items += await self._follower.news()
                except DomainError as error:
                    if not self._follower.has_begun and not isinstance(error, SessionAway):
                        raise
                    # It is lost again, or its answer is late: the session's next word, or the next change, decides.
                    items = [item for item in items if not isinstance(item, Resumed)]
            if loop.time() >= heartbeat_at:
                heartbeat_at = loop.time() + self._heartbeat_s
                items.append(self._hub.heartbeat())
            if items:
                yield tuple(items)
        yield (self._draining,)

    def end(self, draining: Draining) -> None:
        """Tell the subscriber that the server stops; its iteration ends after that."""
        self._draining = draining
        self._wake.set()


class _Follower:
    """One view, and what has been told of it."""

    def __init__(self, make: Callable[[], View[T]]) -> None:
        # Any view will do: what it gives it takes back.
        self._make: Callable[[], View[object]] = make  # type: ignore[assignment]
        self._view: View[object] | None = None
        self._known: object = None

    @property
    def has_begun(self) -> bool:
        """True once the whole state has been told."""
        return self._known is not None

    async def begin(self) -> Sequence[AccountItem]:
        """The whole state. Raises what the broker raises."""
        view = self._view = self._view or self._make()
        self._known = await view.ask()
        return view.whole(self._known)

    async def news(self) -> Sequence[AccountItem]:
        """What has changed since. Raises what the broker raises."""
        view = self._view
        # Before the whole state has been told nothing is news.
        assert view is not None
        state = view.now(self._known)
        if state is None:
            state = await view.ask()
        known, self._known = self._known, state
        return view.changes(known, state)


def _closed(position: Position) -> Position:
    nothing = Decimal(0)
    return replace(position, quantity=nothing, average_cost=nothing, market_value=nothing, unrealized_pnl=nothing)


def _contracts(pnl: AccountPnl) -> set[int]:
    return {detail.instrument.con_id for detail in pnl.details}
