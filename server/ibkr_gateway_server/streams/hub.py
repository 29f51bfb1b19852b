"""What every kind of stream shares: who is open, how the session stands, and the end of all when the server drains."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from ibkr_gateway_server.domain.errors import ShuttingDown
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import Draining, Heartbeat


class Ending(Protocol):
    """A subscription, as its hub ends it."""

    def end(self, draining: Draining) -> None:
        """Tell the subscriber that the server stops; its iteration ends after that."""
        ...


S = TypeVar("S", bound=Ending)


class Hub(Generic[S]):
    """Opens streams of one kind, and ends them all when the server drains."""

    def __init__(self, session_status: Callable[[], SessionStatus]) -> None:
        self._session_status = session_status
        self._open: set[S] = set()
        self._draining: Draining | None = None

    def drain(self, deadline: datetime) -> None:
        """Tell every stream that it ends, and open no more."""
        self._draining = Draining(deadline)
        for subscription in self._open:
            subscription.end(self._draining)

    def heartbeat(self) -> Heartbeat:
        """That a stream lives, and how the session stands."""
        status = self._session_status()
        return Heartbeat(datetime.now(UTC), status.state, status.epoch)

    def enter(self, subscription: S) -> None:
        """This one is open."""
        self._open.add(subscription)
        if self._draining is not None:
            subscription.end(self._draining)

    def leave(self, subscription: S) -> None:
        """It is open no more."""
        self._open.discard(subscription)

    def _refuse_when_draining(self) -> None:
        """Raises ShuttingDown."""
        if self._draining is not None:
            raise ShuttingDown
