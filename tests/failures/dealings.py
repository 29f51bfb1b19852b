"""Orders in virtual time: the real desk on its record at a simulator, and what must hold when a scenario is over.

The scenario is short and its end is looked at as the explorer of tests/reliability looks at a whole run: at most one
order of an intent, each explained by the record, every state the broker's truth, every fill there once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.domain.audit import AuditRecord
from ibkr_gateway_server.domain.events import OrderEvent, StatusChanged
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import (
    LegRole,
    Order,
    OrderKey,
    OrderSpec,
    OrderState,
    OrderStatus,
    OrderType,
    Side,
)
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.simulator import Behaviour, Fault, Rule, Simulator
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.matching import Trade
from ibkr_gateway_server.simulator.orders import Execution as SimulatedExecution
from ibkr_gateway_server.simulator.orders import Order as SimulatedOrder
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.simulator.virtual_time import VirtualTimeLoop
from ibkr_gateway_server.trading.desk import Desk
from ibkr_gateway_server.trading.guard import TradingRules

from tests.conftest import Gateway
from tests.failures.conftest import BEGIN
from tests.reliability.intents import Intent, Word
from tests.reliability.invariants import broken, orders_of, unsettled
from tests.reliability.life import Life, own_tasks

PLACE, CANCEL, CONTRACT_DETAILS = 3, 4, 9
STATUS, OPEN_ORDER, EXECUTION, COMMISSION = 3, 5, 11, 59

ACCOUNT = "DU1234567"
KEY = "the-order-000001"

# Longer than IBKR's word may take, than an order may be late, and than anything open goes unasked.
WORD_S, QUARANTINE_S, ASKED_AGAIN_S = 12.0, 130.0, 310.0


def limit(
    price: str = "10", quantity: int = 10, side: Side = Side.BUY, symbol: str = "AAPL", **terms: Any
) -> OrderSpec:
    """An order that waits: bought, far below the market."""
    instrument = Instrument(symbol=symbol, security_type=SecurityType.STK)
    return OrderSpec(instrument, side, Decimal(quantity), OrderType.LMT, limit_price=Decimal(price), **terms)


def market(quantity: int = 10) -> OrderSpec:
    """An order that fills at once."""
    return OrderSpec(
        Instrument(symbol="AAPL", security_type=SecurityType.STK), Side.BUY, Decimal(quantity), OrderType.MKT
    )


def bracket(quantity: int = 10) -> OrderSpec:
    """A bracket whose entry waits far below the market."""
    return OrderSpec(
        Instrument(symbol="AAPL", security_type=SecurityType.STK),
        Side.BUY,
        Decimal(quantity),
        OrderType.BRACKET,
        limit_price=Decimal(10),
        take_profit_price=Decimal(500),
        stop_loss_price=Decimal(5),
    )


@dataclass
class Dealings:
    """One gateway program at a simulator, and what it tells."""

    simulator: Simulator
    address: BrokerAddress
    record_path: Path
    rules: TradingRules | None = None
    restarts: RestartWindows | None = None
    life: Life = field(init=False)
    lives: int = 0
    events: list[OrderEvent] = field(default_factory=list)
    placed: list[Intent] = field(default_factory=list)
    strangers: set[int] = field(default_factory=set)
    """permIds of orders with a mark of the gateway's that it did not place."""

    # --- living and dying -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """A new process on the record; returns once it is READY."""
        loop = asyncio.get_running_loop()
        self.lives += 1
        life = self.life = Life(
            self.lives,
            self.record_path,
            self.address,
            lambda: datetime.fromtimestamp(BEGIN + loop.time(), UTC),
            random.Random(7),
            self.rules or TradingRules(orders_enabled=True),
        )
        life.disk_s = lambda: 0.0003  # type: ignore[method-assign]  # a disk without moods
        life.restarts = self.restarts
        life.on_events = self.events.extend
        await life.start()
        await life.session.wait_until_ready(40.0)

    async def kill(self) -> None:
        """The end of the process, as by SIGKILL."""
        self.life.kill()
        await self.life.buried()
        self.simulator.drop_connections()
        assert self.life.faults_of_program == []

    async def restart(self, *, record_path: Path | None = None) -> None:
        """The process ends as by SIGKILL, and a new one begins: on the same record unless another is named."""
        await self.kill()
        self.record_path = record_path or self.record_path
        await self.start()

    # --- asking ---------------------------------------------------------------------------------------------------

    async def place(self, spec: OrderSpec, key: str = KEY, *, wait_s: float | None = None) -> OrderStatus:
        """Place an order; it is held against the broker's truth at the end."""
        if all(intent.key != key for intent in self.placed):
            self.placed.append(Intent(key, spec, is_acknowledged=True))
        return await self.life.desk.place(key, spec, wait_s=wait_s)

    async def cancel(self, key: str = KEY, *, wait_s: float | None = None) -> OrderStatus:
        """Cancel an order."""
        for intent in self.placed:
            intent.is_cancel_asked |= intent.key == key
        return await self.life.desk.cancel(OrderKey(key), wait_s=wait_s)

    async def modify(self, spec: OrderSpec, modify_id: str, *, wait_s: float | None = None) -> OrderStatus:
        """Change the order under KEY."""
        status = await self.life.desk.modify(KEY, modify_id, spec, wait_s=wait_s)
        self.wanted(spec)
        return status

    def wanted(self, spec: OrderSpec) -> None:
        """These are the terms of the order under KEY from now on."""
        next(intent for intent in self.placed if intent.key == KEY).spec = spec

    def status(self, key: str = KEY, role: LegRole | None = None) -> OrderStatus:
        """Where an order stands, as clients are told."""
        return self.life.desk.status(OrderKey(key, leg_role=role))

    def order(self, key: str = KEY) -> Order:
        """An order with its fills."""
        return self.life.desk.order(OrderKey(key))

    # --- what was told --------------------------------------------------------------------------------------------

    def states(self, key: str = KEY) -> list[OrderState]:
        """The states that the stream has told of an order, each change once."""
        told = [
            one.happening.status.state
            for one in self.events
            if one.client_order_id == key and isinstance(one.happening, StatusChanged)
        ]
        return [state for before, state in zip([None, *told], told, strict=False) if state is not before]

    def quantities(self, key: str = KEY) -> list[tuple[OrderState, Decimal]]:
        """State and filled quantity of an order from its first fill on, each pair once."""
        told = [
            (one.happening.status.state, one.happening.status.filled_quantity)
            for one in self.events
            if one.client_order_id == key and isinstance(one.happening, StatusChanged)
        ]
        return list(dict.fromkeys(pair for pair in told if pair[1]))

    def told(self, kind: type[Any]) -> list[Any]:
        """What the stream has told of one kind."""
        return [one.happening for one in self.events if isinstance(one.happening, kind)]

    def recorded(self, kind: str) -> list[AuditRecord]:
        """What the record holds of one kind, oldest first."""
        records = self.life.store.at_once(lambda tx: tx.events_after(0, 1_000_000))
        return [record for record in records if record.kind == kind]

    # --- at the broker --------------------------------------------------------------------------------------------

    def inject(self, fault: Fault, message_id: int | None = None, **how: Any) -> None:
        """Let this go wrong at the simulator."""
        self.simulator.inject(Rule(fault, message_id, **how))

    def frames(self, message_id: int) -> int:
        """Messages of a kind that the simulator has received."""
        return self.simulator.frames_received(message_id)

    def truth(self, key: str = KEY, role: LegRole = LegRole.ENTRY) -> SimulatedOrder:
        """The one order that the broker has of an intent."""
        marked = orders_of(self.simulator.gateway, self.life.store.order_ref(key, role))
        (order,) = [order for order in marked if order.perm_id not in self.strangers]
        return order

    def trade(self, quantity: float, price: float = 10.0, order: SimulatedOrder | None = None) -> SimulatedExecution:
        """Let so much of an order, the one under KEY unless another is given, trade now, whatever is quoted."""
        gateway = self.simulator.gateway
        gateway._exchange._trade(order or self.truth(), Trade(price, quantity, "IEX"))
        self.simulator.flush()
        return gateway.executions[-1]

    def say(self, code: int, text: str, key: str = KEY) -> None:
        """TWS says something of an order."""
        order = self.truth(key)
        for session in self.simulator.gateway.sessions:
            session.error(order.order_id, code, text)
        self.simulator.flush()

    def by_hand(self, symbol: str = "AAPL", **terms: Any) -> SimulatedOrder:
        """Somebody places an order in TWS."""
        fields = {"action": "BUY", "quantity": 5.0, "order_type": "LMT", "limit_price": 20.0, "account": ACCOUNT}
        placed = self.simulator.gateway.place_manually(
            ContractQuery(symbol=symbol, sec_type="STK", exchange="SMART"), Terms(**{**fields, **terms})
        )
        self.simulator.flush()
        return placed

    # --- time -----------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], timeout_s: float = 2.0) -> None:
        """Returns once it holds; fails when it does not in so many virtual seconds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(max(0.002, timeout_s / 2000))

    async def until_state(self, state: OrderState, key: str = KEY, timeout_s: float = 2.0) -> None:
        """Returns once the order is told to be in a state."""
        await self.until(lambda: self.status(key).state is state, timeout_s)

    @staticmethod
    def let_pass(seconds: float) -> None:
        """Nothing happens for so long, while no gateway runs."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.jump(seconds)

    async def settle(self) -> None:
        """What is on its way has arrived and is recorded."""
        await asyncio.sleep(0.2)
        await self.life.desk.recorder.settle()

    # --- the end --------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """What must hold of every order of one leg once the scenario is over."""
        await self.settle()
        await hold_true(self.simulator, self.life.store, self.life.desk, self.placed)


