"""Bars and ticks of the past, scans, news."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from ibapi.scanner import ScannerSubscription
from ibapi.tag_value import TagValue

from compat.official.talk import Talk, step
from compat.record import LeftOut


def bars_of(talk: Talk, span: str, size: str, shown: str, regular: int, date_format: int) -> list[Any]:
    """Bars up to now."""
    asked = (talk.aapl, "", span, size, shown, regular, date_format, False, [])
    rows = talk.ask(talk.api.reqHistoricalData, *asked, rows="historicalData", end="historicalDataEnd")
    found = [row.bar for row in rows]
    assert_whole(found)
    return found


def assert_whole(bars: list[Any]) -> None:
    assert all(0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
    dates = [bar.date for bar in bars]
    assert dates == sorted(set(dates))


@step("bars of a minute")
def minutes(talk: Talk) -> None:
    bars = bars_of(talk, "3600 S", "1 min", "TRADES", 0, 1)
    assert 59 <= len(bars) <= 61
    assert {bar.date.split(" ")[2] for bar in bars} == {"US/Eastern"}
    times = [datetime.strptime(bar.date.rpartition(" ")[0], "%Y%m%d %H:%M:%S") for bar in bars]
    assert {(later - time).total_seconds() for time, later in itertools.pairwise(times)} == {60.0}
    assert all(bar.volume > 0 and bar.barCount > 0 and bar.low <= float(bar.wap) <= bar.high for bar in bars)


@step("bars of an hour, in epoch seconds")
def hours(talk: Talk) -> None:
    bars = bars_of(talk, "2 D", "1 hour", "MIDPOINT", 0, 2)
    assert len(bars) >= 16
    assert all(bar.date.isdigit() and len(bar.date) == 10 for bar in bars)
    bid, ask = talk.quote()
    assert abs(bars[-1].close / ((bid + ask) / 2) - 1) < 0.01


@step("bars of a day")
def days(talk: Talk) -> None:
    bars = bars_of(talk, "1 M", "1 day", "TRADES", 1, 1)
    assert 19 <= len(bars) <= 24
    assert all(datetime.strptime(bar.date, "%Y%m%d").weekday() < 5 for bar in bars)


@step("bars of a wrong size: 321", 321)
def wrong_bars(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqHistoricalData(req_id, talk.aapl, "", "1 D", "7 mins", "TRADES", 1, 1, False, [])
    error = talk.error(321, reqId=req_id)
    assert "Error validating request" in error.errorString
    assert talk.told("historicalData", reqId=req_id) == []


@step("bars kept up to date")
def growing_bars(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqHistoricalData(req_id, talk.aapl, "", "600 S", "5 secs", "TRADES", 0, 2, True, [])
    talk.wait("historicalDataEnd", reqId=req_id)
    last = int(talk.told("historicalData", reqId=req_id)[-1].bar.date)

    def news() -> set[int]:
        dates = {int(event.bar.date) for event in talk.told("historicalDataUpdate", reqId=req_id)}
        return {date for date in dates if date > last}

    talk.until("two more bars", lambda: len(news()) >= 2)
    talk.api.cancelHistoricalData(req_id)
    assert sorted(news())[:2] == [last + 5, last + 10]
    updates = [event.bar for event in talk.told("historicalDataUpdate", reqId=req_id)]
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in updates)


@step("schedule")
def schedule(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqHistoricalData(req_id, talk.aapl, "", "5 D", "1 day", "SCHEDULE", 1, 1, False, [])
    (found,) = talk.wait("historicalSchedule", reqId=req_id)
    assert found.timeZone == "US/Eastern"
    assert len(found.sessions) == 5
    assert all(session.startDateTime.endswith("-09:30:00") for session in found.sessions)


@step("head timestamp")
def head_timestamp(talk: Talk) -> None:
    talk.api.reqHeadTimeStamp(talk.next_id(), talk.aapl, "TRADES", 1, 1)
    assert int(talk.wait("headTimestamp")[0].headTimestamp[:4]) < 2020


def past_ticks(talk: Talk, shown: str, callback: str) -> list[Any]:
    """The last hundred ticks, and the same again from their beginning."""
    talk.api.reqCurrentTime()
    end = talk.wait("currentTime")[-1].time
    before, after = talk.next_id(), talk.next_id()
    talk.api.reqHistoricalTicks(before, talk.aapl, "", moment(end), 100, shown, 0, False, [])
    (event,) = talk.wait(callback, reqId=before)
    ticks = event.ticks
    assert event.done
    assert 100 <= len(ticks) <= 104
    assert ticks[-1].time <= end
    talk.api.reqHistoricalTicks(after, talk.aapl, moment(ticks[0].time), "", 50, shown, 0, False, [])
    (event,) = talk.wait(callback, reqId=after)
    assert list(map(str, event.ticks[:50])) == list(map(str, ticks[:50]))
    return ticks


def moment(time: int) -> str:
    """Epoch seconds as IBKR writes UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y%m%d-%H:%M:%S")


