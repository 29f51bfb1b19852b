"""One upstream subscription whose listeners hear what comes of it, and who keeps those of one kind.

What it says of itself is the same for every kind: a gap from the loss of its data until the first value after it, that
its last value is old, and how it failed. What comes of it differs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from datetime import datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.hours import silence_s
from ibkr_gateway_server.broker.keeping import BY_SILENCE, FARM_DOWN, NO_TICKS, RETRY_S, Keeper
from ibkr_gateway_server.broker.notices import is_notice
from ibkr_gateway_server.broker.sinks import Sink
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument
from ibkr_gateway_server.domain.streams import Gap, Resumed, Stale
from ibkr_gateway_server.domain.tallies import FEEDS

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Hears one subscription; called on the event loop, and must not block."""

    def gap(self, gap: Gap) -> None: ...
    def resumed(self, resumed: Resumed) -> None: ...
    def stale(self, stale: Stale) -> None: ...
    def failed(self, error: DomainError) -> None: ...


L = TypeVar("L", bound=Listener)


class Owner(Protocol):
    """Who keeps subscriptions of one kind."""

    def refused(self, feed: Any, code: int, text: str) -> DomainError: ...
    def abandon(self, feed: Any) -> None: ...
    def ask_again(self, feed: Any, reason: str, cause: str) -> None: ...


class Subscription(Sink, Generic[L]):
    """One request that goes on.

    `gap` stands from the loss of its data until the first value after it; `failure` is final; `retry_at`, on the loop's
    clock, is when a silent one is asked for again; `repeated_at` when it last was, for what it said of itself.
    """

    request_name: ClassVar[str]

    def __init__(self, instrument: Instrument, owner: Owner) -> None:
        self.instrument = instrument
        self._owner = owner
        self.details: ContractDetails | None = None
        self.listeners: dict[L, None] = {}
        self.subscriber_count = 0
        self.linger: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None
        self.request_id = 0
        self.gap: Gap | None = None
        self.retry_at: float | None = None
        self.retry_cause = BY_SILENCE
        self.repeated_at: float | None = None
        self.heard_time: datetime | None = None
        self.told_stale: Stale | None = None
        self.failure: DomainError | None = None
        # Seconds of silence that are usual while the market is open.
        self.usual_silence_s = 0.0

    @property
    def is_owed(self) -> bool:
        """True while its data should flow and does not."""
        return self.gap is not None

    @property
    def hours(self) -> ContractDetails | None:
        """In which its silence means something."""
        return self.details

    def attach(self, connection: Connection) -> int:
        """Listen under a new request id, which is returned."""
        self.detach()
        self.connection, self.request_id = connection, connection.request_id()
        connection.listen(self.request_id, self)
        self.heard_time = connection.callbacks.now()
        return self.request_id

    def detach(self) -> None:
        """Its request is forgotten: what still comes under it is ignored."""
        if self.connection is not None:
            self.connection.unlisten(self.request_id)
        self.connection = None

    # --- what TWS sends ------------------------------------------------------------------------------------------

    def error(self, code: int, text: str) -> None:
        if is_notice(code):
            log.info("notice about a subscription", extra={"request": self.request_name, "ibkr_code": code})
            return
        # What came before is still told.
        self.batch_end()
        if not self.survives(code):
            self.fail(self._owner.refused(self, code, text))

    def survives(self, _code: int) -> bool:
        """Whether this error ends its data only until it is asked for again; then that has been seen to."""
        return False

    def fail(self, error: DomainError) -> None:
        """Nothing comes after this."""
        self.failure = error
        self._tell("failed", error)

    def heard(self) -> None:
        """There are values: a gap ends before they are told."""
        assert self.connection is not None
        self.heard_time, self.told_stale, self.retry_at = self.connection.callbacks.received_time, None, None
        self._resume(recovered=False)

    def _resume(self, *, recovered: bool) -> None:
        if self.gap is not None:
            gap, self.gap = self.gap, None
            self._tell("resumed", Resumed(recovered, gap.start_time))

    # --- what happens to it --------------------------------------------------------------------------------------

    def lose(self, reason: str, now: datetime) -> None:
        """It is interrupted: values may be missing from here on. One loss after another is still one gap."""
        # What came in the same read was before it.
        self.batch_end()
        self.retry_at = None
        if self.gap is None:
            self.gap = Gap(reason, now)
            self._tell("gap", self.gap)

    def age(self, now: datetime, stale_after_s: float, reason: str) -> None:
        """Silence beyond the usual is stale; while a data farm is down it is a loss."""
        since = self.heard_time
        if since is None or self.gap is not None or self.connection is None:
            return
        if silence_s(self.hours, since, now) <= max(stale_after_s, self.usual_silence_s):
            return
        if reason == FARM_DOWN:
            self.lose(reason, since)
        elif reason == NO_TICKS and self.told_stale is None:
            self.told_stale = Stale(since, reason)
            self._tell("stale", self.told_stale)

    def overdue(self) -> None:
        """Its gap says already that it does not flow."""

    def _tell(self, what: str, *values: object) -> None:
        for listener in list(self.listeners):
            try:
                getattr(listener, what)(*values)
            except Exception:
                # One reader's fault must not keep the others from hearing.
                log.exception("a reader of %s failed", self.request_name)


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Subscription[Any])


class SubscriptionKeeper(Keeper[K, S]):
    """Subscriptions of one kind, kept as quotes' lines are."""

    @property
    def open_feeds(self) -> tuple[S, ...]:
        """Every one that is kept."""
        return tuple(self._kept.values())

    def refused(self, feed: S, code: int, text: str) -> DomainError:
        """IBKR has ended it; returns what its readers fail with."""
        return self._refusal(feed, code, text, feed.request_name)

    def abandon(self, feed: S) -> None:
        """Its answer is of no use: TWS is told to stop, and whoever wants it next asks anew."""
        self._drop(feed)

    def ask_again(self, feed: S, reason: str, cause: str) -> None:
        """Its data has ended or is broken: a gap, and a new request, at once but not twice within `RETRY_S`."""
        feed.lose(reason, self._session.now())
        clock = asyncio.get_running_loop().time()
        if feed.repeated_at is not None and clock < feed.repeated_at + RETRY_S:
            feed.repeated_at += RETRY_S
            feed.retry_at, feed.retry_cause = feed.repeated_at, cause
        else:
            feed.repeated_at = clock
            self._want(feed, cause)

    def _free_lingering(self) -> bool:
        """What nobody reads makes room at once for what somebody wants; returns whether there was any."""
        lingering = next((feed for feed in self._kept.values() if feed.subscriber_count == 0), None)
        if lingering is not None:
            self._drop(lingering)
        return lingering is not None

    def _count(self, kind: str, number: int) -> None:
        self.tallies.set(FEEDS, number, kind)
