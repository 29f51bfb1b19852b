"""A tape takes the place of the process: what was recorded is what is quoted."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import BadTape, Tape

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

TAPE = """time,symbol,bid,ask,last,bid_size,ask_size,last_size
2026-11-23T15:00:00Z,AAPL,200.00,200.02,200.01,300,400,50
2026-11-23T15:00:01Z,AAPL,200.05,200.07,,100,200,25
1795446002.5,AAPL,199.90,199.95,199.90
1795446002.6,AAPL,199.80,199.85,199.80,500,600,75
2026-11-23T10:00:04-05:00,SPY,670.00,670.01,670.00
"""


def played(text: str = TAPE) -> Gateway:
    return Gateway(7, ("DU1234567",), NOW, tape=Tape.read(text.splitlines()))


def listing(gateway: Gateway, symbol: str, kind: str = "STK") -> Listing:
    return gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type=kind))[0]


def test_what_was_recorded_is_quoted_until_the_next_row() -> None:
    gateway = played()
    aapl = listing(gateway, "AAPL")
    told = []
    for seconds in (0.0, 0.9, 1.0, 2.4, 2.5, 60.0):
        prices = gateway.market.prices(aapl, NOW + seconds)
        told.append((prices.bid, prices.ask, prices.last, prices.bid_size, prices.ask_size))
    first, second = (200.0, 200.02, 200.01, 300, 400), (200.05, 200.07, 200.01, 100, 200)
    last = (199.8, 199.85, 199.8, 500, 600)
    assert told == [first, first, second, second, last, last]


def test_before_its_beginning_the_first_row_holds() -> None:
    gateway = played()
    assert gateway.market.prices(listing(gateway, "AAPL"), NOW - 1000).last == 200.01


def test_bars_are_of_what_was_recorded() -> None:
    gateway = played()
    bar = gateway.market.bar(listing(gateway, "AAPL"), NOW, NOW + 5)
    assert (bar.open, bar.high, bar.low, bar.close) == (200.01, 200.01, 199.8, 199.8)
    middle = gateway.market.bar(listing(gateway, "AAPL"), NOW + 1, NOW + 2, "MIDPOINT")
    assert (middle.open, middle.close) == (200.06, 200.06)


def test_options_and_futures_follow_what_was_recorded_of_their_underlying() -> None:
    gateway = played()
    future = listing(gateway, "MES", "FUT")
    # SPY stands at 0.0998 of the index, the future a little above it.
    assert gateway.market.value(future, NOW + 5) == pytest.approx(670.005 / 0.0998, rel=0.01)
    option = gateway.catalogue.options_of(265598)[0]
    assert gateway.market.option(option, NOW).underlying == pytest.approx(200.01)


def test_other_instruments_keep_their_process() -> None:
    taped, seeded = played(), Gateway(7, ("DU1234567",), NOW)
    msft = listing(taped, "MSFT")
    assert taped.market.prices(msft, NOW) == seeded.market.prices(msft, NOW)


def test_a_taped_price_cannot_be_set_by_hand() -> None:
    gateway = played()
    with pytest.raises(ValueError, match="AAPL follows the tape"):
        gateway.market.set_price(listing(gateway, "AAPL"), 100.0, NOW)


def test_a_client_streams_the_tape() -> None:
    talk = Talk(played())
    talk.ask("1", "11", "5", *contract(con_id=265598, exchange="SMART"), 0, "", 0, 0, "")
    talk.wait(3.0, step=0.25)
    bids = [fields[4:6] for fields in talk.heard("1") if fields[3] == "1"]
    assert bids == [["200", "300"], ["200.05", "100"], ["199.8", "500"]]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "line 1: the heading lacks time, symbol, bid, ask, last; it is time,symbol,bid,ask,last,"),
        ("time,symbol,bid,ask\n", "line 1: the heading lacks last"),
        ("time,symbol,bid,ask,last\n", "line 2: there are no rows"),
        (f"time,symbol,bid,ask,{'last' * 40_000}\n", "line 1: field larger than field limit"),
        (f"time,symbol,bid,ask,last\n1795446000,AAPL,{'9' * 140_000},2,1\n", "line 2: field larger than field limit"),
        ("time,symbol,bid,ask,last\nnoon,AAPL,1,2,1\n", "line 2: 'noon' is not a time"),
        ("time,symbol,bid,ask,last\n2026-11-23T15:00:00,AAPL,1,2,1\n", "line 2: .* has no time zone"),
        ("time,symbol,bid,ask,last\n0,AAPL,1,2,1\n", "line 2: '0' is not a time from 2005 to 2099"),
        ("time,symbol,bid,ask,last\n1795446000,,1,2,1\n", "line 2: there is no symbol"),
        ("time,symbol,bid,ask,last\n1795446000,AAPL,2,1,1\n", "line 2: the bid 2 is not below the ask 1"),
        ("time,symbol,bid,ask,last\n1795446000,AAPL,1,x,1\n", "line 2: ask 'x' is not a number"),
        ("time,symbol,bid,ask,last\n1795446000,AAPL,1,nan,1\n", "line 2: ask 'nan' is not above 0"),
        ("time,symbol,bid,ask,last\n1795446000,AAPL,1,2,\n", "line 2: the first row of a symbol needs a last"),
        (
            "time,symbol,bid,ask,last\n1795446005,AAPL,1,2,1\n1795446004,AAPL,1,2,1\n",
            "line 3: rows of one symbol must be in the order",
        ),
    ],
)
def test_a_tape_that_cannot_be_played_is_refused_with_its_line(text: str, cause: str) -> None:
    with pytest.raises(BadTape, match=cause):
        Tape.read(text.splitlines())