@step("past ticks: TRADES")
def past_trades(talk: Talk) -> None:
    ticks = past_ticks(talk, "TRADES", "historicalTicksLast")
    assert all(tick.price > 0 and tick.size > 0 and tick.exchange for tick in ticks)


@step("past ticks: BID_ASK")
def past_quotes(talk: Talk) -> None:
    ticks = past_ticks(talk, "BID_ASK", "historicalTicksBidAsk")
    assert all(tick.priceAsk > tick.priceBid > 0 for tick in ticks)


@step("past ticks: MIDPOINT")
def past_midpoints(talk: Talk) -> None:
    assert all(tick.price > 0 for tick in past_ticks(talk, "MIDPOINT", "historicalTicks"))


@step("histogram")
def histogram(talk: Talk) -> None:
    talk.api.reqHistogramData(talk.next_id(), talk.aapl, True, "3 days")
    rows = talk.wait("histogramData")[0].items
    assert len(rows) > 10
    assert all(row.size > 0 and row.price > 0 for row in rows)
    assert len({row.price for row in rows}) == len(rows)


@step("scanner parameters")
def scanner_parameters(talk: Talk) -> None:
    talk.api.reqScannerParameters()
    assert "<scanCode>TOP_PERC_GAIN</scanCode>" in talk.wait("scannerParameters")[0].xml


# 162: the end of a scan that its client cancels.
@step("scanner", 162)
def scanner(talk: Talk) -> None:
    wanted, req_id = ScannerSubscription(), talk.next_id()
    wanted.instrument, wanted.locationCode, wanted.scanCode = "STK", "STK.US.MAJOR", "MOST_ACTIVE"
    talk.api.reqScannerSubscription(req_id, wanted, [], [TagValue("priceAbove", "5")])
    talk.wait("scannerDataEnd", reqId=req_id)
    talk.api.cancelScannerSubscription(req_id)
    rows = talk.told("scannerData", reqId=req_id)
    first = [row.rank for row in rows].index(0)
    assert first == 0
    assert {row.contractDetails.contract.secType for row in rows} == {"STK"}
    assert "AAPL" in {row.contractDetails.contract.symbol for row in rows}
    talk.error(162, reqId=req_id)


@step("news providers")
def news_providers(talk: Talk) -> None:
    talk.api.reqNewsProviders()
    providers = talk.wait("newsProviders")[0].newsProviders
    assert "BRFG" in {provider.code for provider in providers}
    assert all(provider.name for provider in providers)


@step("historical news and an article")
def news(talk: Talk) -> None:
    talk.api.reqNewsProviders()
    codes = "+".join(provider.code for provider in talk.wait("newsProviders")[0].newsProviders)
    asked = (talk.aapl.conId, codes, "", "", 10, [])
    stories = talk.ask(talk.api.reqHistoricalNews, *asked, rows="historicalNews", end="historicalNewsEnd")
    assert len(stories) == 10
    assert all("[SIMULATED]" in story.headline for story in stories)
    talk.api.reqNewsArticle(talk.next_id(), stories[0].providerCode, stories[0].articleId, [])
    assert stories[0].headline.partition("}")[2] in talk.wait("newsArticle")[0].articleText


@step("a bulletin")
def bulletin(talk: Talk) -> None:
    talk.api.reqNewsBulletins(True)
    told = talk.wait("updateNewsBulletin")[0]
    talk.api.cancelNewsBulletins()
    assert "[SIMULATED]" in told.newsMessage


@step("no advisor: 321", 321)
def advisor(talk: Talk) -> None:
    talk.api.requestFA(1)
    assert "FA" in talk.error(321).errorString


@step("no fundamentals: 10358")
def fundamentals(talk: Talk) -> None:
    assert not hasattr(talk.api, "reqFundamentalData")
    raise LeftOut("ibapi has no such request any more")
