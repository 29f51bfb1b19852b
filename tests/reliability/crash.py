"""`make crash KILLS=300`: the server as operators start it, killed again and again while orders are placed.

The simulator is in this process and listens on TCP, so that it outlives every server and its truth can be read in the
end. Callers place, cancel and repeat their keys through gRPC until they have an answer; a follower resumes the order
stream with its cursor. SIGKILL comes at random, every other time within milliseconds of an order's request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ibkr_gateway import AsyncGateway, GatewayError, connect, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.errors import OrderNotFound
from ibkr_gateway_server.domain.orders import Order, OrderKey
from ibkr_gateway_server.simulator import Address, Simulator
from ibkr_gateway_server.simulator.instruments import ContractQuery

from tests.reliability.intents import Intent, Word, intents_of
from tests.reliability.invariants import ENDS, LOST, ONCE, TRUE, Finding, broken, streamed, unsettled
from tests.reliability.report import PAGE, table, write

CALLERS = 4
PLACE = 3
# A server that does not begin within so many seconds never will.
START_LIMIT_S = 60.0
# An order that never arrived is presumed so after this, and a little.
QUARANTINE_S = 120.0

_UNSETTLED = frozenset({"PENDING", "SENT", "UNKNOWN", "CANCEL_PENDING"})


@dataclass(slots=True)
class Outcome:
    """What a run was."""

    kills: int = 0
    intents: int = 0
    orders: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    """From the start of the process until it serves."""
    ready_s: list[float] = field(default_factory=list)
    """And until its session is READY."""
    states: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0


class Server:
    """The server program, one process after another, on one record."""

    def __init__(self, folder: Path, broker: Address, outcome: Outcome) -> None:
        self.record_path = folder / "audit.db"
        self.serving = asyncio.Event()
        self.target = ""
        self._folder = folder
        self._broker = broker
        self._outcome = outcome
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it serves. Raises RuntimeError when it does not begin."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        settings = {
            "ORDERS_ENABLED": "true",
            "IBKR_GATEWAY_PORT": str(self._broker.port),
            "AUDIT_DB_PATH": str(self.record_path),
            "LOG_LEVEL": "ERROR",
        }
        began = time.perf_counter()
        with (self._folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ibkr_gateway_server", "--mode", "paper", "--port", "0"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env={**kept, **settings},
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            line = (await self._process.stdout.readline()).decode().strip()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the server did not start: {(self._folder / 'server.log').read_text()[-2000:]}")
        self._outcome.starts_s.append(time.perf_counter() - began)
        self.target = line.removeprefix("listening on ")
        self.serving.set()
        await self._until_ready()
        self._outcome.ready_s.append(time.perf_counter() - began)

    async def _until_ready(self) -> None:
        async with asyncio.timeout(START_LIMIT_S), connect(self.target, timeout_s=5.0) as client:
            while True:
                status = await client.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())
                if status.status.can_send_orders:
                    return
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """SIGKILL: nothing of it is left but what it has written."""
        assert self._process is not None
        self.serving.clear()
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM: it ends by itself."""
        assert self._process is not None
        self.serving.clear()
        self._process.send_signal(signal.SIGTERM)
        await self._process.wait()


class Caller:
    """Somebody with one order after another. He repeats a key until he is told what has become of it."""

    def __init__(self, server: Server, outcome: Outcome, chance: random.Random, asked: asyncio.Event) -> None:
        self.intents: list[Intent] = []
        self._server = server
        self._outcome = outcome
        self._chance = chance
        self._asked = asked

    async def pursue(self, intent: Intent) -> None:
        """Place it, until it is known to be placed or refused; then perhaps cancel it, and repeat the key.

        Of what rests most is cancelled in the end: IBKR takes some twenty open orders of a contract and no more.
        """
        self.intents.append(intent)
        request = pb.PlaceOrderRequest(client_order_id=intent.key, order=_spec(intent))
        while not await self._call(intent, "place", lambda client: client.orders.PlaceOrder(request)):
            await asyncio.sleep(self._chance.choice((0.0, 0.05, 0.3)))
        if self._chance.random() < 0.4:
            await asyncio.sleep(self._chance.choice((0.0, 0.02, 0.3)))
            await self._cancel(intent)
        if self._chance.random() < 0.3:
            await self._call(intent, "repeat", lambda client: client.orders.PlaceOrder(request))
        if self._chance.random() < 0.9:
            await self._cancel(intent)

    async def _cancel(self, intent: Intent) -> None:
        intent.is_cancel_asked = True
        cancel = pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=intent.key))
        await self._call(intent, "cancel", lambda client: client.orders.CancelOrder(cancel))

    async def _call(self, intent: Intent, name: str, ask: Callable[[AsyncGateway], Awaitable[object]]) -> bool:
        """Whether an answer with a state came."""
        await self._server.serving.wait()
        self._outcome.calls[name] += 1
        if name == "place":
            self._asked.set()
        try:
            async with connect(self._server.target, timeout_s=5.0) as client:
                await ask(client)
        except GatewayError as error:
            self._outcome.calls[f"{name}: {error.reason or 'no answer'}"] += 1
            if error.reason == "ORDER_NOT_FOUND" and intent.is_acknowledged:
                self._outcome.findings.append((LOST, f"{intent.key} is not known any more"))
            return False
        intent.is_acknowledged = True
        return True


