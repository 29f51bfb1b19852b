"""What must be true of orders whatever happens: the gateway's word held against the broker's truth.

Some of it holds at every moment and is looked at whenever something is recorded (`watch`); the rest when faults have
ended and time has passed (`unsettled`, `broken`, and of changes and brackets `plans`).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal

from ibkr_gateway_server.audit.order_events import decode
from ibkr_gateway_server.domain.audit import AuditRecord, ChainCheck
from ibkr_gateway_server.domain.errors import OrderNotFound
from ibkr_gateway_server.domain.orders import Execution, LegRole, OcaType, OrderKey, OrderState
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.orders import Order

from tests.reliability.intents import Intent, Word, leg_name
from tests.reliability.life import CLIENT_ID
from tests.reliability.terms import at_broker, told
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
CHANGED = "a change is made once, and none over a newer one"
PROTECTED = "no entry without its exits, no exit without its entry"
INVARIANTS = (ONCE, LOST, TRUE, CHANGED, PROTECTED, EXPLAINED, FILLS, EVENTS, UNSENT, ENDS, READY, CHAIN, WHOLE)

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
# Groups in which a fill of one leaves less of the others.
REDUCING = frozenset({OcaType.REDUCE_WITH_BLOCK, OcaType.REDUCE_WITHOUT_BLOCK})
_NOT_KNOWN = frozenset({OrderState.UNKNOWN, OrderState.PENDING, OrderState.SENT})
_WORKING = frozenset({OrderState.WORKING, OrderState.PARTIAL})


def orders_of(gateway: Gateway, order_ref: str) -> list[Order]:
    """Every order that the broker has ever had under this orderRef."""
    return [order for order in gateway._blotter.by_perm_id.values() if order.terms.order_ref == order_ref]


def unsettled(gateway: Gateway, word: Word, intents: Sequence[Intent]) -> list[Finding]:
    """Where the gateway's word is not yet, or not, the broker's truth."""
    return [finding for intent in intents for finding in _compared(gateway, word, intent)]


def _compared(gateway: Gateway, word: Word, intent: Intent) -> Iterator[Finding]:
    found = {role: orders_of(gateway, word.order_ref(intent.key, role)) for role in intent.roles}
    for role, orders in found.items():
        yield from _compared_leg(gateway, word, intent, role, orders)
    with suppress(OrderNotFound):
        known = word.order(OrderKey(intent.key)).executions
        perm_ids = {order.perm_id for orders in found.values() for order in orders}
        if strange := [fill.execution_id for fill in known if fill.perm_id not in perm_ids]:
            yield FILLS, f"{intent.key} has fills of no order of its own: {strange}"


def _compared_leg(
    gateway: Gateway, word: Word, intent: Intent, role: LegRole, orders: Sequence[Order]
) -> Iterator[Finding]:
    name, shown = leg_name(intent.key, role), shown_of(orders)
    if len(orders) > 1:
        yield ONCE, f"{name}: the broker has {shown}"
    try:
        known = word.order(OrderKey(intent.key, leg_role=role))
    except OrderNotFound:
        if orders or intent.is_acknowledged:
            yield LOST, f"{name} is not known; the broker has: {shown}"
        return
    status = known.status
    text = f"{name} is {status.state} {status.filled_quantity:f}; the broker has: {shown}"
    # What TWS keeps back for a leg that never came is nowhere but in TWS, which tells nobody of it.
    is_there = bool(orders) and not orders[0].is_staged
    if status.state in _NOT_KNOWN and (not is_there or orders[0].status == "Inactive"):
        yield ENDS, text
        return
    if not is_there:
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
    if status.pending_modify_id and status.state in _WORKING:
        yield ENDS, f"{name}: the change {status.pending_modify_id} is not settled"
    # Of one that has ended no list shows the terms, and they matter to nobody any more.
    if not order.is_done and status.state.is_open and told(status) != at_broker(order.terms):
        yield TRUE, f"{name} is told to be {told(status)}; the broker has {at_broker(order.terms)}"
    if order.status == "Filled" and status.quantity != Decimal(str(order.terms.quantity)):
        yield TRUE, f"{text}, and its quantity is told as {status.quantity:f}"
    if not intent.changes and role is LegRole.ENTRY and intent.spec.oca_type not in REDUCING:
        # Of an order that nobody changes; of others `plans` knows what they should be.
        yield from _compared_terms(order, intent)
    fills = [fill for fill in known.executions if fill.perm_id == order.perm_id]
    yield from _compared_fills(gateway, order, fills, name)


def _compared_terms(order: Order, intent: Intent) -> Iterator[Finding]:
    terms, spec = order.terms, intent.spec
    found = (terms.action, Decimal(str(terms.quantity)), order.listing.symbol)
    if found != (spec.side.value, spec.quantity, spec.instrument.symbol):
        yield TRUE, f"{intent.key} is another order at the broker: {found}"


def shown_of(orders: Sequence[Order]) -> str:
    """The broker's orders in words."""
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
    heard = {one.stem: (one.execution_id, one.quantity, round(one.price, 6)) for one in known}
    if heard != true or len(known) != len(heard):
        yield FILLS, f"{key} has filled {sorted(heard.values())}; the broker says {sorted(true.values())}"


