"""The captured conversations without orders, held again at the time at which they were captured."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import Listing

from tests.server.simulator.conftest import Talk
from tests.server.simulator.requests.test_contracts import contract
from tests.server.simulator.test_transcripts import TRANSCRIPTS, lines

AAPL = contract(symbol="AAPL", sec_type="STK", exchange="SMART", currency="USD")


def captured(name: str) -> dict[str, list[dict[str, Any]]]:
    """What the gateway said, by the kind of message."""
    said: dict[str, list[dict[str, Any]]] = {}
    for step, particulars in lines(name):
        said.setdefault(step, []).append(particulars)
    return said


def talk_at(moment: str, account: str = "DU9000001") -> Talk:
    """A client that has just connected at a moment, UTC."""
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    return Talk(Gateway(7, (account,), now), now=now)


@pytest.mark.parametrize("name", ["grounded_bootstrap", "grounded_positions", "grounded_historical_bars"])
def test_the_start_is_told_to_the_letter(name: str) -> None:
    live = captured(name)
    (accounts,), (order_id,) = live["server managed_accounts"], live["server next_valid_id"]
    started = talk_at("2026-04-05T21:49:26.350").messages()
    expected = [["15", "1", ",".join(accounts["accounts"])], ["9", "1", str(order_id["order_id"])]]
    expected += [
        ["4", str(notice["req_id"]), str(notice["code"]), notice["message"], notice["advanced_order_reject_json"]]
        for notice in live["server api_error"]
    ]
    assert [fields[:5] for fields in started] == expected
    if name == "grounded_bootstrap":
        assert started[2][5] == live["server api_error"][0]["error_time_ms"]


def test_the_time_is_told_in_whole_seconds() -> None:
    live = captured("current_time")
    talk = talk_at("2026-04-11T18:12:08.749", "DUP770846")
    talk.messages()
    talk.ask("49", "1")
    assert talk.messages() == [["49", "1", live["server current_time"][0]["time"]]]


def test_the_next_id_is_one_more() -> None:
    first, second = captured("req_ids")["server next_valid_id"]
    talk = talk_at("2026-04-11T18:12:16", "DUP770846")
    assert talk.heard("9") == [["9", "1", str(first["order_id"])]]
    talk.ask("8", "1", "1")
    assert talk.messages() == [["9", "1", str(second["order_id"])]]


def test_a_stocks_details_are_the_captured_ones() -> None:
    (live,) = captured("grounded_contract_details_aapl")["server contract_details"]
    talk = talk_at("2026-04-05T21:49:38")
    talk.messages()
    talk.ask("9", "8", "7", *AAPL, "0", "", "", "")
    told, end = talk.messages()
    named = live["contract"]
    assert (told[2], told[3], told[8], told[9], told[10]) == (
        *(named["symbol"], named["sec_type"], named["exchange"], named["currency"], named["local_symbol"]),
    )
    assert (told[11], told[12], told[13]) == (live["market_name"], named["trading_class"], str(named["con_id"]))
    assert {live["min_tick"], live["long_name"], live["time_zone_id"], named["primary_exchange"]} <= set(told)
    assert end == ["52", "1", "7"]


def test_bars_are_of_the_captured_hours_before_good_friday_and_easter() -> None:
    live = captured("grounded_historical_bars")["server historical_bar"]
    talk = talk_at("2026-04-05T21:50:56")
    talk.messages()
    talk.ask("20", "7", *AAPL, "0", "", "1 hour", "1 D", 1, "TRADES", 1, 0, "")
    told, end = talk.messages()
    bars = [told[place : place + 8] for place in range(3, len(told), 8)]
    assert [bar[0] for bar in bars] == [bar["time"] for bar in live]
    for bar, other in zip(bars, live, strict=True):
        # Prices are the simulation's own; how they are spelled is not.
        assert [_form(field) for field in bar[5:]] == [_form(other[name]) for name in ("volume", "wap", "count")]
    assert end[0] == "108"


def _form(number: str) -> int:
    """Digits behind the point."""
    return len(number.partition(".")[2])


def test_positions_are_told_field_for_field() -> None:
    live = captured("grounded_positions")["server position"]
    talk = talk_at("2026-04-05T21:50:52")
    ledger = talk.gateway.ledgers["DU9000001"]
    ledger.holdings.clear()
    for row in live:
        listing = _listing(talk.gateway, row["contract"])
        price = float(row["avg_cost"]) / listing.units
        ledger.open_at_start(listing, float(row["position"]), price, talk.gateway.valuation)
    talk.messages()
    talk.ask("61", "1")
    *rows, end = talk.messages()
    assert end == ["62", "1"]
    names = ("con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier")
    names += ("exchange", "currency", "local_symbol", "trading_class")
    for told, row in zip(rows, live, strict=True):
        spelled = {"strike": "0.0", **row["contract"]}
        assert told[3:14] == [str(spelled.get(name, "")) for name in names]
        assert float(told[14]) == float(row["position"])
        assert float(told[15]) == pytest.approx(float(row["avg_cost"]))


def _listing(gateway: Gateway, said: dict[str, Any]) -> Listing:
    """A captured contract; those that are not listed here follow one that is."""
    stocks = gateway.catalogue.match(ContractQuery(symbol=said["symbol"], sec_type="STK"))
    if said["sec_type"] == "STK":
        return stocks[0]
    likeness = stocks or gateway.catalogue.match(ContractQuery(symbol="MES", sec_type="FUT"))
    return replace(
        likeness[0],
        con_id=said["con_id"],
        symbol=said["symbol"],
        sec_type=said["sec_type"],
        expiry=said["expiry"],
        strike=float(said["strike"]),
        right=said.get("right", ""),
        multiplier=said["multiplier"],
        primary_exchange="",
        local_symbol=said["local_symbol"],
        trading_class=said["trading_class"],
    )


def test_every_transcript_without_orders_is_replayed() -> None:
    here = Path(__file__).read_text()
    without = {path.stem for path in TRANSCRIPTS.glob("*.txt") if "client place_order" not in path.read_text()}
    assert {name for name in without if f'"{name}"' in here} == without
