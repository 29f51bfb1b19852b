"""Whatever a client does with orders, in whatever order: what a live gateway never says is never said."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk

AAPL = 265598
TERMINAL = {"Filled", "Cancelled", "ApiCancelled", "Inactive"}
STATUSES = TERMINAL | {"PreSubmitted", "Submitted", "PendingCancel"}
CANCEL = ("", "", "2147483647")
KINDS = [
    *("MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT", "MTL", "LOC", "MOC"),
    *("REL", "PEG MKT", "PEG MID", "MIDPRICE"),
]


@dataclass
class Told:
    """What the client has been told of one order."""

    total: float = 0.0
    perm_id: str = ""
    status: str = ""
    filled: float = 0.0
    executed: float = 0.0
    signed: int = 1
    parent: int = 0
    group: str = ""
    codes: list[str] = field(default_factory=list)


class OrderMachine(RuleBasedStateMachine):
    """A client that places, changes, cancels and waits, while the market moves."""

    def __init__(self) -> None:
        super().__init__()
        self.gateway = Gateway(7, ("DU1234567",), NOW, Behaviour(hard_to_borrow=frozenset({"AAPL"}), locate_s=0.1))
        listing = self.gateway.catalogue.by_id(AAPL)
        assert listing is not None
        self.listing = listing
        self.start = self.held()
        self.talk = Talk(self.gateway)
        self.talk.messages()
        self.other = Talk(self.gateway, client_id=2)
        self.told: dict[int, Told] = defaultdict(Told)
        self.terms: dict[int, dict[str, Any]] = {}
        self.kinds: dict[str, int] = {}
        self.executions: dict[str, int] = {}
        self.reported: set[str] = set()
        self.is_broken = False

    def held(self) -> float:
        """Shares in the account."""
        holding = self.gateway.ledgers["DU1234567"].holdings.get(AAPL)
        return holding.quantity if holding else 0.0

    def near(self, offset: float) -> str:
        """A price so far from the market."""
        last = self.gateway.market.prices(self.listing, self.talk.now).last
        return f"{last + offset:.2f}"

    def place(self, **terms: Any) -> int:
        """A new order."""
        order_id = len(self.terms) + 1
        self.terms[order_id] = terms
        self.told[order_id].signed = 1 if terms.get("action", "BUY") == "BUY" else -1
        self.talk.place(order_id, **terms)
        return order_id

    @rule(
        action=st.sampled_from(["BUY", "SELL"]),
        kind=st.sampled_from(KINDS),
        quantity=st.sampled_from([1, 100, 3000]),
        offset=st.sampled_from([-3.0, -0.02, 0.0, 0.02, 3.0]),
        tif=st.sampled_from(["DAY", "GTC", "IOC", "FOK"]),
        transmit=st.sampled_from([1, 1, 1, 0]),
    )
    def place_one(self, action: str, kind: str, quantity: int, offset: float, tif: str, transmit: int) -> None:
        aux = {"TRAIL": "1.00", "TRAIL LIMIT": "1.00", "PEG MKT": "0.05"}.get(kind, "")
        aux = self.near(offset) if kind in ("STP", "STP LMT", "MIT", "LIT") else aux
        limit = self.near(offset) if kind in ("LMT", "STP LMT", "LIT", "LOC") else ""
        terms = {"order_type": kind, "quantity": quantity, "limit": limit, "aux": aux, "limit_offset": "0.02"}
        self.place(action=action, tif=tif, transmit=transmit, **terms)

    @rule(
        entry=st.sampled_from(["MKT", "LMT", "FAR"]),
        quantity=st.sampled_from([10, 2000]),
        gap=st.sampled_from([0.05, 2.0]),
    )
    def place_bracket(self, entry: str, quantity: int, gap: float) -> None:
        limit = "" if entry == "MKT" else self.near(0.0 if entry == "LMT" else -3.0)
        parent = self.place(order_type="MKT" if entry == "MKT" else "LMT", limit=limit, quantity=quantity, transmit=0)
        exits = {"action": "SELL", "quantity": quantity, "parent": parent}
        profit = self.place(order_type="LMT", limit=self.near(gap), transmit=0, **exits)
        stop = self.place(order_type="STP", aux=self.near(-gap), **exits)
        for child in (profit, stop):
            self.told[child].parent = parent

    @rule(kind=st.sampled_from([1, 2, 3]), quantity=st.sampled_from([100, 2000]), gap=st.sampled_from([0.0, 0.05, 1.0]))
    def place_group(self, kind: int, quantity: int, gap: float) -> None:
        group = f"g{len(self.kinds)}"
        self.kinds[group] = kind
        shared = {"oca_group": group, "oca_type": kind, "quantity": quantity}
        low = self.place(order_type="LMT", limit=self.near(-gap), **shared)
        high = self.place(order_type="STP", aux=self.near(gap + 0.01), **shared)
        for member in (low, high):
            self.told[member].group = group

    @precondition(lambda self: self.terms)
    @rule(data=st.data(), quantity=st.sampled_from([1, 50, 4000]), offset=st.sampled_from([-2.0, 0.0, 2.0]))
    def change(self, data: st.DataObject, quantity: int, offset: float) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.terms)))
        terms = {**self.terms[order_id], "quantity": quantity, "transmit": 1}
        if terms["order_type"] == "LMT":
            terms["limit"] = self.near(offset)
        self.talk.place(order_id, **terms)

    @precondition(lambda self: self.terms)
    @rule(data=st.data())
    def change_to_market(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.terms)))
        terms = {**self.terms[order_id], "order_type": "MKT", "limit": "", "aux": "", "transmit": 1}
        self.talk.place(order_id, **terms)

    @precondition(lambda self: self.terms)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.talk.ask("4", data.draw(st.sampled_from(sorted(self.terms))), *CANCEL)

    @precondition(lambda self: self.terms)
    @rule(data=st.data())
    def another_client_cancels(self, data: st.DataObject) -> None:
        self.other.now = self.talk.now
        self.other.ask("4", data.draw(st.sampled_from(sorted(self.terms))), *CANCEL)

    @precondition(lambda self: self.gateway.open_orders())
    @rule(data=st.data(), quantity=st.sampled_from([1, 500]), ends=st.booleans())
    def somebody_changes_or_cancels_by_hand(self, data: st.DataObject, quantity: int, ends: bool) -> None:
        orders = self.gateway.open_orders()
        perm_id = orders[data.draw(st.integers(0, len(orders) - 1))].perm_id
        with suppress(OrderRefused):
            if ends:
                self.gateway.cancel_manually(perm_id)
            else:
                self.gateway.modify_manually(perm_id, quantity=quantity)

    @precondition(lambda self: self.executions)
    @rule(by=st.sampled_from([-0.5, 0.25]))
    def the_exchange_corrects_the_last_fill(self, by: float) -> None:
        last = self.gateway.executions[-1]
        self.gateway.correct_execution(last.execution_id, last.price + by)

    @rule()
    def come_back(self) -> None:
        # What happens while nobody is there is told to nobody.
        self.talk.wait(0.001)
        self.nothing_said_breaks_the_order_of_things()
        self.talk.session.close()
        now = self.talk.now
        self.talk = Talk(self.gateway, now=now)
        self.talk.ask("5", "1")

    @rule()
    def cancel_all(self) -> None:
        self.talk.ask("58", "", "2147483647")

    @rule(seconds=st.sampled_from([0.001, 0.006, 0.03, 0.3, 3.0, 60_000.0]))
    def pass_time(self, seconds: float) -> None:
        self.talk.wait(seconds, step=max(0.25, seconds / 10))

    @rule(by=st.sampled_from([-1.5, -0.05, 0.05, 1.5]))
    def move_market(self, by: float) -> None:
        self.gateway.market.set_price(self.listing, float(self.near(by)), self.talk.now)
        self.gateway.look_again()

    @invariant()
    def nothing_said_breaks_the_order_of_things(self) -> None:
        self.is_broken = True
        for fields in self.talk.messages():
            match fields[0]:
                case "3":
                    self.hear_status(fields)
                case "5":
                    self.hear_order(fields)
                case "11":
                    self.hear_execution(fields)
                case "59":
                    assert fields[2] in self.executions, "a commission before its execution"
                    assert fields[2] not in self.reported, "a commission said twice"
                    self.reported.add(fields[2])
                case "4" if fields[1] != "-1":
                    self.told[int(fields[1])].codes.append(fields[2])
        self.is_broken = False

    def hear_order(self, fields: list[str]) -> None:
        told = self.told[int(fields[1])]
        told.total, perm_id = float(fields[14]), fields[25]
        assert told.perm_id in ("", perm_id), "an order whose permanent id changes"
        others = [other.perm_id for number, other in self.told.items() if number != int(fields[1])]
        assert perm_id not in others, "two orders with one permanent id"
        told.perm_id = perm_id
        (status,) = (text for text in fields[80:110] if text in STATUSES)
        self.hear_state(int(fields[1]), status)

    def hear_status(self, fields: list[str]) -> None:
        told = self.told[int(fields[1])]
        assert told.perm_id == fields[6], "a status before its order"
        filled, remaining = float(fields[3]), float(fields[4])
        assert remaining >= 0
        assert filled + remaining == told.total, "filled and remaining are not the total"
        assert filled >= told.filled, "a fill taken back"
        told.filled = filled
        assert (fields[2] == "Filled") == (remaining == 0)
        self.hear_state(int(fields[1]), fields[2])

    def hear_state(self, order_id: int, status: str) -> None:
        told = self.told[order_id]
        if told.status in TERMINAL:
            assert status == told.status, f"{status} after {told.status}"
        if told.status == "PendingCancel":
            assert status in TERMINAL | {"PendingCancel"}, "a cancel that is forgotten"
        if told.parent and status in ("Submitted", "Filled"):
            assert self.told[told.parent].status == "Filled", "a child at work before its parent has filled"
        told.status = status

    def hear_execution(self, fields: list[str]) -> None:
        order_id, execution_id, shares = int(fields[2]), fields[14], float(fields[19])
        told = self.told[order_id]
        assert told.perm_id, "a fill before its order"
        assert execution_id not in self.executions, "two executions with one id"
        if not execution_id.endswith(".01"):
            assert execution_id[:-2] + "01" in self.executions, "a correction of nothing"
            self.executions[execution_id] = order_id
            return
        assert told.status not in TERMINAL - {"Filled"}, "a fill after the end"
        if told.status == "Filled":
            assert told.executed + shares <= told.filled, "a fill after the order was full"
        self.executions[execution_id] = order_id
        told.executed += shares
        assert float(fields[24]) == told.executed, "the cumulative quantity is not the sum"

    def teardown(self) -> None:
        """At rest everything adds up."""
        if self.is_broken:
            return
        self.talk.wait(1.0)
        self.nothing_said_breaks_the_order_of_things()
        for group, kind in self.kinds.items():
            members = [told for told in self.told.values() if told.group == group]
            filled = [told for told in members if told.filled]
            if kind == 1 and filled:
                assert len(filled) == 1, "both orders of a group that cancels with block have filled"
                assert all(told.status in TERMINAL for told in members if told not in filled)
        self.talk.ask("58", "", "2147483647")
        self.talk.wait(1.0)
        self.nothing_said_breaks_the_order_of_things()
        assert self.gateway.open_orders() == []
        for told in self.told.values():
            assert told.executed == told.filled
            assert told.status in TERMINAL | {""}
        assert self.reported == set(self.executions)
        traded = sum(told.signed * told.executed for told in self.told.values())
        assert self.held() == self.start + traded


TestOrders = OrderMachine.TestCase
TestOrders.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
