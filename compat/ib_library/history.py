"""Bars and ticks of the past, scans, news."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from compat.ib_library.talk import IS_IB_ASYNC, Talk, library, step


def assert_whole(bars: list[Any]) -> None:
    assert all(0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
    dates = [bar.date for bar in bars]
    assert dates == sorted(set(dates))


@step("bars of a minute")
async def minutes(talk: Talk) -> None:
    bars = await talk.ib.reqHistoricalDataAsync(talk.aapl, "", "3600 S", "1 min", "TRADES", False)
    assert_whole(bars)
    assert 59 <= len(bars) <= 61
    assert bars[1].date - bars[0].date == timedelta(minutes=1)
    assert str(bars[0].date.tzinfo) == "US/Eastern"
    assert all(bar.volume > 0 and bar.barCount > 0 and bar.low <= bar.average <= bar.high for bar in bars)


@step("bars of an hour, in epoch seconds")
async def hours(talk: Talk) -> None:
    bars = await talk.ib.reqHistoricalDataAsync(talk.aapl, "", "2 D", "1 hour", "MIDPOINT", False, 2)
    assert_whole(bars)
    assert len(bars) >= 16
    assert isinstance(bars[0].date, datetime)
    assert bars[-1].date.utcoffset() == timedelta(0)
    (bid, ask) = await talk.quote()
    assert abs(bars[-1].close / ((bid + ask) / 2) - 1) < 0.01


@step("bars of a day")
async def days(talk: Talk) -> None:
    bars = await talk.ib.reqHistoricalDataAsync(talk.aapl, "", "1 M", "1 day", "TRADES", True)
    assert_whole(bars)
    assert 19 <= len(bars) <= 24
    assert {type(bar.date) for bar in bars} == {date}
    assert all(bar.date.weekday() < 5 for bar in bars)


# ib_async takes 321 for a warning: it waits until its timeout, and cancels what is no request.
@step(
    "bars of a wrong size: 321",
    *((321, 366) if IS_IB_ASYNC else (321,)),
    logs=("Error 321", "Error 366", "reqHistoricalData: Timeout"),
)
async def wrong_bars(talk: Talk) -> None:
    bars = await talk.ib.reqHistoricalDataAsync(talk.aapl, "", "1 D", "7 mins", "TRADES", True, timeout=0.5)
    assert list(bars) == []
    assert "Error validating request" in talk.recorder.errors[0][2]
    if IS_IB_ASYNC:
        await talk.until_error(366)


@step("bars kept up to date")
async def growing_bars(talk: Talk) -> None:
    bars = await talk.ib.reqHistoricalDataAsync(talk.aapl, "", "600 S", "5 secs", "TRADES", False, 1, True)
    count, last = len(bars), bars[-1].date
    await talk.until("two more bars", lambda: len(bars) >= count + 2)
    talk.ib.cancelHistoricalData(bars)
    assert bars[count].date - last == timedelta(seconds=5)
    assert_whole(bars)


@step("schedule")
async def schedule(talk: Talk) -> None:
    found = await talk.ib.reqHistoricalScheduleAsync(talk.aapl, 5)
    assert found.timeZone == "US/Eastern"
    assert len(found.sessions) == 5
    assert all(session.startDateTime.endswith("-09:30:00") for session in found.sessions)


@step("head timestamp")
async def head_timestamp(talk: Talk) -> None:
    found = await talk.ib.reqHeadTimeStampAsync(talk.aapl, "TRADES", True, 1)
    assert found.year < 2020


async def past_ticks(talk: Talk, shown: str, name: str) -> list[Any]:
    """The last hundred ticks, and the same again from their beginning."""
    end = await talk.ib.reqCurrentTimeAsync()
    ticks: list[Any] = await talk.ib.reqHistoricalTicksAsync(talk.aapl, "", end, 100, shown, False)
    assert {type(tick).__name__ for tick in ticks} == {name}
    assert 100 <= len(ticks) <= 104
    assert ticks[-1].time <= end
    later = await talk.ib.reqHistoricalTicksAsync(talk.aapl, ticks[0].time, "", 50, shown, False)
    assert later[:50] == ticks[:50]
    return ticks


@step("past ticks: TRADES")
async def past_trades(talk: Talk) -> None:
    ticks = await past_ticks(talk, "TRADES", "HistoricalTickLast")
    assert all(tick.price > 0 and tick.size > 0 and tick.exchange for tick in ticks)


@step("past ticks: BID_ASK")
async def past_quotes(talk: Talk) -> None:
    ticks = await past_ticks(talk, "BID_ASK", "HistoricalTickBidAsk")
    assert all(tick.priceAsk > tick.priceBid > 0 for tick in ticks)


@step("past ticks: MIDPOINT")
async def past_midpoints(talk: Talk) -> None:
    assert all(tick.price > 0 for tick in await past_ticks(talk, "MIDPOINT", "HistoricalTick"))


@step("histogram")
async def histogram(talk: Talk) -> None:
    rows = await talk.ib.reqHistogramDataAsync(talk.aapl, True, "3 days")
    assert len(rows) > 10
    assert all(row.count > 0 and row.price > 0 for row in rows)
    assert len({row.price for row in rows}) == len(rows)


@step("scanner parameters")
async def scanner_parameters(talk: Talk) -> None:
    assert "<scanCode>TOP_PERC_GAIN</scanCode>" in await talk.ib.reqScannerParametersAsync()


# 162: the end of a scan that its client cancels.
@step("scanner", 162, logs=("Error 162",))
async def scanner(talk: Talk) -> None:
    wanted = library.ScannerSubscription(instrument="STK", locationCode="STK.US.MAJOR", scanCode="MOST_ACTIVE")
    rows = await talk.ib.reqScannerDataAsync(wanted, [], [library.TagValue("priceAbove", "5")])
    assert [row.rank for row in rows] == list(range(len(rows)))
    assert {row.contractDetails.contract.secType for row in rows} == {"STK"}
    assert "AAPL" in {row.contractDetails.contract.symbol for row in rows}
    await talk.until_error(162)


@step("news providers")
async def news_providers(talk: Talk) -> None:
    providers = await talk.ib.reqNewsProvidersAsync()
    assert "BRFG" in {provider.code for provider in providers}
    assert all(provider.name for provider in providers)


@step("historical news and an article")
async def news(talk: Talk) -> None:
    providers = await talk.ib.reqNewsProvidersAsync()
    codes = "+".join(provider.code for provider in providers)
    found: Any = await talk.ib.reqHistoricalNewsAsync(talk.aapl.conId, codes, "", "", 10)
    assert len(found) == 10
    assert all("[SIMULATED]" in story.headline for story in found)
    article = await talk.ib.reqNewsArticleAsync(found[0].providerCode, found[0].articleId)
    assert found[0].headline.partition("}")[2] in article.articleText


@step("a bulletin")
async def bulletin(talk: Talk) -> None:
    talk.ib.reqNewsBulletins(True)
    await talk.until("a bulletin", talk.ib.newsBulletins)
    talk.ib.cancelNewsBulletins()
    assert "[SIMULATED]" in talk.ib.newsBulletins()[0].message


@step("no advisor: 321", 321, logs=("Error 321",))
async def advisor(talk: Talk) -> None:
    talk.ib.client.requestFA(1)
    await talk.until_error(321)
    assert "FA" in talk.recorder.errors[0][2]


@step("no fundamentals: 10358", 10358, logs=("Error 10358",))
async def fundamentals(talk: Talk) -> None:
    assert not await talk.ib.reqFundamentalDataAsync(talk.aapl, "ReportSnapshot")
    assert talk.recorder.has(10358)