async def hold_true(simulator: Simulator, store: AuditStore, desk: Desk, placed: Sequence[Intent]) -> None:
    """At most one order of an intent, each explained by the record; states are the broker's truth, every fill once."""
    gateway, word = simulator.gateway, Word(store.order_ref, desk.order)
    records = await store.transact(lambda tx: tx.events_after(0, 1_000_000))
    assert unsettled(gateway, word, placed) == []
    assert broken(gateway, word, placed, records, await store.verify()) == []


async def check_orders(gateway: Gateway, *keys: str) -> None:
    """The same of a whole gateway, for the orders that were placed under these keys and no others."""
    desk = gateway.running.desk
    await desk.recorder.settle()
    specs = {key: desk.order(OrderKey(key)).spec for key in keys}
    placed = [Intent(key, spec, is_acknowledged=True) for key, spec in specs.items() if spec is not None]
    await hold_true(gateway.simulator, desk._store, desk, placed)


@asynccontextmanager
async def dealing(
    folder: Path,
    *,
    behaviour: Behaviour | None = None,
    rules: TradingRules | None = None,
    restarts: RestartWindows | None = None,
    prepare: Callable[[Simulator], None] = lambda _: None,
) -> AsyncIterator[Dealings]:
    """A gateway that is READY, in virtual time, with the waits of production.

    `prepare` injects what must be there before its first connection.
    """
    loop = asyncio.get_running_loop()
    own_tasks(loop)
    simulator = Simulator(seed=7, clock=lambda: BEGIN + loop.time(), tick_interval_s=1.0, behaviour=behaviour)
    prepare(simulator)
    async with simulator.listen() as address:
        dealings = Dealings(simulator, BrokerAddress(address.host, address.port), folder / "audit.db", rules, restarts)
        await dealings.start()
        try:
            yield dealings
        finally:
            await dealings.kill()
