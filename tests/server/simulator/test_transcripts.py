"""Whole conversations captured from live paper gateways, held again with the simulator."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery

from tests.server.simulator.conftest import NOW, Talk

TRANSCRIPTS = Path(__file__).parents[2] / "data" / "tws" / "transcripts"
ACCOUNT = "DU9000001"

Step = tuple[str, str]
Story = dict[str, list[Step]]

# What the simulator says and a capture has not, exactly, by the kind of life. Every one of these steps is in another
# capture of the same life: the first pair of a resting order and its PendingCancel in api_order_rest_cancel_aapl, the
# order with its final state in place_order_fill_native_execution_time, the pair that repeats it when the commission is
# known in frames of 2023 and 2026 (ibkr-go, api_order_type_matrix_aapl).
FIRST_PAIR: list[Step] = [("status", "PreSubmitted"), ("order", "")]
PENDING: list[Step] = [("status", "PendingCancel")]
LISTED: list[Step] = [("status", "Submitted")]
ECHO: list[Step] = [("order", ""), ("status", "Filled")]
FINAL: list[Step] = [("order", "")]
COMMISSION: list[Step] = [("commission", "")]

LEFT_OUT: dict[str, dict[str, list[Step]]] = {
    "api_client_id0_order_observation_aapl": {"295": FIRST_PAIR + LISTED + PENDING},
    "api_dollar_cost_averaging_aapl": dict.fromkeys(("282", "283", "284", "285"), FINAL + ECHO + COMMISSION),
    "api_future_campaign_mes": dict.fromkeys(("289", "290"), FINAL + ECHO),
    "api_order_handle_reconnect_cancel_aapl": {"294": FIRST_PAIR + PENDING},
    "api_pairs_trading_aapl_msft": {
        "278": FINAL + ECHO,
        **dict.fromkeys(("279", "280", "281"), FINAL + ECHO + COMMISSION),
    },
    "api_reconnect_active_order_aapl": {"294": FIRST_PAIR + LISTED + PENDING},
    "api_tif_attribute_matrix_aapl": {"246": PENDING, "247": ECHO},
    "api_transmit_false_then_transmit_aapl": {"293": FIRST_PAIR + PENDING},
    # Cancelled before it was submitted, and the connection closed before the notice of it.
    "direct_cancel_order": {"1": [("order", ""), ("status", "Submitted"), *PENDING, ("error", "202")]},
    "place_order_fill_native_execution_time": {"1": ECHO},
}


def lines(name: str) -> list[tuple[str, dict[str, Any]]]:
    """A transcript's steps: who did what, and the particulars."""
    steps = []
    for line in (TRANSCRIPTS / f"{name}.txt").read_text().splitlines():
        who, _, rest = line.partition(" ")
        if who == "handshake":
            steps.append((who, json.loads(rest)))
        elif who in ("client", "server"):
            kind, _, body = rest.partition(" ")
            steps.append((f"{who} {kind}", json.loads(body)))
    return steps


def captured_story(steps: list[tuple[str, dict[str, Any]]]) -> Story:
    """What the live gateway told of each order."""
    told: Story = defaultdict(list)
    executions: dict[str, str] = {}
    for step, said in steps:
        order_id = str(said.get("order_id", said.get("req_id", "")))
        if step == "server open_order":
            told[order_id].append(("order", ""))
        elif step == "server order_status":
            told[order_id].append(("status", said["status"]))
        elif step == "server execution_detail":
            executions[said["exec_id"]] = order_id
            told[order_id].append(("execution", ""))
        elif step == "server commission_report":
            told[executions[said["exec_id"]]].append(("commission", ""))
        elif step == "server api_error" and said["req_id"] != -1:
            told[order_id].append(("error", str(said["code"])))
    return dict(told)


def captured_states(steps: list[tuple[str, dict[str, Any]]]) -> set[tuple[str, ...]]:
    """What the live gateway said in every orderStatus, apart from prices and permanent ids."""
    names = ("order_id", "status", "filled", "remaining", "parent_id", "client_id", "why_held", "mkt_cap_price")
    return {tuple(str(said[name]) for name in names) for step, said in steps if step == "server order_status"}