class Follower:
    """Reads the order stream over every server's life."""

    def __init__(self, server: Server) -> None:
        self.told: list[tuple[int, str, str]] = []
        self._server = server

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._server.serving.wait()
            with suppress(GatewayError):
                async with connect(self._server.target) as client:
                    cursor = self.told[-1][0] if self.told else 0
                    request = pb.StreamOrderEventsRequest(resume_after_sequence=cursor)
                    async for response in client.orders.StreamOrderEvents(request):
                        self.told += [_told(event) for event in response.events if event.sequence]
            await asyncio.sleep(0.02)


async def run(kills: int, seed: int, settle_s: float, folder: Path) -> Outcome:
    """Kill the server so many times, and look at what is left."""
    began, outcome = time.perf_counter(), Outcome()
    chance, asked = random.Random(seed), asyncio.Event()
    simulator = Simulator(seed=seed)
    async with simulator.listen() as address:
        server = Server(folder, address, outcome)
        callers = [Caller(server, outcome, random.Random(seed * 7 + number), asked) for number in range(CALLERS)]
        follower = Follower(server)
        await server.start()
        following = asyncio.create_task(follower.run())
        is_over = asyncio.Event()
        calling = [
            asyncio.create_task(_keep_calling(caller, simulator, is_over, f"crash-{seed:04d}-{number}"))
            for number, caller in enumerate(callers)
        ]
        for _ in range(kills):
            asked.clear()
            if chance.random() < 0.5:
                with suppress(TimeoutError):
                    async with asyncio.timeout(3.0):
                        await asked.wait()
                await asyncio.sleep(chance.uniform(0.0, 0.02))
            else:
                await asyncio.sleep(chance.uniform(0.05, 0.8))
            await server.kill()
            outcome.kills += 1
            await server.start()
            if outcome.kills % 20 == 0:
                print(f"  {outcome.kills} of {kills} kills", flush=True)
        is_over.set()
        await asyncio.gather(*calling)
        intents = [intent for caller in callers for intent in caller.intents]
        await _judged(server, simulator, intents, follower, settle_s, outcome)
        following.cancel()
    outcome.seconds = time.perf_counter() - began
    return outcome


async def _keep_calling(caller: Caller, simulator: Simulator, is_over: asyncio.Event, name: str) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        intents = intents_of(f"{name}-{number:06d}", lambda symbol: _price(simulator, symbol), caller._chance, 1)
        await caller.pursue(intents[0])
        await asyncio.sleep(caller._chance.choice((0.0, 0.1, 0.5)))


async def _judged(
    server: Server, simulator: Simulator, intents: list[Intent], follower: Follower, settle_s: float, outcome: Outcome
) -> None:
    """What the server says, then its record, against what the simulator has done."""
    gateway = simulator.gateway
    # The market stands still from here on: a fill between the two looks could be in one of them only.
    setattr(gateway._exchange, "look", lambda: None)  # noqa: B010
    outcome.intents = len(intents)
    outcome.orders = len(gateway.orders)
    if simulator.frames_received(PLACE) != outcome.orders:
        frames = simulator.frames_received(PLACE)
        outcome.findings.append((ONCE, f"{frames} order messages made {outcome.orders} orders"))
    said = await _said_in_the_end(server, intents, settle_s)
    await asyncio.sleep(1.0)
    await server.stop()
    async with AuditStore(server.record_path) as store:
        records, check = await store.events_after(0, 10_000_000), await store.verify()
        stored, fills = await store.transact(lambda tx: (tx.all_orders(), tx.all_executions()))
        orders = {
            one.status.client_order_id: Order(
                one.status, one.spec, tuple(fill for fill in fills if fill.perm_id == one.status.perm_id)
            )
            for one in stored
        }
        word = Word(store.order_ref, lambda key: _known(orders, key))
        found = unsettled(gateway, word, intents)
        outcome.findings += [one for one in found if one[0] != ENDS or settle_s > QUARANTINE_S]
        outcome.findings += broken(gateway, word, intents, records, check)
        outcome.findings += streamed(follower.told, word, intents, records)
    outcome.states = Counter(order.status.state.value for order in orders.values())
    for key, state in said.items():
        if key not in orders or orders[key].status.state != state:
            recorded = orders[key].status.state if key in orders else "nothing"
            outcome.findings.append((TRUE, f"{key} is {state} to callers and {recorded} in the record"))


