"""Random programs on a simulated gateway with random faults, from a seed: all bytes said and heard, as one digest.

    make explore-simulator ORDERS=100000 SEED=1

Three clients of different versions place, change and cancel orders of every kind, ask for what there is, break off and
come back, while prices jump and things go wrong. What happens follows from the seed: a run can be repeated to the byte,
in any process. On the way it is checked that every order's fills add up and that nothing the gateway says is malformed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ibkr_gateway_server.simulator.faults import Fault, Rule
from ibkr_gateway_server.simulator.faults.acts import inject
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.session import Session
from ibkr_gateway_server.simulator.wire import FrameReader, ProtocolError, frame, split

from tests.server.simulator.conftest import NOW, place_order_fields

ACCOUNTS = ("DU1234567", "DU7654321")
# Client ids and the versions that they speak.
CLIENTS = ((0, 200), (1, 178), (2, 176))

_INSTRUMENTS = (
    {"symbol": "AAPL", "sec_type": "STK", "exchange": "SMART"},
    {"symbol": "MSFT", "sec_type": "STK", "exchange": "NASDAQ"},
    {"symbol": "MES", "sec_type": "FUT", "exchange": "CME", "expiry": "202612"},
    {"symbol": "EUR", "sec_type": "CASH", "exchange": "IDEALPRO"},
)
_TYPES = ("MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT", "MTL", "REL", "MOC", "LOC", "NONSENSE")
# What goes wrong, each about as often as the others.
_RULES = (
    *(Rule(fault, 3) for fault in (Fault.LOSE, Fault.DISCONNECT_BEFORE, Fault.DISCONNECT_AFTER, Fault.CLOSE_AFTER)),
    Rule(Fault.LOSE, 4),
    Rule(Fault.LATE, 3, delay_s=0.5),
    Rule(Fault.LATE, 4, delay_s=0.5),
    Rule(Fault.REFUSE, 3, code=201, text="Order rejected - reason:The exchange is closed."),
    Rule(Fault.READ_ONLY, duration_s=0.2, times=None),
    *(Rule(Fault.LOSE_REPLY, message) for message in (3, 5, 11, 59, 62, 53)),
    *(Rule(Fault.DUPLICATE_REPLY, message) for message in (3, 5, 11, 59)),
    *(Rule(Fault.REORDER_REPLY, message) for message in (3, 5, 11, 59)),
    *(Rule(Fault.DELAY_REPLY, message, delay_s=0.4) for message in (3, 11)),
    Rule(Fault.CORRUPT_FIELD, 3, field=3, value="x"),
    Rule(Fault.SENTINEL, value="nan", times=5),
    Rule(Fault.PRECEDE_UNKNOWN, 5),
    Rule(Fault.BAD_LENGTH, 3, value="-1"),
    Rule(Fault.RESET_MID_FRAME, 5),
    Rule(Fault.ORDER_ID, value="7"),
    Rule(Fault.HALF_OPEN, duration_s=0.5),
    Rule(Fault.SPLIT, duration_s=0.3, value="3"),
    Rule(Fault.CLIENT_ID_IN_USE, times=2),
    *(Rule(fault) for fault in (Fault.DISCONNECT, Fault.CLOSE, Fault.COMPETING_SESSION, Fault.DEPTH_RESET)),
    Rule(Fault.LINK_LOST, duration_s=0.3),
    Rule(Fault.LINK_LOST, duration_s=0.3, value="data_lost"),
    Rule(Fault.FARM_BROKEN, duration_s=0.5, value="market"),
    Rule(Fault.PORT_CHANGED, value="4002"),
)
_TIFS = ("DAY", "DAY", "GTC", "IOC", "FOK", "OPG")


@dataclass(slots=True)
class Outcome:
    """What a run was."""

    digest: str
    orders: int
    fills: int
    frames_in: int
    frames_out: int
    connections: int
    faults: dict[str, int] = field(default_factory=dict)


class _Client:
    """One program: it keeps a connection, and remembers the ids that it has used."""

    def __init__(self, gateway: Gateway, client_id: int, version: int) -> None:
        self.gateway = gateway
        self.client_id = client_id
        self.version = version
        self.used: list[int] = []
        self.next_id = 1
        self.connections = 0
        self.session = self._connected()

    def _connected(self) -> Session:
        self.connections += 1
        self.reader = FrameReader()
        session = Session(self.gateway)
        hello = f"v100..{self.version}".encode()
        session.receive(b"API\0" + len(hello).to_bytes(4, "big") + hello, self.gateway.now)
        session.receive(frame(("71", "2", str(self.client_id), "")), self.gateway.now)
        return session

    def come_back(self) -> None:
        """Connect again, if the connection has ended."""
        if self.session.is_closed:
            self.session = self._connected()


class Exploration:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._digest = hashlib.sha256()
        self.gateway = Gateway(seed, ACCOUNTS, NOW)
        self.clients = [_Client(self.gateway, *each) for each in CLIENTS]
        self._orders = self._frames_in = self._frames_out = 0
        self._faults: Counter[str] = Counter()

    def run(self, orders: int) -> Outcome:
        """Act until so many orders have been sent."""
        while self._orders < orders:
            self._step()
        self._settle()
        self._check()
        return Outcome(
            digest=self._digest.hexdigest(),
            orders=self._orders,
            fills=len(self.gateway.executions),
            frames_in=self._frames_in,
            frames_out=self._frames_out,
            connections=sum(client.connections for client in self.clients),
            faults=dict(self._faults),
        )

    def _step(self) -> None:
        chance = self._chance
        client = chance.choice(self.clients)
        act = chance.choices(
            (
                *(self._place, self._change, self._cancel, self._ask, self._bracket, self._move, self._break_off),
                self._go_wrong,
            ),
            (40, 8, 20, 1, 6, 6, 1, 6),
        )[0]
        act(client)
        self._pass(chance.choice((0.0, 0.001, 0.03, 0.3)))
        if chance.random() < 0.004:
            self._say(client, "58", *(("1",) if client.version < 192 else ("", "2147483647")))

    def _place(self, client: _Client) -> None:
        order_id = self._new_id(client)
        self._send_order(client, order_id, **self._terms())

    def _change(self, client: _Client) -> None:
        if client.used:
            self._send_order(client, self._chance.choice(client.used[-20:]), **self._terms())

    def _cancel(self, client: _Client) -> None:
        if client.used:
            order_id = self._chance.choice(client.used[-30:])
            stamps = ("1", order_id, "") if client.version < 192 else (order_id, "", "", "2147483647")
            self._say(client, "4", *stamps)

    def _bracket(self, client: _Client) -> None:
        terms = self._terms() | {"order_type": "LMT", "tif": "GTC", "oca_group": "", "transmit": 0}
        price = float(terms["limit"])  # type: ignore[arg-type]  # always a number
        parent = self._new_id(client)
        self._send_order(client, parent, **terms)
        exit_side = "SELL" if terms["action"] == "BUY" else "BUY"
        away = 1.05 if exit_side == "SELL" else 0.95
        common = terms | {"action": exit_side, "parent": parent}
        self._send_order(client, self._new_id(client), **common | {"limit": _tick(price * away, terms)})
        stop = {"order_type": "STP", "limit": "", "aux": _tick(price * (2 - away), terms), "transmit": 1}
        self._send_order(client, self._new_id(client), **common | stop)

    def _ask(self, client: _Client) -> None:
        questions: tuple[tuple[object, ...], ...] = (
            ("5", "1"),
            ("16", "1"),
            ("99", "0"),
            ("61", "1"),
            ("49", "1"),
            ("15", "1", "1"),
            ("7", "3", 77, 0, "", "", "", "", "", "", *(("2147483647", "0") if client.version >= 200 else ())),
            ("62", "1", 78, "All", "NetLiquidation,BuyingPower"),
            ("63", "1", 78),
            ("1", "11", 79, 265598, *[""] * 6, "SMART", *[""] * 4, 0, "", 0, 0, ""),
            ("2", "2", 79),
            ("92", 80, ACCOUNTS[0], ""),
            ("93", 80),
        )
        self._say(client, *self._chance.choice(questions))

    def _move(self, _client: _Client) -> None:
        """A price jumps."""
        named = self._chance.choice(_INSTRUMENTS)
        listing = next(each for each in self.gateway.catalogue if _is(each, named))
        price = self.gateway.market.value(listing, self.gateway.now) * self._chance.choice((0.97, 0.995, 1.004, 1.03))
        self.gateway.market.set_price(listing, price, self.gateway.now)
        self.gateway.look_again()

    def _break_off(self, client: _Client) -> None:
        if self._chance.random() < 0.5:
            client.session.abort()
        else:
            client.session.close()

    def _go_wrong(self, _client: _Client) -> None:
        rule = self._chance.choice(_RULES)
        self._faults[rule.fault.name] += 1
        inject(self.gateway, rule)

    def _terms(self) -> dict[str, object]:
        chance = self._chance
        named = chance.choice(_INSTRUMENTS)
        listing = next(each for each in self.gateway.catalogue if _is(each, named))
        last = self.gateway.market.prices(listing, self.gateway.now).last
        order_type = chance.choice(_TYPES)
        near = last * chance.choice((0.98, 0.999, 1.0, 1.001, 1.02))
        amount = chance.choice((1, 2, 5, 10, 100)) * (20_000 if named["sec_type"] == "CASH" else 1)
        terms: dict[str, object] = dict(named)
        terms |= {"action": chance.choice(("BUY", "SELL")), "quantity": amount, "order_type": order_type}
        terms |= {"tif": chance.choice(_TIFS), "account": chance.choice((*ACCOUNTS, ACCOUNTS[0]))}
        terms |= {"limit": _tick(near, named), "aux": _tick(last * chance.choice((0.99, 1.01)), named)}
        if order_type in ("TRAIL", "TRAIL LIMIT"):
            terms |= {"aux": "", "trail_percent": 1.0, "limit_offset": 0.25 if order_type == "TRAIL LIMIT" else ""}
        if order_type == "REL":
            terms["aux"] = 0.0
        if chance.random() < 0.08:
            terms |= {"oca_group": f"g{chance.randrange(4)}", "oca_type": chance.choice((1, 2, 3))}
        if chance.random() < 0.03:
            terms["what_if"] = 1
        return terms

    def _new_id(self, client: _Client) -> int:
        client.next_id = max(client.next_id, self.gateway.next_order_id(client.client_id)) + 1
        client.used.append(client.next_id - 1)
        return client.next_id - 1

    def _send_order(self, client: _Client, order_id: int, **terms: object) -> None:
        self._orders += 1
        self._say(client, "3", order_id, *place_order_fields(client.version, **terms))

    def _say(self, client: _Client, *fields: object) -> None:
        client.come_back()
        data = frame(str(each) for each in fields)
        self._digest.update(data)
        self._frames_in += 1
        client.session.receive(data, self.gateway.now)
        self._hear()

    def _pass(self, seconds: float) -> None:
        self.gateway.advance(self.gateway.now + seconds)
        for client in self.clients:
            client.session.advance()
        self._hear()

    def _settle(self) -> None:
        """Let what is on its way arrive."""
        for _ in range(100):
            self._pass(0.1)

    def _hear(self) -> None:
        for client in self.clients:
            for piece in client.session.take():
                self._digest.update(client.client_id.to_bytes(1, "big") + piece)
                self._read(client, piece)

    def _read(self, client: _Client, piece: bytes) -> None:
        """Cut what was said into messages; what has been spoiled on purpose need not be whole."""
        try:
            client.reader.feed(piece)
            for payload in client.reader.payloads():
                split(payload)
                self._frames_out += 1
        except ProtocolError:
            client.reader = FrameReader()

    def _check(self) -> None:
        """Every order's executions add up to what it has filled."""
        filled: Counter[int] = Counter()
        for execution in self.gateway.executions:
            if execution.execution_id.endswith(".01"):
                filled[execution.order.perm_id] += round(execution.quantity * 10_000)
        for order in self.gateway.orders.values():
            assert filled[order.perm_id] == round(order.filled * 10_000), order
            assert abs(order.filled + order.remaining - order.terms.quantity) < 1e-9, order


