"""Every captured frame, built again from its meaning, field for field at its server version."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ibkr_gateway_server.simulator.codec import contracts, messages, orders
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.orders import Execution, Order, Terms

FRAMES = [
    json.loads(line) for line in (Path(__file__).parents[2] / "data" / "tws" / "frames.jsonl").read_text().splitlines()
]
AAPL = next(listing for listing in FIXED if listing.symbol == "AAPL")
AMZN = next(listing for listing in FIXED if listing.symbol == "AMZN")
TSLA = next(listing for listing in FIXED if listing.symbol == "TSLA")
ES = Listing(
    637533641,
    "ES",
    "FUT",
    "CME",
    "",
    "ESU5",
    "ES",
    "E-mini S&P 500",
    expiry="20250919",
    multiplier="50",
    time_zone="America/New_York",
)


def seconds(text: str, zone: str) -> float:
    return datetime.strptime(text, "%Y%m%d %H:%M:%S").replace(tzinfo=ZoneInfo(zone)).timestamp()


def order(listing: Listing, order_id: int, perm_id: int, status: str, exchange: str = "SMART", **terms: Any) -> Order:
    said = Terms(**{"action": "BUY", "quantity": 100, "order_type": "MKT", "account": "DU1234567", **terms})
    return Order(100, order_id, perm_id, ContractQuery(exchange=exchange), listing, said, status)


def fill(filled: Order, execution_id: str, time: float, venue: str, price: float, quantity: float) -> Execution:
    return Execution(filled, execution_id, time, venue, quantity, price, quantity, price, 2, 1.0, None)


def filled_status() -> list[str]:
    done = order(AAPL, 5, 600745656, "Filled")
    done.filled, done.average_price, done.last_price = 100, 201.94, 201.94
    return orders.order_status(done)


def cancelled_status() -> list[str]:
    return orders.order_status(order(AAPL, 41, 71270927, "Cancelled"))


def tsla_fill() -> list[str]:
    time = seconds("20230224 12:04:56", "US/Eastern")
    bought = order(TSLA, 13, 1376327563, "Filled")
    return orders.exec_details(169, -1, fill(bought, "00025b46.63f8f39c.01.01", time, "ISLAND", 196.52, 100))


def tsla_details() -> list[str]:
    """As it was listed at the end of 2022: venues and order types have changed since."""
    captured = FRAMES[8]["fields"]
    as_was = replace(TSLA, order_types=captured[15], valid_exchanges=captured[16], sizes=("1", "1", "100"))
    hours = "20221229:{0};20221230:{0};20221231:CLOSED;20230101:CLOSED;20230102:CLOSED;20230103:{0}"
    days = ("20221229", "20221230", "20230103")
    whole, regular = (hours, hours)
    for day in days:
        whole = whole.replace(f"{day}:{{0}}", f"{day}:0400-{day}:2000")
        regular = regular.replace(f"{day}:{{0}}", f"{day}:0930-{day}:1600")
    return contracts.contract_data(176, 9001, as_was, whole, regular)


def completed_aapl() -> list[str]:
    done = order(AAPL, 5, 1824933227, "Filled")
    done.filled, done.completed_status = 100, "Filled Size: 100"
    done.completed_time = seconds("20230306 12:28:30", "America/Los_Angeles")
    done.listing = replace(AAPL, time_zone="America/Los_Angeles")
    return orders.completed_order(169, done)


def completed_es() -> list[str]:
    done = order(
        ES, 2, 2126726143, "Cancelled", "CME", quantity=1, order_type="LMT", limit_price=5800.0, account="DU1236109"
    )
    done.completed_status, done.completed_time = "Cancelled by Trader", seconds("20250708 02:34:46", "America/New_York")
    return orders.completed_order(176, done)


def aapl_200() -> list[str]:
    hours = "20260405:CLOSED;" + ";".join(f"2026040{day}:0400-2026040{day}:2000" for day in (6, 7, 8, 9))
    hours += ";20260410:0400-20260410:2000"
    return contracts.contract_data(200, 1001, AAPL, hours, hours.replace("0400", "0930").replace("2000", "1600"))


def bars() -> list[str]:
    rows = FRAMES[21]["fields"][3:]
    width = 8
    whole = [rows[index : index + width] for index in range(0, len(rows), width)]
    return messages.historical_data(200, 1001, ("", ""), whole)


def schedule() -> list[str]:
    fields = FRAMES[26]["fields"]
    days = [tuple(fields[index : index + 3]) for index in range(6, len(fields), 3)]
    return messages.historical_schedule(int(fields[1]), (fields[2], fields[3]), fields[4], days)


ES_LIMIT = {"quantity": 1, "order_type": "LMT", "limit_price": 5800.0}

BUILT: dict[int, Callable[[], list[str]]] = {
    0: lambda: orders.open_order(173, order(AAPL, 5, 600745656, "PreSubmitted")),
    1: lambda: orders.order_status(order(AAPL, 5, 600745656, "PreSubmitted")),
    2: lambda: orders.exec_details(
        173,
        -1,
        fill(
            order(AAPL, 5, 600745656, "Filled"),
            "0000e0d5.67fe667b.01.01",
            seconds("20250415 19:38:31", "US/Eastern"),
            "IEX",
            201.94,
            100,
        ),
    ),
    3: filled_status,
    4: lambda: orders.open_order(165, order(TSLA, 13, 1376327563, "PreSubmitted")),
    5: tsla_fill,
    6: cancelled_status,
    8: tsla_details,
    9: lambda: messages.historical_data(
        173, 9000, ("20230413  16:31:22", "20230415  16:31:22"), [FRAMES[9]["fields"][5:13], FRAMES[9]["fields"][13:21]]
    ),
    7: completed_aapl,
    10: lambda: orders.open_order(176, order(ES, 2, 2126726143, "Submitted", "CME", **ES_LIMIT)),
    12: completed_es,
    14: lambda: messages.managed_accounts(("DU9000001",)),
    15: lambda: messages.error(200, -1, 2104, "Market data farm connection is OK:usfarm", 1775425766.350),
    16: aapl_200,
    17: lambda: orders.exec_details(200, -1, _aapl_2026()),
    18: lambda: messages.account_summary(1001, "DU9000001", "BuyingPower", "300000.00", "EUR"),
    19: lambda: messages.account_summary_end(1001),
    20: lambda: contracts.position("DU9000001", AMZN, 15, 200.25),
    21: bars,
    22: lambda: _tick_price(FRAMES[22]["fields"]),
    23: lambda: _tick_size(FRAMES[23]["fields"]),
    24: lambda: messages.tick_snapshot_end(int(FRAMES[24]["fields"][2])),
    25: messages.open_order_end,
    26: schedule,
}

# Published as the text between NULs, so that one more, empty field seems to follow the last NUL.
WITH_AN_EMPTY_REST = {4, 5, 6, 8}

# Frames among the published ones that no gateway can have sent, and how one sees it.
NOT_BUILT = {
    11: "made by hand: it fills at 02:35:00 the order of frame 12, which was cancelled at 02:34:46",
    13: "made by hand: the contract's and the order's numbers are those of frame 12's future, plus one",
}


def _aapl_2026() -> Execution:
    bought = replace_client(order(AAPL, 1, 389211034, "Filled", account="DUP770846", quantity=1), 94)
    return fill(bought, "0000e0d5.69dd7411.01.01", seconds("20260413 15:27:04", "US/Eastern"), "IEX", 257.95, 1)


def replace_client(made: Order, client_id: int) -> Order:
    made.client_id = client_id
    return made


def _tick_price(fields: list[str]) -> list[str]:
    return messages.tick_price(int(fields[2]), int(fields[3]), float(fields[4]), float(fields[5]), int(fields[6]))


def _tick_size(fields: list[str]) -> list[str]:
    return messages.tick_size(int(fields[2]), int(fields[3]), float(fields[4]))


@pytest.mark.parametrize("index", sorted(BUILT), ids=lambda index: f"{index}-{FRAMES[index]['message']}")
def test_a_captured_frame_is_built_again_field_for_field(index: int) -> None:
    captured = FRAMES[index]["fields"]
    assert BUILT[index]() == (captured[:-1] if index in WITH_AN_EMPTY_REST else captured)


def test_every_published_frame_is_built_or_named_with_the_reason_why_it_is_no_capture() -> None:
    assert sorted({*BUILT, *NOT_BUILT}) == list(range(len(FRAMES)))
    assert not BUILT.keys() & NOT_BUILT.keys()


def test_the_frames_that_are_not_built_contradict_the_ones_that_are() -> None:
    fill, option, cancelled = FRAMES[11]["fields"], FRAMES[13]["fields"], FRAMES[12]["fields"]
    assert fill[21] == cancelled[23] == "2126726143"
    assert (fill[15], cancelled[-7], cancelled[-6]) == (
        "20250708 02:35:00 America/New_York",
        "20250708 02:34:46 America/New_York",
        "Cancelled by Trader",
    )
    assert (int(option[2]), int(option[25])) == (int(cancelled[1]) + 1, int(cancelled[23]) + 1)
