"""Requests with one field wrong, or cut short: the gateway answers or closes, and always goes on for others."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk, place_order_fields
from tests.server.simulator.requests.test_contracts import contract

AAPL = contract(con_id=265598, exchange="SMART")
OPTION = contract(symbol="AAPL", sec_type="OPT", exchange="SMART", expiry="20261218", strike=250, right="C")

# One sensible request of every kind that reads more than a version.
REQUESTS: list[list[object]] = [
    ["1", "11", "1000000001", *AAPL, 0, "233", 0, 0, ""],
    ["2", "2", "1000000001"],
    ["3", "1", *place_order_fields(200)],
    ["3", "1", *place_order_fields(200, order_type="STP LMT", aux="300", limit="301", tif="GTD", good_till="20270101")],
    ["3", "1", *place_order_fields(200, order_type="TRAIL LIMIT", aux="2", limit_offset="1", what_if=1)],
    ["3", "1", *place_order_fields(200, order_type="MTL", algo="Adaptive", tif="OPG")],
    ["4", "1", "", "", "2147483647"],
    ["6", "2", "1", "DU1234567"],
    ["7", "3", "1", 0, "", "20261123-14:00:00", "", "", "", "", "2147483647", "0"],
    ["8", "1", "1"],
    ["9", "8", "1", *AAPL, "0", "", "", ""],
    ["16", "1"],
    ["20", "1", *AAPL, "0", "20261120 12:00:00 US/Eastern", "1 hour", "2 D", 1, "TRADES", 1, 1, ""],
    ["20", "1", *AAPL, "0", "", "1M", "1 Y", 1, "MIDPOINT", 2, 1, ""],
    ["20", "1", *AAPL, "0", "", "1 day", "5 D", 1, "SCHEDULE", 1, 0, ""],
    ["25", "1", "1"],
    ["50", "3", "1", *AAPL, "5", "TRADES", "0", ""],
    ["51", "1", "1"],
    ["58", "", "2147483647"],
    ["59", "1", "3"],
    ["61", "1"],
    ["62", "1", "1", "All", "NetLiquidation,$LEDGER:ALL"],
    ["74", "1", "1", "", ""],
    ["76", "1", "1", "", "", "0"],
    ["78", "1", "AAPL", "", "STK", "265598"],
    ["81", "1", "A"],
    ["87", "1", *AAPL, "0", 1, "TRADES", 1],
    ["91", "26"],
    ["92", "1", "DU1234567", ""],
    ["94", "1", "DU1234567", "", "265598"],
    ["10", "5", "1", *AAPL, 5, 1, ""],
    ["11", "1", "1", 1],
    ["12", "1", 1],
    ["18", "1", 1],
    ["19", "1", 3, "<xml/>", 1],
    ["21", "2", "1", *AAPL[:8], *AAPL[9:], 1, 1, "DU1234567", 0, "", "", 0],
    ["22", "1", -1, "STK", "STK.US", "TOP_PERC_GAIN", "5", "", "100", *[""] * 14, "priceAbove=5;volumeBelow=1e12", ""],
    ["23", "1", "1"],
    ["52", "2", "1", *AAPL[:3], *AAPL[7:11], "ReportSnapshot", 0, ""],
    ["54", "3", "1", *OPTION, "5.5", "250", 0, ""],
    ["55", "3", "1", *OPTION, "0.3", "250", ""],
    ["67", "1", "1"],
    ["68", "1", "1", 1],
    ["69", "1", "1", "265598@SMART"],
    ["83", "1", "9c0001"],
    ["84", "1", "BRFG", "BRFG$40d7e-f3a2c", ""],
    ["86", "1", "265598", "BRFG+DJNL", "2026-11-20 00:00:00.0", "20261123 12:00:00", 10, ""],
    ["88", "1", *AAPL, "0", 1, "3 days"],
    ["96", "1", *AAPL, "0", "20261123 09:45:00 US/Eastern", "", 20, "BID_ASK", 1, 1, ""],
    ["96", "1", *AAPL, "0", "", "20261122-15:00:00", 20, "TRADES", 1, 0, ""],
    ["97", "1", *AAPL, "Last", "0", "0"],
    ["97", "1", *AAPL, "BidAsk", "20", "1"],
    ["98", "1"],
    ["100", "1"],
    ["102", "1", "265598", "", 0, 0, 0, "", "", 10],
    ["1", "11", "1000000001", *AAPL, 0, "mdoff,292:BRFG", 0, 0, ""],
    ["1", "11", "1000000001", *AAPL, 0, "100,101,104,105,106,165,221,236,411,456,595", 0, 0, ""],
    ["1", "11", "1000000001", *OPTION, 0, "", 1, 0, ""],
]

ODD = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-inf", "Infinity", "1e308", "-1e300", "1e30", "-1", "0", "2147483648", "²", "１"]
    ),
    st.sampled_from(
        ["99999999999 D", "20261399", "00010101 00:00:00 UTC", "99991231 23:59:59 US/Eastern", "20261123 x"]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=True).map(repr),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12),
)


@given(st.sampled_from(REQUESTS), st.integers(1, 200), ODD)
@settings(max_examples=600, deadline=None)
def test_one_odd_field_never_breaks_the_gateway(request: list[object], position: int, odd: str) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    fields = list(request)
    fields[1 + position % (len(fields) - 1)] = odd
    talk.ask(*fields)
    talk.wait(0.6, step=0.3)
    talk.messages()
    other = Talk(talk.gateway, client_id=2, now=talk.now)
    other.messages()
    other.ask("49", "1")
    assert other.heard("49") != []


@given(st.sampled_from(REQUESTS), st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_a_request_that_ends_early_never_breaks_the_gateway(request: list[object], length: int) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    talk.ask(*request[: 1 + length % len(request)])
    talk.wait(0.3, step=0.3)
    talk.messages()
    talk.ask("49", "1")
    assert talk.heard("49") != []
