"""Requests for news: providers, headlines of the past, articles, bulletins."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator import news
from ibkr_gateway_server.simulator.codec import reference
from ibkr_gateway_server.simulator.feeds.news import Bulletins
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

NOT_ALLOWED = "News feed is not allowed."
MAX_HEADLINES = 300
# Older headlines are not kept.
KEPT_S = 30 * 86400
DAY_S = 86400


def providers(session: Session, _fields: Fields) -> None:
    session.send(reference.news_providers(news.PROVIDERS))


def historical(session: Session, fields: Fields) -> None:
    req_id, con_id, codes = fields.integer(), fields.integer(), fields.text()
    start, end, count = _time_of(fields.text()), _time_of(fields.text()), fields.integer(MAX_HEADLINES)
    wanted = {code for code in codes.split("+") if code}
    if not wanted or not wanted <= set(news.CODES):
        session.error(req_id, 10276, NOT_ALLOWED)
        return
    gateway = session.gateway
    listing = gateway.catalogue.by_id(con_id)
    now = gateway.now
    if start is not None and end is not None and start > end:
        # Clients have been seen to give the bounds either way round.
        start, end = end, start
    before = now if end is None else min(end, now)
    after = max(now - KEPT_S, 0.0 if start is None else start)
    found = (
        story
        for story in (news.stories_back(gateway.market, gateway.seed, listing, before, after) if listing else ())
        if story.provider in wanted
    )
    count = min(max(count, 1), MAX_HEADLINES)
    stories = list(itertools.islice(found, count + 1))
    for story in stories[:count]:
        row = (story.time, story.provider, story.article_id, story.headline)
        session.send(reference.historical_news(req_id, *row))
    session.send(reference.historical_news_end(req_id, has_more=len(stories) > count))


def article(session: Session, fields: Fields) -> None:
    req_id, provider, article_id = fields.integer(), fields.text(), fields.text()
    gateway = session.gateway
    listings = {listing.con_id: listing for listing in gateway.catalogue}
    story = news.story_of(gateway.market, gateway.seed, listings, article_id, gateway.now)
    if provider not in news.CODES:
        session.error(req_id, 10276, NOT_ALLOWED)
    elif story is None or story.provider != provider:
        session.error(req_id, 10172, "Failed to request news article:No data available")
    else:
        session.send(reference.news_article(req_id, story.text))


def subscribe_bulletins(session: Session, fields: Fields) -> None:
    fields.skip()
    now = session.gateway.now
    # All messages are those of the day so far and what comes; otherwise what comes alone.
    feed = Bulletins(math.floor(now / DAY_S) * DAY_S if fields.flag() else now)
    session.feeds.start(feed)
    session.send(*feed.changes(session.gateway.market, now))


def cancel_bulletins(session: Session, _fields: Fields) -> None:
    session.feeds.stop(Bulletins, -1)


def _time_of(text: str) -> float | None:
    """A bound as clients spell it, "2026-03-23 13:25:15.0" or "20260323 13:25:15", its zone or UTC; None: no bound.

    What cannot be read is no bound, which is what a live gateway has been seen to make of it.
    """
    date, _, rest = text.strip().partition(" ")
    clock, _, zone = rest.partition(" ")
    try:
        moment = datetime.strptime(f"{date.replace('-', '')} {clock.partition('.')[0]}", "%Y%m%d %H:%M:%S")
        return moment.replace(tzinfo=ZoneInfo(zone) if zone else UTC).timestamp()
    except (ValueError, KeyError, OSError, OverflowError):
        return None