def _is(listing: object, named: dict[str, str]) -> bool:
    return getattr(listing, "symbol", "") == named["symbol"] and getattr(listing, "sec_type", "") == named["sec_type"]


def _tick(price: float, named: object) -> float:
    step = {"FUT": 0.25, "CASH": 0.00005}.get(dict(named)["sec_type"], 0.01)  # type: ignore[call-overload]  # a dict
    return round(round(price / step) * step, 5)


def main() -> int:
    """Run from the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make explore-simulator", description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000, help="orders to send (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides everything (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="one run in this process, its outcome as JSON")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(asdict(Exploration(arguments.seed).run(arguments.orders))))
        return 0
    began = time.perf_counter()
    outcomes = replayed(arguments.seed, arguments.orders)
    print(json.dumps(outcomes[0], indent=2))
    if outcomes[0] != outcomes[1]:
        print(f"another process saw something else: {json.dumps(outcomes[1])}", file=sys.stderr)
        return 1
    print(f"two processes had the same bytes, in {time.perf_counter() - began:.0f} s")
    return 0


def replayed(seed: int, orders: int) -> list[dict[str, object]]:
    """The outcomes of one seed in two processes at the same time, which hash text differently."""
    command = [
        sys.executable,
        "-m",
        "tests.server.simulator.exploration",
        "--seed",
        str(seed),
        "--orders",
        str(orders),
        "--once",
    ]
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONHASHSEED": hash_seed}
        )
        for hash_seed in ("1", "4711")
    ]
    told = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a process failed: it has said above why")
    return [json.loads(each) for each in told]


if __name__ == "__main__":
    sys.exit(main())
