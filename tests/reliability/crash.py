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
from ibkr_gateway_server.domain.orders import Order, OrderKey, OrderStatus
from ibkr_gateway_server.simulator import Address, Simulator
from ibkr_gateway_server.simulator.instruments import ContractQuery

from tests.reliability.intents import Intent, Word, intents_of
from tests.reliability.invariants import LOST, ONCE, TRUE, Finding, broken, streamed, unsettled
from tests.reliability.report import PAGE, table, write

CALLERS = 4
PLACE = 3
# A server that does not begin within so many seconds never will.
START_LIMIT_S = 60.0
SETTLE_LIMIT_S = 60.0


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
        """Place it, until it is known to be placed or refused; then perhaps cancel it, and repeat the key."""
        self.intents.append(intent)
        request = pb.PlaceOrderRequest(client_order_id=intent.key, order=_spec(intent))
        while not await self._call(intent, "place", lambda client: client.orders.PlaceOrder(request)):
            await asyncio.sleep(self._chance.choice((0.0, 0.05, 0.3)))
        if self._chance.random() < 0.4:
            intent.is_cancel_asked = True
            key = pb.OrderKey(client_order_id=intent.key)
            cancel = pb.CancelOrderRequest(order=key)
            await asyncio.sleep(self._chance.choice((0.0, 0.02, 0.3)))
            await self._call(intent, "cancel", lambda client: client.orders.CancelOrder(cancel))
        if self._chance.random() < 0.3:
            await self._call(intent, "repeat", lambda client: client.orders.PlaceOrder(request))

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


async def run(kills: int, seed: int, folder: Path) -> Outcome:
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
        calling = [asyncio.create_task(_keep_calling(caller, simulator, is_over, f"crash-{seed:04d}-{number}"))
                   for number, caller in enumerate(callers)]  # fmt: skip
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
        await _judged(server, simulator, intents, follower, outcome)
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
    server: Server, simulator: Simulator, intents: list[Intent], follower: Follower, outcome: Outcome
) -> None:
    """What the server says, then its record, against what the simulator has done."""
    gateway = simulator.gateway
    outcome.intents = len(intents)
    outcome.orders = len([order for order in gateway._blotter.by_perm_id.values() if order.order_id])
    if simulator.frames_received(PLACE) != outcome.orders:
        frames = simulator.frames_received(PLACE)
        outcome.findings.append((ONCE, f"{frames} order messages made {outcome.orders} orders"))
    deadline = time.perf_counter() + SETTLE_LIMIT_S
    while True:
        states, word, records, check = await _recorded(server)
        found = unsettled(gateway, word, intents)
        if not found or time.perf_counter() > deadline:
            break
        await asyncio.sleep(1.0)
    await asyncio.sleep(1.0)
    await server.stop()
    async with AuditStore(server.record_path) as store:
        records, check = await store.events_after(0, 1_000_000), await store.verify()
    outcome.findings += [*found, *broken(gateway, word, intents, records, check)]
    outcome.findings += streamed(follower.told, word, intents, records)
    for key, state in states.items():
        if state != word.order(OrderKey(key)).status.state:
            outcome.findings.append((TRUE, f"{key} is {state} to callers and {word.order(OrderKey(key)).status.state} in the record"))


def _price(simulator: Simulator, symbol: str) -> float:
    gateway = simulator.gateway
    listing = gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type="STK"))[0]
    last = gateway.market.prices(listing, gateway.now).last
    assert last is not None
    return last
