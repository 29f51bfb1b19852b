"""A client's side of the conversation, in raw fields, so that the simulator is tested as bytes in and bytes out."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.session import Session
from ibkr_gateway_server.simulator.wire import FrameReader, frame, split

# Monday 2026-11-23 15:00 UTC, 10:00 in New York.
NOW = 1795446000.0


def examples(count: int) -> int:
    """How many random inputs a test tries: so many, or a multiple of it with `make fuzz`."""
    return count * int(os.environ.get("FUZZ_TIMES", "1"))


class Talk:
    """One client's conversation with a session, without a socket; time moves when told to."""

    def __init__(self, gateway: Gateway, version: int = 200, client_id: int = 1, now: float = NOW) -> None:
        self.gateway = gateway
        self.now = now
        self.version = version
        self.session = Session(gateway)
        self._reader = FrameReader()
        hello = f"v100..{version}".encode()
        self.session.receive(b"API\0" + struct.pack(">I", len(hello)) + hello, now)
        self.greeting = self.messages()
        self.ask("71", "2", str(client_id), "")

    def ask(self, *fields: object) -> None:
        """Send one message."""
        self.session.receive(frame(str(field) for field in fields), self.now)

    def wait(self, seconds: float, *, step: float = 0.01) -> None:
        """Let time pass, looking at the market on the way."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            self.gateway.advance(self.now)
            self.session.advance()

    def messages(self) -> list[list[str]]:
        """What the session has said since the last look."""
        for piece in self.session.take():
            self._reader.feed(piece)
        return [split(payload) for payload in self._reader.payloads()]

    def heard(self, *ids: str) -> list[list[str]]:
        """Of what was said since the last look, the messages with these ids."""
        return [fields for fields in self.messages() if fields[0] in ids]

    def place(self, order_id: int, **terms: Any) -> None:
        """placeOrder with the layout of this version; what is not given is as clients leave it."""
        self.ask("3", order_id, *place_order_fields(self.version, **terms))


def place_order_fields(version: int, **given: Any) -> list[object]:
    """placeOrder's fields from the contract on, as ib_async sends them; what is not given is as it leaves it."""
    contract = {"con_id": 0, "symbol": "AAPL", "sec_type": "STK", "exchange": "SMART", **given}
    names = ["con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier", "exchange", "primary"]
    fields: list[object] = [contract.get(name, "") for name in names] + ["USD", "", "", "", ""]
    order = {"action": "BUY", "quantity": 1, "order_type": "MKT", "tif": "DAY", "transmit": 1, **given}
    fields += [order.get(name, "") for name in ("action", "quantity", "order_type", "limit", "aux", "tif", "oca_group")]
    fields += [order.get("account", ""), "", 0, order.get("ref", ""), order["transmit"], order.get("parent", 0)]
    fields += [0, 0, 0, 0, order.get("outside_rth", 0), 0]
    fields += ["", 0, order.get("good_after", ""), order.get("good_till", ""), "", "", ""]
    fields += [""] if version < 177 else []
    fields += ["", 0, "", -1, order.get("oca_type", 0), "", "", order.get("all_or_none", 0)]
    fields += ["", "", 0, 0, "", 0, "", "", "", "", "", 0, "", "", "", ""]
    fields += [0, "", order.get("trail_stop", ""), order.get("trail_percent", ""), "", "", "", "", "", "", ""]
    fields += [0, "", "", 0, 0, order.get("algo", "")]
    fields += [0] if order.get("algo") else []
    fields += ["", order.get("what_if", 0), "", 0, 0, 0, 0]
    fields += ["", "", order.get("limit_offset", ""), "", "", "", 0, "", "", "", "", "", "", "", "", 0, 0, 0, ""]
    # A pegged midpoint order has two offsets more.
    offsets = ["", ""] if order["order_type"] == "PEG MID" else []
    later = ((158, [""]), (160, [""]), (162, [0]), (166, [""]), (169, [""]), (170, offsets), (183, [""]), (184, [0]))
    rfq: list[object] = ["", 2147483647] if 187 <= version < 190 else []
    latest = ((189, [0]), (192, [2147483647]), (199, [0]))
    fields += [field for since, more in later if version >= since for field in more]
    return [*fields, *rfq, *(field for since, more in latest if version >= since for field in more)]


@pytest.fixture
def gateway() -> Gateway:
    """A gateway of one account."""
    return Gateway(seed=7, accounts=("DU1234567",), now=NOW)


@pytest.fixture
def talk(gateway: Gateway) -> Talk:
    """A client that is connected and has heard the start."""
    made = Talk(gateway)
    made.messages()
    return made
