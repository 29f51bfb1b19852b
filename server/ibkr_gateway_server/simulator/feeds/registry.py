"""The subscriptions of one connection, of every kind."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from typing import Protocol, TypeVar, cast

from ibkr_gateway_server.simulator.market import Market


class Feed(Protocol):
    """What goes on after a request: it knows what it has sent, and says what is new at the next look."""

    req_id: int

    def changes(self, market: Market, now: float, /) -> Iterator[list[str]]:
        """Messages that are due."""
        ...


F = TypeVar("F", bound=Feed)


class Feeds:
    """One feed of a kind under a request id; another kind may have the same id, as on a live gateway."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[type[Feed], int], Feed] = {}
        # Feeds that end by themselves: when, and with which message.
        self._ends: dict[tuple[type[Feed], int], tuple[float, list[str]]] = {}
        self._recent: dict[type[Feed], deque[float]] = defaultdict(deque)

    def start(self, feed: Feed) -> None:
        """Follow this one, instead of an earlier one of its kind and id."""
        self._feeds[type(feed), feed.req_id] = feed
        self._ends.pop((type(feed), feed.req_id), None)

    def start_until(self, end: float, feed: Feed, last: list[str]) -> None:
        """Follow this one until a time, and end with a message."""
        self.start(feed)
        self._ends[type(feed), feed.req_id] = (end, last)

    def find(self, kind: type[F], req_id: int) -> F | None:
        """The feed of a kind under an id."""
        return cast("F | None", self._feeds.get((kind, req_id)))

    def of(self, kind: type[F]) -> list[F]:
        """Every feed of a kind, the oldest first."""
        return [cast("F", feed) for (its_kind, _), feed in self._feeds.items() if its_kind is kind]

    def stop(self, kind: type[F], req_id: int) -> F | None:
        """End a feed; None when there is none."""
        self._ends.pop((kind, req_id), None)
        return cast("F | None", self._feeds.pop((kind, req_id), None))

    def recent(self, kind: type[Feed]) -> deque[float]:
        """When feeds of a kind were lately started: for requests whose pace is limited, which keep it."""
        return self._recent[kind]

    def changes(
        self,
        market: Market,
        now: float,
        silences: Callable[[type[Feed]], bool] | None = None,
        passing: Collection[type[Feed]] = (),
    ) -> Iterator[list[str]]:
        """What is new in all of them, in the order in which they were asked for. Kinds that something silences say
        nothing; what those that are passing would have said is gone."""
        for (kind, req_id), feed in list(self._feeds.items()):
            if silences is not None and silences(kind):
                deque(feed.changes(market, now) if kind in passing else (), maxlen=0)
                continue
            yield from feed.changes(market, now)
            if self._ends and (end := self._ends.get((kind, req_id))) is not None and now >= end[0]:
                yield end[1]
                self.stop(kind, req_id)
