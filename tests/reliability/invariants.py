"""What must be true of orders whatever happens: the gateway's word held against the broker's truth.

Some of it holds at every moment and is looked at whenever something is recorded (`watch`); the rest when faults have
ended and time has passed (`unsettled`, `broken`).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from ibkr_gateway_server.audit.order_events import decode
from ibkr_gateway_server.domain.audit import AuditRecord, ChainCheck
from ibkr_gateway_server.domain.errors import OrderNotFound
from ibkr_gateway_server.domain.events import OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import Execution, OrderKey, OrderState, OrderStatus
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.orders import Order

from tests.reliability.intents import Intent, Word
from tests.reliability.life import CLIENT_ID, Life
from tests.reliability.world import World

Finding = tuple[str, str]
"""The invariant that is broken, and what shows it."""

ONCE = "at most one order of an intent"
EXPLAINED = "every order is explained by the record"
TRUE = "a state is true or says that it is not known"
LOST = "nothing is lost"
FILLS = "every fill is there, once"
EVENTS = "each event once, in order"
UNSENT = "an error means unsent"
CHAIN = "the record's chain holds"
WHOLE = "the program has no fault of its own"

ENDS = "what is not known becomes known"
READY = "an order leaves only through a ready session"
INVARIANTS = (ONCE, LOST, TRUE, EXPLAINED, FILLS, EVENTS, UNSENT, ENDS, READY, CHAIN, WHOLE)

# An order may be late by 90 s; the gateway waits for longer before it presumes that one has never arrived.
QUARANTINE_S = 115.0

# What an order's state may be when the broker has nothing of it.
_ABSENT = frozenset(
    {
        OrderState.NOT_SENT,
        OrderState.SIMULATED,
        OrderState.REJECTED,
        OrderState.PRESUMED_NOT_PLACED,
    }
)
_ENDS_OF_A_REFUSED = frozenset(
    {OrderState.REJECTED, OrderState.CANCELLED, OrderState.PRESUMED_NOT_PLACED, OrderState.CLOSED_UNCONFIRMED}
)
_NOT_KNOWN = frozenset({OrderState.UNKNOWN, OrderState.PENDING, OrderState.SENT})
_WORKING = frozenset({OrderState.WORKING, OrderState.PARTIAL})


class Watch:
    """Looks at every event as it is recorded: a final word must be true when it is said."""

    def __init__(self, world: World, intents: Sequence[Intent]) -> None:
        self.found: list[Finding] = []
        self.states: Counter[str] = Counter()
        self._world = world
        self._keys = {intent.key for intent in intents}
        self._refs: dict[str, str] = {}
        self._presumed: list[OrderStatus] = []

    def look(self, life: Life, events: Sequence[OrderEvent]) -> None:
        """Events have just become durable."""
        for event in events:
            if isinstance(event.happening, StatusChanged) and event.client_order_id in self._keys:
                self._look_at(life, event.happening.status)

    def _look_at(self, life: Life, status: OrderStatus) -> None:
        key, state = status.client_order_id, status.state
        self.states[state] += 1
        self._world.note(f"recorded {key}: {state} {status.filled_quantity}")
        orders = orders_of(self._world.simulator.gateway, self._refs.setdefault(key, life.store.order_ref(key)))
        alive = [order for order in orders if not order.is_done]
        if (
            (state is OrderState.FILLED and not any(order.status == "Filled" for order in orders))
            or (state in (OrderState.CANCELLED, OrderState.REJECTED, OrderState.CLOSED_UNCONFIRMED) and alive)
            or (state is OrderState.REJECTED and any(order.filled for order in orders))
            or (state is OrderState.NOT_SENT and orders)
        ):
            self._tell(TRUE, status, orders)
        if state is OrderState.PRESUMED_NOT_PLACED:
            self._presumed.append(status)

    def overlooked(self) -> list[Finding]:
        """Orders that were presumed never placed, though the broker had them, or took them soon enough to wait for."""
        for status in self._presumed:
            orders = orders_of(self._world.simulator.gateway, self._refs[status.client_order_id])
            if any(map(self._is_overlooked, orders)):
                self._tell(TRUE, status, orders)
        return self.found

    def _is_overlooked(self, order: Order) -> bool:
        """One that works or has worked, and was not taken too late for anyone to wait for it."""
        return order.status != "Inactive" and not self._world.is_late(order, QUARANTINE_S)

    def _tell(self, invariant: str, status: OrderStatus, orders: Sequence[Order]) -> None:
        self.found.append(
            (invariant, f"{status.client_order_id} is told {status.state}; the broker has: {_shown(orders)}")
        )


def orders_of(gateway: Gateway, order_ref: str) -> list[Order]:
    """Every order that the broker has ever had under this orderRef."""
    return [order for order in gateway._blotter.by_perm_id.values() if order.terms.order_ref == order_ref]


def unsettled(gateway: Gateway, word: Word, intents: Sequence[Intent]) -> list[Finding]:
    """Where the gateway's word is not yet, or not, the broker's truth."""
    return [finding for intent in intents for finding in _compared(gateway, word, intent)]


def _compared(gateway: Gateway, word: Word, intent: Intent) -> Iterator[Finding]:
    orders = orders_of(gateway, word.order_ref(intent.key))
    shown = _shown(orders)
    if len(orders) > 1:
        yield ONCE, f"{intent.key}: the broker has {shown}"
    try:
        known = word.order(OrderKey(intent.key))
    except OrderNotFound:
        if orders or intent.is_acknowledged:
            yield LOST, f"{intent.key} is not known; the broker has: {shown}"
        return
    status = known.status
    text = f"{intent.key} is {status.state} {status.filled_quantity:f}; the broker has: {shown}"
    if status.state in _NOT_KNOWN and (not orders or orders[0].status == "Inactive"):
        yield ENDS, text
        return
    if not orders:
        if status.state not in _ABSENT:
            yield TRUE, text
        return
    order = orders[0]
    if status.state in _NOT_KNOWN:
        yield LOST, text
    elif status.state not in _true_states(order, intent):
        yield TRUE, text
    if status.filled_quantity != Decimal(str(order.filled)) and order.status != "Inactive":
        yield FILLS, text
    yield from _compared_fills(gateway, order, known.executions, intent.key)
    yield from _compared_terms(order, intent)


def _compared_terms(order: Order, intent: Intent) -> Iterator[Finding]:
    terms, spec = order.terms, intent.spec
    found = (terms.action, Decimal(str(terms.quantity)), order.listing.symbol)
    if found != (spec.side.value, spec.quantity, spec.instrument.symbol):
        yield TRUE, f"{intent.key} is another order at the broker: {found}"


def _shown(orders: Sequence[Order]) -> str:
    return ", ".join(f"{order.status} {order.filled:g}/{order.terms.quantity:g}" for order in orders) or "nothing"


def _true_states(order: Order, intent: Intent) -> frozenset[OrderState]:
    if order.status == "Filled":
        return frozenset({OrderState.FILLED})
    if order.status in ("Cancelled", "ApiCancelled"):
        return frozenset({OrderState.CANCELLED})
    if order.status == "Inactive":
        # Refused, or one that had to fill at once and could not; of a refusal no list tells.
        ends = (
            OrderState.REJECTED,
            OrderState.CANCELLED,
            OrderState.PRESUMED_NOT_PLACED,
            OrderState.CLOSED_UNCONFIRMED,
        )
        return frozenset(ends)
    working = frozenset({OrderState.PARTIAL if order.filled else OrderState.WORKING})
    if order.status == "PendingCancel":
        return _WORKING | {OrderState.CANCEL_PENDING}
    # A cancel that the broker never got stays asked for: the caller may ask again.
    return working | {OrderState.CANCEL_PENDING} if intent.is_cancel_asked else working


def _compared_fills(gateway: Gateway, order: Order, known: Sequence[Execution], key: str) -> Iterator[Finding]:
    """Every fill with its newest correction, each once."""
    true = {
        one.execution_id.rpartition(".")[0]: (
            one.execution_id,
            Decimal(str(one.quantity)),
            Decimal(str(round(one.price, 6))),
        )
        for one in gateway.executions
        if one.order is order
    }
    told = {one.stem: (one.execution_id, one.quantity, round(one.price, 6)) for one in known}
    if told != true or len(known) != len(told):
        yield FILLS, f"{key} has filled {sorted(told.values())}; the broker says {sorted(true.values())}"


def broken(
    gateway: Gateway, word: Word, intents: Sequence[Intent], records: Sequence[AuditRecord], check: ChainCheck
) -> list[Finding]:
    """What the record shows, once everything has settled."""
    found: list[Finding] = []
    if not check.is_valid or check.checked_count != len(records) or check.watermark_sequence > len(records):
        found.append((CHAIN, f"{check}"))
    return [*found, *_unexplained(gateway, word, intents, records)]


def sent_twice(world: World) -> Iterator[Finding]:
    """Order ids, and orders, of which more than one frame was written."""
    ids = defaultdict(set)
    for frame in world.frames:
        ids[frame.order_id].add(frame.order_ref)
    for order_id, refs in ids.items():
        if len(refs) > 1:
            yield ONCE, f"order id {order_id} was used for {len(refs)} orders"
    for ref, count in Counter(frame.order_ref for frame in world.frames).items():
        if count > 1:
            yield ONCE, f"{ref} was written {count} times"


def _unexplained(
    gateway: Gateway, word: Word, intents: Sequence[Intent], records: Sequence[AuditRecord]
) -> Iterator[Finding]:
    """Intent, then send with the order's id, then evidence with its permId: for each order at the broker."""
    refs = {word.order_ref(intent.key): intent.key for intent in intents}
    by_key: defaultdict[str, list[AuditRecord]] = defaultdict(list)
    for record in records:
        by_key[record.client_order_id].append(record)
    for order in gateway._blotter.by_perm_id.values():
        if order.client_id != CLIENT_ID or order.is_unbound:
            continue
        key = refs.get(order.terms.order_ref, "")
        told = by_key.get(key, [])
        intent = next((one for one in told if one.kind == "order.intent"), None)
        send = next((one for one in told if one.kind == "order.send" and one.order_id == order.order_id), None)
        evidence = next((one for one in told if one.perm_id == order.perm_id), None)
        if intent is None or json.loads(intent.body_json)["order_ref"] != order.terms.order_ref:
            yield EXPLAINED, f"order {order.order_id} {order.terms.order_ref!r} has no intent"
        elif send is None or send.sequence < intent.sequence:
            yield EXPLAINED, f"{key}: order {order.order_id} has no send"
        elif evidence is None and order.status != "Inactive":
            yield EXPLAINED, f"{key}: order {order.order_id} has no evidence"
        elif evidence is not None and evidence.sequence < send.sequence:
            yield EXPLAINED, f"{key}: the evidence of order {order.order_id} is older than its send"


Told = Sequence[tuple[int, str, str]]
"""What a follower has read: sequence, client_order_id, and the state where the event has one."""


def streamed(told: Told, word: Word, intents: Sequence[Intent], records: Sequence[AuditRecord]) -> Iterator[Finding]:
    """What a follower has read, against the record and against the orders' last states."""
    durable = [record.sequence for record in records if decode(record) is not None]
    sequences = [sequence for sequence, *_ in told]
    if sequences != durable:
        missing, extra = sorted(set(durable) - set(sequences)), sorted(set(sequences) - set(durable))
        yield EVENTS, f"missing {missing[:5]}, without record {extra[:5]}, of {len(durable)}"
    last = {key: state for _, key, state in told if state}
    for intent in intents:
        try:
            state = word.order(OrderKey(intent.key)).status.state
        except OrderNotFound:
            continue
        if last.get(intent.key) != state:
            yield EVENTS, f"{intent.key}: the stream ends with {last.get(intent.key)}, the order is {state}"