class Replay:
    """The client's side of a transcript, said to a simulator."""

    def __init__(self, clients: tuple[int, ...]) -> None:
        self.gateway = Gateway(7, (ACCOUNT,), NOW)
        self.clients = list(clients)
        self.told: Story = defaultdict(list)
        self.states: set[tuple[str, ...]] = set()
        self._executions: dict[str, str] = {}
        self._talk: Talk | None = None

    def say(self, step: str, said: dict[str, Any]) -> None:
        """One step of the client's."""
        if step == "handshake":
            now = NOW
            if self._talk is not None:
                self._talk.session.close()
                now = self._talk.now
            self._talk = Talk(self.gateway, client_id=self.clients.pop(0), now=now)
            self._talk.messages()
        elif step == "client place_order":
            self._place(said)
        elif step == "client cancel_order":
            self._connection.ask("4", said["order_id"], "", "", "2147483647")
        elif step == "client req_open_orders":
            self._connection.ask("16", "1")
        if not step.startswith("server"):
            self._listen()

    @property
    def _connection(self) -> Talk:
        assert self._talk is not None
        return self._talk

    def _place(self, said: dict[str, Any]) -> None:
        # An order without a contract is refused for its type; AAPL stands in for what the transcript leaves out.
        contract = said.get("contract", {"symbol": "AAPL", "sec_type": "STK", "exchange": "SMART"})
        is_future = contract["sec_type"] == "FUT"
        self._connection.place(
            said["order_id"],
            con_id=0 if is_future else contract.get("con_id", 0),
            symbol=contract["symbol"],
            sec_type=contract["sec_type"],
            # The captured quarter has expired since.
            expiry="202612" if is_future else "",
            exchange=contract["exchange"],
            action=said["action"],
            quantity=said["total_quantity"],
            order_type=said["order_type"],
            limit=said.get("lmt_price", ""),
            trail_percent=said.get("trailing_percent", ""),
            tif=said["tif"],
            account=said["account"],
            transmit=int(said.get("transmit", True)),
        )
        if said["order_type"] == "TRAIL":
            self._fall(contract["symbol"])

    def _fall(self, symbol: str) -> None:
        """The market goes where it went when the trailing stop was captured."""
        self._connection.wait(0.3)
        (listing,) = self.gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type="STK"))
        price = self.gateway.market.prices(listing, self._connection.now).last
        self.gateway.market.set_price(listing, price * 0.97, self._connection.now)

    def _listen(self) -> None:
        self._connection.wait(0.5)
        for fields in self._connection.messages():
            match fields[0]:
                case "3":
                    self.told[fields[1]].append(("status", fields[2]))
                    self.states.add(tuple(fields[index] for index in (1, 2, 3, 4, 7, 9, 10, 11)))
                case "4" if fields[1] != "-1":
                    self.told[fields[1]].append(("error", fields[2]))
                case "5":
                    self.told[fields[1]].append(("order", ""))
                case "11":
                    self._executions[fields[14]] = fields[2]
                    self.told[fields[2]].append(("execution", ""))
                case "59":
                    self.told[self._executions[fields[2]]].append(("commission", ""))


def beyond(simulated: list[Step], live: list[Step]) -> list[Step]:
    """What is said beyond a capture, whose steps must all be there, in their order."""
    extra, rest = [], list(live)
    for step in simulated:
        if rest and step == rest[0]:
            rest.pop(0)
        else:
            extra.append(step)
    assert rest == [], f"{simulated} instead of {live}"
    return extra


@pytest.mark.parametrize(
    ("name", "clients"),
    [
        ("api_client_id0_order_observation_aapl", (1, 0)),
        ("api_dollar_cost_averaging_aapl", (1,)),
        ("api_future_campaign_mes", (1,)),
        ("api_order_handle_reconnect_cancel_aapl", (1, 1)),
        ("api_order_rest_cancel_aapl", (1,)),
        ("api_pairs_trading_aapl_msft", (1,)),
        ("api_reconnect_active_order_aapl", (1, 1)),
        ("api_tif_attribute_matrix_aapl", (1,)),
        ("api_transmit_false_then_transmit_aapl", (1,)),
        ("direct_cancel_order", (1,)),
        ("place_order_fill_native_execution_time", (94,)),
        ("place_order_invalid_type_live_error", (1,)),
    ],
)
def test_a_captured_conversation_is_told_alike(name: str, clients: tuple[int, ...]) -> None:
    steps = lines(name)
    replay = Replay(clients)
    for step, said in steps:
        replay.say(step, said)
    captured = captured_story(steps)
    assert replay.told.keys() == captured.keys()
    assert captured_states(steps) <= replay.states
    left_out = LEFT_OUT.get(name, {})
    for order_id, live in captured.items():
        assert beyond(replay.told[order_id], live) == left_out.get(order_id, []), order_id


def test_every_transcript_with_orders_is_replayed() -> None:
    replayed = {mark.args[1][index][0] for mark in _marks() for index in range(len(mark.args[1]))}
    with_orders = {path.stem for path in TRANSCRIPTS.glob("*.txt") if "client place_order" in path.read_text()}
    assert replayed == with_orders


def _marks() -> list[pytest.Mark]:
    return [mark for mark in test_a_captured_conversation_is_told_alike.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
