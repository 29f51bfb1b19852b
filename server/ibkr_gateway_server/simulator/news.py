"""News: invented headlines that say so, as a pure function of seed, contract and time.

Each tells what the simulated price has just done, so that whoever trades on news finds some. Providers are those
that a live login had in 2026, with names that say that these are not theirs.
"""

from __future__ import annotations

import html
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market, uniform

PROVIDERS = (
    ("BRFG", "Simulated: in place of Briefing.com General Market Columns"),
    ("BRFUPDN", "Simulated: in place of Briefing.com Analyst Actions"),
    ("DJ-N", "Simulated: in place of Dow Jones Global Equity Trader"),
    ("DJ-RT", "Simulated: in place of Dow Jones Trader News"),
    ("DJ-RTA", "Simulated: in place of Dow Jones Top Stories Asia Pacific"),
    ("DJ-RTE", "Simulated: in place of Dow Jones Top Stories Europe"),
    ("DJ-RTG", "Simulated: in place of Dow Jones Top Stories Global"),
    ("DJNL", "Simulated: in place of Dow Jones Newsletters"),
)
CODES = tuple(code for code, _ in PROVIDERS)
MARK = "[SIMULATED]"

# A contract's day is cut into slots; each may have a headline, somewhere in it.
SLOT_S = 1800
_CHANCE = 0.6
_KIND = zlib.crc32(b"news")


@dataclass(frozen=True, slots=True)
class Story:
    """One headline and its article."""

    time: float
    provider: str
    article_id: str
    headline: str
    text: str


def stories_back(market: Market, seed: int, listing: Listing, before: float, after: float) -> Iterator[Story]:
    """Stories about a contract with `after` < time <= `before`, the latest first."""
    for slot in range(int(before // SLOT_S), int(after // SLOT_S) - 1, -1):
        story = _story(market, seed, listing, slot)
        if story is not None and after < story.time <= before:
            yield story


def story_of(market: Market, seed: int, listing_of: dict[int, Listing], article_id: str, now: float) -> Story | None:
    """The story with this id, if it has been told."""
    _, _, number = article_id.partition("$")
    try:
        con_id, slot = (int(part, 16) for part in number.split("-"))
    except ValueError:
        return None
    listing = listing_of.get(con_id)
    if listing is None or not 0 <= slot <= now // SLOT_S:
        return None
    story = _story(market, seed, listing, slot)
    return story if story is not None and story.article_id == article_id and story.time <= now else None


def _story(market: Market, seed: int, listing: Listing, slot: int) -> Story | None:
    if uniform(seed, _KIND, listing.con_id, slot, 0) >= _CHANCE:
        return None
    time = slot * SLOT_S + int(uniform(seed, _KIND, listing.con_id, slot, 1) * SLOT_S)
    provider = CODES[int(uniform(seed, _KIND, listing.con_id, slot, 2) * len(CODES))]
    before, after = (market.rounded(listing, market.value(listing, moment)) for moment in (time - SLOT_S, time))
    change = 100 * (after / before - 1)
    verb = "rises" if change > 0 else "falls"
    headline = f"{MARK} {listing.symbol} {verb} {abs(change):.2f} % in half an hour, to {after:g}"
    name = html.escape(listing.long_name)
    text = (
        f"<html><body><p>{headline}.</p><p>This article was written by a simulator. Half an hour before, {name} was at "
        f"{before:g}. Nothing of it happened in any real market.</p></body></html>"
    )
    return Story(time, provider, f"{provider}${listing.con_id:x}-{slot:x}", headline, text)


def bulletins(begin: float, end: float) -> Iterator[tuple[int, str]]:
    """The bulletins with begin < time <= end: one a day at noon UTC, as a number and a text."""
    day_s, noon_s = 86400, 43200
    for day in range(int(begin // day_s), int(end // day_s) + 1):
        if begin < day * day_s + noon_s <= end:
            yield day, f"{MARK} Bulletin of the day: all simulated exchanges are open for business."
