"""Requests for market scans."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest

from tests.server.simulator.conftest import Talk


def scan(
    talk: Talk,
    req_id: int = 1,
    *,
    instrument: str = "STK",
    location: str = "STK.US.MAJOR",
    code: str = "TOP_PERC_GAIN",
    rows: int = -1,
    above: object = "",
    below: object = "",
    volume: object = "",
    filters: str = "",
) -> None:
    limits = [above, below, volume]
    talk.ask("22", req_id, rows, instrument, location, code, *limits, *[""] * 14, filters, "")


def symbols(talk: Talk) -> list[str]:
    """What one scan found, in its order."""
    (answer,) = talk.messages()
    assert answer[:2] == ["20", "3"]
    found = [answer[index : index + 16] for index in range(4, len(answer), 16)]
    assert [row[0] for row in found] == [str(rank) for rank in range(int(answer[3]))]
    return [row[2] for row in found]


def changes(talk: Talk) -> dict[str, float]:
    """How far every stock is from yesterday's close."""
    stocks = [listing for listing in talk.gateway.catalogue if listing.sec_type == "STK"]
    prices = {stock.symbol: talk.gateway.market.prices(stock, talk.now) for stock in stocks}
    return {symbol: price.last / price.close for symbol, price in prices.items()}


def test_gainers_and_losers_are_ranked_by_the_day(talk: Talk) -> None:
    gains = changes(talk)
    scan(talk, location="STK.US")
    gainers = symbols(talk)
    assert [gains[symbol] for symbol in gainers] == sorted(gains.values(), reverse=True)
    scan(talk, 2, location="STK.US", code="TOP_PERC_LOSE")
    assert symbols(talk) == gainers[::-1]


def test_rows_are_as_many_as_asked_for_and_within_the_limits(talk: Talk) -> None:
    scan(talk, rows=3)
    assert len(symbols(talk)) == 3
    prices = {
        listing.symbol: talk.gateway.market.prices(listing, talk.now).last
        for listing in talk.gateway.catalogue
        if listing.sec_type == "STK"
    }
    scan(talk, 2, location="STK.US", above=200, below=400)
    assert set(symbols(talk)) == {symbol for symbol, price in prices.items() if 200 <= price <= 400}
    scan(talk, 3, location="STK.US", filters="priceAbove=200;priceBelow=300;someOther=1;")
    assert set(symbols(talk)) == {symbol for symbol, price in prices.items() if 200 <= price <= 300}
    gains = changes(talk)
    middle = sorted(gains.values())[len(gains) // 2]
    scan(talk, 4, location="STK.US", filters=f"changePercAbove={100 * (middle - 1) - 1e-9}")
    assert set(symbols(talk)) == {symbol for symbol, gain in gains.items() if gain >= middle}


def test_locations_and_instruments_are_told_apart(talk: Talk) -> None:
    scan(talk, location="STK.NYSE")
    assert set(symbols(talk)) == {
        listing.symbol for listing in talk.gateway.catalogue if listing.primary_exchange == "NYSE"
    }
    scan(talk, 2, instrument="ETF.EQ.US", location="ETF.EQ.US")
    assert set(symbols(talk)) == {"SPY", "QQQ"}
    scan(talk, 3, instrument="FUT.US", location="FUT.CME", code="MOST_ACTIVE")
    assert {"ES", "MES"} <= set(symbols(talk))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"code": "NONSENSE"}, "Scanner type with code NONSENSE is disabled."),
        ({"location": "STK.EU"}, "Market Scanner is not configured for one of the chosen locations."),
        ({"instrument": "BOND"}, "Market Scanner is not configured for one of the chosen locations."),
    ],
)
def test_a_scan_that_cannot_be_is_refused(talk: Talk, given: dict[str, str], text: str) -> None:
    scan(talk, **given)  # type: ignore[arg-type]  # texts alone
    (refusal,) = talk.messages()
    assert refusal[1:3] == ["1", "162"]
    assert refusal[3].startswith("Historical Market Data Service error message:")
    assert text in refusal[3]


def test_a_scan_that_finds_nothing_says_so(talk: Talk) -> None:
    scan(talk, above=1_000_000)
    (notice,) = talk.messages()
    assert notice[1:4] == ["1", "165", "Historical Market Data Service query message:no items retrieved"]


def test_a_scan_is_told_again_when_its_rows_change_until_it_is_cancelled(talk: Talk) -> None:
    scan(talk)
    talk.messages()
    talk.wait(4 * 3600, step=10.0)
    told = [tuple(fields[6::16]) for fields in talk.heard("20")]
    assert len(told) > 1
    assert all(one != other for one, other in itertools.pairwise(told))
    talk.ask("23", "1", 1)
    assert [fields[1:3] for fields in talk.messages()] == [["1", "162"]]
    talk.wait(4 * 3600, step=600.0)
    talk.ask("23", "1", 1)
    assert [fields[1:4] for fields in talk.messages()] == [
        ["1", "365", "No scanner subscription found for ticker id:1"]
    ]


def test_an_eleventh_scan_and_an_id_in_use_are_refused(talk: Talk) -> None:
    for req_id in range(10):
        scan(talk, req_id)
    talk.messages()
    scan(talk, 10)
    scan(talk, 9)
    assert [fields[1:3] for fields in talk.messages()] == [["10", "322"], ["9", "322"]]


def test_every_scan_that_the_parameters_name_can_be_asked_for(talk: Talk) -> None:
    talk.ask("24", "1")
    (answer,) = talk.messages()
    assert answer[:2] == ["19", "1"]
    parameters = ElementTree.fromstring(answer[2])
    codes = [element.text or "" for element in parameters.iter("scanCode")]
    places = [
        (element.findtext("instruments") or "", element.findtext("locationCode") or "")
        for element in parameters.iter("Location")
    ]
    for code in codes:
        scan(talk, code=code)
        assert len(symbols(talk)) > 3
        talk.ask("23", "1", 1)
        talk.messages()
    for instrument, location in places:
        scan(talk, instrument=instrument, location=location)
        assert symbols(talk)
        talk.ask("23", "1", 1)
        talk.messages()
