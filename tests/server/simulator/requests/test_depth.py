"""Requests for market depth: books that clients keep row by row, and the venues behind them."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.requests import depth

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

AAPL = {"con_id": 265598, "exchange": "SMART"}
ISLAND = {"con_id": 265598, "exchange": "NASDAQ"}
EURUSD = {"con_id": 12087792, "exchange": "IDEALPRO"}


def subscribe(talk: Talk, req_id: int = 1, *, rows: int = 5, smart: int = 1, **given: object) -> None:
    talk.ask("10", "5", req_id, *contract(**given), rows, smart, "")


class ListedBook:
    """A book as a client keeps it that inserts and deletes rows of a list."""

    def __init__(self) -> None:
        self.sides: dict[str, list[tuple[str, float, float]]] = {"0": [], "1": []}

    def take(self, fields: list[str]) -> None:
        position, maker, operation, side, price, size = fields[3:9] if fields[0] == "13" else plain_row(fields)
        rows, row = self.sides[side], (maker, float(price), float(size))
        if operation == "0":
            rows.insert(int(position), row)
        elif operation == "1":
            rows[int(position)] = row
        else:
            del rows[int(position)]


class KeyedBook(ListedBook):
    """A book as a client keeps it that writes rows under their position."""

    def take(self, fields: list[str]) -> None:
        position, maker, operation, side, price, size = fields[3:9] if fields[0] == "13" else plain_row(fields)
        keyed = dict(enumerate(self.sides[side]))
        if operation == "2":
            del keyed[int(position)]
        else:
            keyed[int(position)] = (maker, float(price), float(size))
        self.sides[side] = list(keyed.values())


def plain_row(fields: list[str]) -> tuple[str, ...]:
    position, operation, side, price, size = fields[3:8]
    return position, "", operation, side, price, size


def shown(talk: Talk, listing: Listing, rows: int) -> dict[str, list[tuple[float, float]]]:
    """What the market has now."""
    book = talk.gateway.market.book(listing, talk.now, rows)
    return {"0": [row[:2] for row in book.asks], "1": [row[:2] for row in book.bids]}


@pytest.mark.parametrize("given", [AAPL, ISLAND, EURUSD], ids=["SMART", "market makers", "prices"])
def test_every_kind_of_client_keeps_the_book_of_the_market(talk: Talk, given: dict[str, object]) -> None:
    subscribe(talk, smart=int(given is AAPL), **given)
    listing = talk.gateway.catalogue.by_id(int(str(given["con_id"])))
    assert listing is not None
    listed, keyed = ListedBook(), KeyedBook()
    for _ in range(40):
        for fields in talk.heard("12", "13"):
            listed.take(fields)
            keyed.take(fields)
        kept = {side: [row[1:] for row in rows] for side, rows in listed.sides.items()}
        assert kept == shown(talk, listing, 5)
        assert listed.sides == keyed.sides
        talk.wait(0.25, step=0.25)


def test_a_book_that_shrinks_loses_its_tail_first(talk: Talk) -> None:
    """A price of one cent has no room for five bids."""
    subscribe(talk, **AAPL)
    listing = talk.gateway.catalogue.by_id(265598)
    assert listing is not None
    book = ListedBook()
    for fields in talk.heard("13"):
        book.take(fields)
    talk.gateway.market.set_quote(listing, talk.now, bid=0.02, ask=0.03, last=None)
    talk.wait(0.25, step=0.25)
    messages = talk.heard("13")
    assert [fields[3] for fields in messages if fields[5:7] == ["2", "1"]] == ["4", "3", "2"]
    for fields in messages:
        book.take(fields)
    assert [row[1] for row in book.sides["1"]] == [0.02, 0.01]


def test_a_smart_book_names_venues_and_says_which_it_is_made_of(talk: Talk) -> None:
    subscribe(talk, rows=3, **AAPL)
    *rows, notice = talk.messages()
    assert [fields[3:7:2] for fields in rows] == [[str(place), "0"] for place in (0, 1, 2, 0, 1, 2)]
    assert {fields[9] for fields in rows} == {"1"}
    assert {fields[4] for fields in rows} <= set(talk.gateway.catalogue.by_id(265598).valid_exchanges.split(","))  # type: ignore[union-attr]
    assert notice[1:3] == ["1", "2152"]
    assert notice[3].startswith("Exchanges - Depth: ARCA; BATS; ")
    assert "; Top: AMEX; " in notice[3]


def test_a_smart_book_elsewhere_is_made_of_the_venues_there(talk: Talk) -> None:
    subscribe(talk, con_id=900_000_001, exchange="SMART")
    *rows, notice = talk.messages()
    assert {fields[4] for fields in rows} <= set(notice[3].removeprefix("Exchanges - Depth: ").split("; "))
    assert "IBIS; " in notice[3]
    assert "Top" not in notice[3]


def test_messages_are_of_the_kind_of_book(talk: Talk) -> None:
    subscribe(talk, 1, smart=0, **ISLAND)
    subscribe(talk, 2, smart=0, **EURUSD)
    subscribe(talk, 3, smart=0, con_id=900_000_001, exchange="IBIS")
    kinds = {(fields[0], fields[2]) for fields in talk.messages()}
    assert kinds == {("13", "1"), ("12", "2"), ("12", "3")}


@pytest.mark.parametrize(
    ("given", "smart", "code"),
    [
        (AAPL, 0, "10092"),
        ({"con_id": 416904, "exchange": "CBOE"}, 0, "10092"),
        ({"con_id": 265598, "exchange": "AMEX"}, 0, "10092"),
        ({"con_id": 8314, "exchange": "SMART"}, 1, "354"),
        ({"symbol": "NOSUCH", "sec_type": "STK", "exchange": "SMART"}, 1, "200"),
    ],
    ids=["SMART without asking for it", "an index", "no book there", "no subscription", "no contract"],
)
def test_a_book_that_cannot_be_is_refused(talk: Talk, given: dict[str, object], smart: int, code: str) -> None:
    subscribe(talk, smart=smart, **given)
    assert [fields[1:3] for fields in talk.messages()] == [["1", code]]


def test_a_fourth_book_and_an_id_in_use_are_refused_until_one_is_cancelled(talk: Talk) -> None:
    for req_id in (1, 2, 3):
        subscribe(talk, req_id, **AAPL)
    talk.messages()
    subscribe(talk, 4, **AAPL)
    subscribe(talk, 3, **AAPL)
    assert [fields[1:3] for fields in talk.messages()] == [["4", "309"], ["3", "322"]]
    talk.ask("11", "1", "3", "1")
    subscribe(talk, 4, **AAPL)
    assert {fields[2] for fields in talk.heard("13")} == {"4"}


def test_a_cancelled_book_is_silent_and_a_second_cancel_is_an_error(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    talk.ask("11", "1", "1", "1")
    talk.messages()
    talk.wait(2.0, step=0.25)
    assert talk.messages() == []
    talk.ask("11", "1", "1", "1")
    assert talk.messages()[0][1:4] == ["1", "310", "Can't find the subscribed market depth with tickerId:1"]


def test_a_reset_book_begins_anew(talk: Talk) -> None:
    subscribe(talk, rows=2, **AAPL)
    talk.messages()
    depth.reset(talk.session)
    talk.wait(0.25, step=0.25)
    messages = talk.messages()
    assert messages[0][1:3] == ["1", "317"]
    assert [(fields[3], fields[5]) for fields in messages[1:]] == [("0", "0"), ("1", "0"), ("0", "0"), ("1", "0")]


def test_venues_with_depth_are_told(talk: Talk) -> None:
    talk.ask("82")
    (message,) = talk.heard("80")
    rows = [message[index : index + 5] for index in range(2, len(message), 5)]
    assert len(rows) == int(message[1]) > 10
    assert ["NASDAQ", "STK", "", "Deep2", "2147483647"] in rows
    assert ["CME", "FUT", "", "Deep", "2147483647"] in rows
    assert ["IDEALPRO", "CASH", "", "Deep", "4"] in rows


def test_while_the_exchanges_are_closed_there_are_no_components() -> None:
    sunday = NOW - 86400
    talk = Talk(Gateway(7, ("DU1234567",), sunday, Behaviour(always_open=False)), now=sunday)
    talk.ask("83", "5", "9c0001")
    assert talk.heard("82") == [["82", "5", "0"]]


def test_components_of_an_unknown_code_are_refused(talk: Talk) -> None:
    talk.ask("83", "5", "zzzz")
    assert [fields[1:3] for fields in talk.messages()] == [["5", "321"]]