def broken(
    gateway: Gateway, word: Word, intents: Sequence[Intent], records: Sequence[AuditRecord], check: ChainCheck
) -> list[Finding]:
    """What the record shows, once everything has settled."""
    found: list[Finding] = []
    # More may have been recorded, of the session for instance, between the reading and the check.
    if not check.is_valid or not check.checked_count >= max(len(records), check.watermark_sequence):
        found.append((CHAIN, f"{check}"))
    return [*found, *_unexplained(gateway, word, intents, records)]


def sent_twice(world: World) -> Iterator[Finding]:
    """Order ids, orders and changes of which more than one frame was written."""
    ids = defaultdict(set)
    for frame in world.frames:
        ids[frame.order_id].add(frame.order_ref)
    for order_id, refs in ids.items():
        if len(refs) > 1:
            yield ONCE, f"order id {order_id} was used for {len(refs)} orders"
    for (ref, modify_id), count in Counter((frame.order_ref, frame.modify_id) for frame in world.frames).items():
        if count > 1:
            what = f"the change {modify_id} of {ref}" if modify_id else ref
            yield CHANGED if modify_id else ONCE, f"{what} was written {count} times"


def _unexplained(
    gateway: Gateway, word: Word, intents: Sequence[Intent], records: Sequence[AuditRecord]
) -> Iterator[Finding]:
    """Intent, then send with the order's id, then evidence with its permId: for each order at the broker."""
    refs = {word.order_ref(intent.key, role): intent.key for intent in intents for role in intent.roles}
    by_key: defaultdict[str, list[AuditRecord]] = defaultdict(list)
    for record in records:
        by_key[record.client_order_id].append(record)
    for order in gateway._blotter.by_perm_id.values():
        if order.client_id != CLIENT_ID or order.is_unbound:
            continue
        key = refs.get(order.terms.order_ref, "")
        of_order = by_key.get(key, [])
        intent = next((one for one in of_order if _is_intent(one, order.terms.order_ref)), None)
        send = next((one for one in of_order if one.kind == "order.send" and one.order_id == order.order_id), None)
        evidence = next((one for one in of_order if one.perm_id == order.perm_id), None)
        if intent is None:
            yield EXPLAINED, f"order {order.order_id} {order.terms.order_ref!r} has no intent"
        elif send is None or send.sequence < intent.sequence:
            yield EXPLAINED, f"{key}: order {order.order_id} has no send"
        elif evidence is None and order.status != "Inactive" and not order.is_staged:
            yield EXPLAINED, f"{key}: order {order.order_id} has no evidence"
        elif evidence is not None and evidence.sequence < send.sequence:
            yield EXPLAINED, f"{key}: the evidence of order {order.order_id} is older than its send"


def _is_intent(record: AuditRecord, order_ref: str) -> bool:
    return record.kind == "order.intent" and json.loads(record.body_json)["order_ref"] == order_ref


Told = Sequence[tuple[int, str, str]]
"""What a follower has read: sequence, leg, and the state where the event has one."""


def streamed(read: Told, word: Word, intents: Sequence[Intent], records: Sequence[AuditRecord]) -> Iterator[Finding]:
    """What a follower has read, against the record and against the orders' last states."""
    durable = [record.sequence for record in records if decode(record) is not None]
    sequences = [sequence for sequence, *_ in read]
    if sequences != durable:
        missing, extra = sorted(set(durable) - set(sequences)), sorted(set(sequences) - set(durable))
        yield EVENTS, f"missing {missing[:5]}, without record {extra[:5]}, of {len(durable)}"
    last = {name: state for _, name, state in read if state}
    for intent in intents:
        for role in intent.roles:
            name = leg_name(intent.key, role)
            with suppress(OrderNotFound):
                state = word.order(OrderKey(intent.key, leg_role=role)).status.state
                if last.get(name) != state:
                    yield EVENTS, f"{name}: the stream ends with {last.get(name)}, the order is {state}"