async def _said_in_the_end(server: Server, intents: list[Intent], settle_s: float) -> dict[str, str]:
    """The state of each order, once nothing is unknown any more, or after so many seconds."""
    deadline = time.perf_counter() + settle_s
    async with connect(server.target, timeout_s=10.0) as client:
        while True:
            said = {}
            for intent in intents:
                request = pb.GetOrderStatusRequest(order=pb.OrderKey(client_order_id=intent.key))
                state = (await client.orders.GetOrderStatus(request)).status.state
                said[intent.key] = pb.OrderState.Name(state).removeprefix("ORDER_STATE_")
            if not _UNSETTLED.intersection(said.values()) or time.perf_counter() > deadline:
                return said
            await asyncio.sleep(1.0)


def _known(orders: dict[str, Order], key: OrderKey) -> Order:
    if key.client_order_id not in orders:
        raise OrderNotFound(str(key))
    return orders[key.client_order_id]


def _spec(intent: Intent) -> pb.OrderSpec:
    spec = intent.spec
    return pb.OrderSpec(
        instrument=stock(spec.instrument.symbol),
        side=common_pb2.Side.Value(f"SIDE_{spec.side}"),
        quantity=f"{spec.quantity:f}",
        order_type=pb.OrderType.Value(f"ORDER_TYPE_{spec.order_type}"),
        limit_price=None if spec.limit_price is None else f"{spec.limit_price:f}",
        time_in_force=pb.TimeInForce.Value(f"TIME_IN_FORCE_{spec.time_in_force}"),
    )


def _told(event: pb.OrderEvent) -> tuple[int, str, str]:
    is_status = event.WhichOneof("event") == "status"
    state = pb.OrderState.Name(event.status.state).removeprefix("ORDER_STATE_") if is_status else ""
    return event.sequence, event.client_order_id, state


def _price(simulator: Simulator, symbol: str) -> float:
    gateway = simulator.gateway
    listing = gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type="STK"))[0]
    last = gateway.market.prices(listing, gateway.now).last
    assert last is not None
    return last


def _spread(values: list[float]) -> tuple[str, str, str]:
    """Median, 99th percentile and most, in seconds."""
    ordered = sorted(values)
    return (
        f"{statistics.median(ordered):.2f}",
        f"{ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]:.2f}",
        f"{ordered[-1]:.2f}",
    )


def tables(outcome: Outcome) -> str:
    """Everything, as Markdown."""
    counts = {"kills": outcome.kills, "starts": len(outcome.starts_s), "intents": outcome.intents}
    counts |= {"orders at the broker": outcome.orders, **dict(sorted(outcome.calls.items()))}
    counts |= {f"in the end {state}": count for state, count in sorted(outcome.states.items())}
    counts |= {"invariants broken": len(outcome.findings)}
    times = [("until it serves", *_spread(outcome.starts_s)), ("until orders may be sent", *_spread(outcome.ready_s))]
    return "\n\n".join(
        (
            table(("run", "number"), [(name, f"{count:,}") for name, count in counts.items()]),
            table(("seconds from a start", "median", "99 %", "most"), times),
        )
    )


def main(argv: list[str] | None = None) -> int:
    """Run from the command line. Returns the exit code: 0 nothing found, 1 something found."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides orders and moments (default: %(default)s)")
    parser.add_argument("--settle", type=float, help="seconds to wait in the end for what is not known")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args(argv)
    settle_s = arguments.settle if arguments.settle is not None else 150.0 if arguments.kills >= 100 else 3.0
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(run(arguments.kills, arguments.seed, settle_s, Path(folder)))
    print(tables(outcome))
    for invariant, text in outcome.findings:
        print(f"BROKEN: {invariant}: {text}")
    figures = {"kills": outcome.kills, "intents": outcome.intents, "orders": outcome.orders}
    figures |= {"broken": len(outcome.findings), "seconds": round(outcome.seconds, 1)}
    print(json.dumps({**figures, "start_s": _spread(outcome.starts_s), "ready_s": _spread(outcome.ready_s)}))
    if outcome.findings:
        return 1
    if arguments.write:
        write(PAGE, "crash", f"make crash KILLS={outcome.kills}", outcome.seconds, tables(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
