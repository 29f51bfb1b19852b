"""What the record amounts to can be told again from its events alone."""

from __future__ import annotations

import json
from dataclasses import replace

from ibkr_gateway_server.audit.order_events import decode
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.events import CommissionReported, Filled, StatusChanged
from ibkr_gateway_server.domain.orders import Execution, LegRole, OrderKey, OrderState, OrderStatus

from tests.conftest import Gateway, eventually
from tests.server.trading.test_desk import far_limit, filled, new_key, order


async def rebuilt(
    store: AuditStore,
) -> tuple[dict[tuple[str, LegRole | None], OrderStatus], dict[str, Execution], dict[str, str]]:
    """Orders' newest statuses, executions and the terms as they were sent, from the events."""
    statuses: dict[tuple[str, LegRole | None], OrderStatus] = {}
    executions: dict[str, Execution] = {}
    refs: dict[str, str] = {}
    for record in await store.events_after(0, 100_000):
        if record.kind == "order.intent":
            refs[record.client_order_id] = json.loads(record.body_json)["order_ref"]
        event = decode(record)
        match event and event.happening:
            case StatusChanged(status):
                statuses[status.client_order_id, status.leg_role] = status
            case Filled(execution) | CommissionReported(execution):
                executions[execution.execution_id] = execution
    return statuses, executions, refs


def without_sums(status: OrderStatus) -> OrderStatus:
    """Without what is the sum of the executions, which are compared themselves, and the place in the record.

    IBKR's own word for an end that the executions have told already is no event.
    """
    bare = replace(status, commission=None, commission_currency="", last_sequence=0)
    return replace(bare, broker_status="") if status.state.is_final else bare


async def test_orders_and_executions_can_be_told_again_from_the_events(gateway: Gateway) -> None:
    desk, keys = gateway.running.desk, [new_key() for _ in range(4)]
    for key in keys[:2]:
        await desk.place(key, order())
        await filled(desk, key)
        await eventually(lambda key=key: desk.status(OrderKey(key)).commission is not None)
    for key in keys[2:]:
        await desk.place(key, far_limit())
    await desk.cancel(OrderKey(keys[3]))
    await desk.recorder.settle()
    store = desk._store
    statuses, executions, refs = await rebuilt(store)
    kept = await store.read(lambda tx: tx.all_orders())
    assert {(order.status.client_order_id, order.status.leg_role) for order in kept} == set(statuses)
    for stored in kept:
        key = stored.status.client_order_id
        assert without_sums(stored.status) == without_sums(statuses[key, stored.status.leg_role])
        assert stored.order_ref == refs[key]
    assert await store.read(lambda tx: tx.all_executions()) == list(executions.values())
    states = {statuses[key, LegRole.ENTRY].state for key in keys}
    assert states == {OrderState.FILLED, OrderState.WORKING, OrderState.CANCELLED}
