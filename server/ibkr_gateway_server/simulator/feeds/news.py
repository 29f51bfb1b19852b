"""News as it comes in: headlines of one contract or of all, and the gateway's bulletins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator import news
from ibkr_gateway_server.simulator.codec import reference
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market

# A new line begins with the latest headlines of so long, and no more of them than this.
FIRST_LOOK_S = 6 * 3600
FIRST_COUNT = 5


@dataclass(slots=True)
class Headlines:
    """One reqMktData with generic tick 292: headlines of its contract, or of many on a provider's broad tape.

    An empty set of providers means all of them.
    """

    req_id: int
    seed: int
    listings: tuple[Listing, ...]
    providers: frozenset[str]
    told_until: float = 0.0

    def start(self, market: Market, now: float) -> Iterator[list[str]]:
        """The latest headlines, the oldest of them first."""
        yield from self._between(market, now - FIRST_LOOK_S, now, FIRST_COUNT)

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """Those that have come in since the last look."""
        if now > self.told_until:
            yield from self._between(market, self.told_until, now, None)

    def _between(self, market: Market, after: float, before: float, count: int | None) -> Iterator[list[str]]:
        self.told_until = before
        found = (news.stories_back(market, self.seed, listing, before, after) for listing in self.listings)
        stories = sorted(itertools.chain.from_iterable(found), key=lambda story: story.time, reverse=True)
        wanted = [story for story in stories if not self.providers or story.provider in self.providers]
        for story in reversed(wanted[:count]):
            yield reference.tick_news(self.req_id, story.time, story.provider, story.article_id, story.headline)


@dataclass(slots=True)
class Bulletins:
    """reqNewsBulletins: a client has one such subscription, without an id."""

    told_until: float
    req_id: int = -1

    def changes(self, _market: Market, now: float) -> Iterator[list[str]]:
        """Bulletins since the last look."""
        after, self.told_until = self.told_until, now
        for number, text in news.bulletins(after, now):
            yield reference.news_bulletin(number, 1, text, "")
