"""The desk on the real broker, record and simulator: at most one submission, and a state that is true or UNKNOWN."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest
from ibkr_gateway_server.domain.errors import (
    AccountNotFound,
    BrokerDisconnected,
    BrokerLinkDown,
    ClientOrderIdConflict,
    FieldsInvalid,
    MaxNotional,
    MaxSize,
    NotCancellable,
    OrderNotFound,
    Reason,
    ScopeMissing,
    TradingDisabled,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import MarginSource, OrderKey, OrderSpec, OrderState, OrderType, Side
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.trading.desk import Desk, DeskTimings
from ibkr_gateway_server.trading.plan import legs_of

from tests.conftest import Gateway, MakeGateway, eventually

PLACE, CANCEL, CANCEL_ALL = 3, 4, 58
AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)


def order(order_type: OrderType = OrderType.MKT, **changed: Any) -> OrderSpec:
    fields = {"instrument": AAPL, "side": Side.BUY, "quantity": Decimal(10), "order_type": order_type}
    return OrderSpec(**{**fields, **changed})


def far_limit(**changed: Any) -> OrderSpec:
    return order(OrderType.LMT, limit_price=Decimal("10.00"), **changed)


def new_key() -> str:
    return uuid.uuid4().hex


async def filled(desk: Desk, key: str) -> None:
    await eventually(lambda: desk.status(OrderKey(key)).state is OrderState.FILLED)


async def test_a_market_order_is_placed_filled_and_charged(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    first = await desk.place(key, order())
    assert first.state in (OrderState.WORKING, OrderState.FILLED)
    await eventually(
        lambda: desk.order(OrderKey(key)).executions and desk.order(OrderKey(key)).executions[0].commission
    )
    known = desk.order(OrderKey(key))
    assert known.status.filled_quantity == 10
    assert known.status.commission == 1
    assert known.executions[0].client_order_id == key


async def test_eight_callers_with_one_key_send_one_order(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    answers = await asyncio.gather(*(desk.place(key, far_limit()) for _ in range(8)))
    assert {answer.order_id for answer in answers} == {answers[0].order_id}
    assert gateway.simulator.frames_received(PLACE) == 1


async def test_a_key_is_remembered_over_a_restart(make_gateway: MakeGateway, tmp_path: Path) -> None:
    key = new_key()
    first = await make_gateway(audit_db_path=tmp_path / "first.db", ibkr_client_id=5)
    await first.running.desk.place(key, far_limit())
    await first.running.desk.recorder.settle()
    for kind in ("watermark", "db", "db-wal", "key"):
        shutil.copy(tmp_path / f"first.{kind}", tmp_path / f"second.{kind}")
    second = await make_gateway(audit_db_path=tmp_path / "second.db", ibkr_client_id=5, simulation_seed=8)
    again = await second.running.desk.place(key, far_limit())
    assert second.simulator.frames_received(PLACE) == 0
    # The new simulator has never heard of it: what became of the order is not known, and nothing is presumed.
    assert again.state is OrderState.UNKNOWN
    fresh = await second.running.desk.place(new_key(), far_limit())
    assert fresh.order_id > again.order_id


async def test_one_key_for_two_orders_is_a_conflict_and_sends_nothing(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    await desk.place(key, far_limit())
    with pytest.raises(ClientOrderIdConflict):
        await desk.place(key, far_limit(quantity=Decimal(11)))
    assert gateway.simulator.frames_received(PLACE) == 1


async def test_with_orders_disabled_nothing_reaches_the_socket(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(orders_enabled=False)
    desk, key = gateway.running.desk, new_key()
    assert (await desk.place(key, order())).state is OrderState.SIMULATED
    assert (await desk.place(key, order())).state is OrderState.SIMULATED
    with pytest.raises(TradingDisabled):
        await desk.place(new_key(), order(), require_transmit=True)
    preview = await desk.preview(order())
    assert preview.margin_source is MarginSource.ESTIMATE
    assert [blocker.reason for blocker in preview.blockers] == [Reason.TRADING_DISABLED]
    assert gateway.simulator.frames_received(PLACE) == 0


async def test_the_send_itself_refuses_when_orders_are_disabled(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(orders_enabled=False)
    desk, connection = gateway.running.desk, gateway.running.session.connection()
    with pytest.raises(TradingDisabled):
        desk._wire.place(connection, 1, order(), legs_of(order(), "")[0], "")
    with pytest.raises(TradingDisabled):
        desk._wire.cancel(connection, 1)
    with pytest.raises(TradingDisabled):
        desk._wire.cancel_all(connection)
    assert all(gateway.simulator.frames_received(kind) == 0 for kind in (PLACE, CANCEL, CANCEL_ALL))


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (order(quantity=Decimal(-1)), FieldsInvalid),
        (order(quantity=Decimal("NaN")), FieldsInvalid),
        (order(limit_price=Decimal(5)), FieldsInvalid),
        (order(OrderType.LMT, limit_price=Decimal("187.305")), FieldsInvalid),
        (order(quantity=Decimal("1.5")), FieldsInvalid),
        (order(account_id="U7654321"), AccountNotFound),
        (order(quantity=Decimal(101)), MaxSize),
        (order(quantity=Decimal(100)), MaxNotional),
    ],
)
async def test_what_is_refused_is_neither_sent_nor_an_intent(
    make_gateway: MakeGateway, spec: OrderSpec, error: type[Exception]
) -> None:
    gateway = await make_gateway(max_size_per_symbol="100", max_notional="5000")
    with pytest.raises(error):
        await gateway.running.desk.place(new_key(), spec)
    assert gateway.simulator.frames_received(PLACE) == 0
    recorded = (await gateway.running.desk._store.query(AuditFilter(), PageRequest())).items
    assert not [record for record in recorded if record.kind in ("order.intent", "order.send", "order.status")]


async def test_while_the_link_is_down_nothing_is_sent_and_the_key_stays_free(gateway: Gateway) -> None:
    desk, key, session = gateway.running.desk, new_key(), gateway.running.session
    await desk.preview(far_limit())
    before = gateway.simulator.frames_received(PLACE)
    session.connection().callbacks.error(-1, 1100, "lost")
    with pytest.raises(BrokerLinkDown):
        await desk.place(key, far_limit())
    assert gateway.simulator.frames_received(PLACE) == before
    session.connection().callbacks.error(-1, 1102, "restored")
    assert (await desk.place(key, far_limit())).state is OrderState.WORKING


async def test_an_order_whose_connection_goes_between_record_and_write_is_provably_not_sent(gateway: Gateway) -> None:
    desk, key, session = gateway.running.desk, new_key(), gateway.running.session
    await desk.preview(far_limit())
    before = gateway.simulator.frames_received(PLACE)
    transact = desk._store.transact

    async def lose_the_link_meanwhile(work: Any) -> Any:
        result = await transact(work)
        session.connection().callbacks.error(-1, 1100, "lost")
        desk._store.transact = transact  # type: ignore[method-assign]
        return result

    desk._store.transact = lose_the_link_meanwhile  # type: ignore[method-assign]
    with pytest.raises(BrokerLinkDown):
        await desk.place(key, far_limit())
    assert gateway.simulator.frames_received(PLACE) == before
    assert desk.status(OrderKey(key)).state is OrderState.NOT_SENT
    session.connection().callbacks.error(-1, 1102, "restored")
    assert (await desk.place(key, far_limit())).state is OrderState.WORKING
    assert gateway.simulator.frames_received(PLACE) == before + 1


async def test_a_lost_acknowledgement_is_unknown_until_the_evidence_finds_the_order(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    desk_ear = gateway.running.session.connection().callbacks
    desk_ear.order_listener = None
    placing = asyncio.ensure_future(desk.place(key, far_limit()))
    await eventually(lambda: gateway.simulator.frames_received(PLACE) == 1)
    gateway.simulator.drop_connections()
    answer = await placing
    assert answer.state in (OrderState.UNKNOWN, OrderState.WORKING)
    await eventually(lambda: desk.status(OrderKey(key)).state is OrderState.WORKING)
    assert desk.status(OrderKey(key)).perm_id > 0
    assert gateway.simulator.frames_received(PLACE) == 1


async def test_silence_makes_an_order_unknown_and_asks_again(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(desk_timings=DeskTimings(ack_timeout_s=0.2))
    desk, key = gateway.running.desk, new_key()
    callbacks = gateway.running.session.connection().callbacks
    listener, callbacks.order_listener = callbacks.order_listener, None
    assert (await desk.place(key, far_limit())).state is OrderState.UNKNOWN
    callbacks.order_listener = listener
    desk._reconciler.request()
    await eventually(lambda: desk.status(OrderKey(key)).state is OrderState.WORKING)
    assert gateway.simulator.frames_received(PLACE) == 1


async def test_a_fill_during_a_disconnect_arrives_marked_recovered(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    gateway.running.session.connection().callbacks.order_listener = None
    placing = asyncio.ensure_future(desk.place(key, order()))
    await eventually(lambda: gateway.simulator.gateway.executions)
    gateway.simulator.drop_connections()
    await placing
    await filled(desk, key)
    assert desk.order(OrderKey(key)).executions[0].recovered


async def test_a_cancel_is_confirmed_and_harmless_to_repeat(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    await desk.place(key, far_limit())
    assert (await desk.cancel(OrderKey(key))).state is OrderState.CANCELLED
    assert (await desk.cancel(OrderKey(key))).state is OrderState.CANCELLED
    assert gateway.simulator.frames_received(CANCEL) == 1


async def test_what_cannot_be_cancelled_is_said_without_a_message(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    await desk.place(key, order())
    await filled(desk, key)
    with pytest.raises(NotCancellable):
        await desk.cancel(OrderKey(key))
    with pytest.raises(OrderNotFound):
        await desk.cancel(OrderKey("no-such-order-0000"))
    assert gateway.simulator.frames_received(CANCEL) == 0


async def test_an_order_placed_elsewhere_is_listed_and_not_cancelled_without_admin(gateway: Gateway) -> None:
    desk, simulated = gateway.running.desk, gateway.simulator.gateway
    terms = Terms(action="BUY", quantity=1, order_type="LMT", limit_price=10.0, account="DU1234567")
    simulated.place(77, 1, ContractQuery(con_id=265598), terms)
    await eventually(lambda: simulated.open_orders()[0].status == "Submitted")
    assert await desk.open_orders() == ()
    (foreign,) = await desk.open_orders(include_external=True)
    assert foreign.client_order_id == ""
    with pytest.raises(ScopeMissing):
        await desk.cancel(OrderKey(perm_id=foreign.perm_id))


async def test_a_rejection_by_ibkr_is_an_answer_with_its_words(gateway: Gateway) -> None:
    status = await gateway.running.desk.place(new_key(), order(quantity=Decimal(10_000_000)))
    assert status.state is OrderState.REJECTED
    assert status.rejection is not None
    assert status.rejection.code == 201


async def test_a_preview_has_ibkrs_figures_and_places_nothing(gateway: Gateway) -> None:
    preview = await gateway.running.desk.preview(order())
    assert preview.margin_source is MarginSource.BROKER_WHATIF
    assert preview.what_if is not None
    assert preview.what_if.currency == "USD"
    assert preview.what_if.commission == 1
    assert preview.notional == preview.legs[0].estimated_notional
    assert gateway.simulator.gateway.orders == {}


async def test_without_ibkrs_what_if_a_preview_is_a_marked_estimate(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(desk_timings=DeskTimings(what_if_timeout_s=0.05))
    gateway.running.session.connection().callbacks.order_listener = None
    preview = await gateway.running.desk.preview(order())
    assert preview.margin_source is MarginSource.ESTIMATE
    assert preview.what_if is None
    assert preview.notional is not None
    assert "what-if" in preview.warnings[0]


async def test_while_disconnected_an_order_is_refused_and_its_key_stays_free(gateway: Gateway) -> None:
    desk, key, session = gateway.running.desk, new_key(), gateway.running.session
    await desk.preview(far_limit())
    before = gateway.simulator.frames_received(PLACE)
    session.connection().close()
    with pytest.raises(BrokerDisconnected):
        await desk.place(key, far_limit())
    assert gateway.simulator.frames_received(PLACE) == before
    with pytest.raises(OrderNotFound):
        desk.status(OrderKey(key))


async def test_every_step_of_an_order_is_in_the_record(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    await desk.place(key, order())
    await eventually(lambda: desk.status(OrderKey(key)).commission)
    await desk.recorder.settle()
    page = await desk._store.query(AuditFilter(client_order_id=key), PageRequest())
    kinds = [record.kind for record in reversed(page.items)]
    assert kinds[:2] == ["order.intent", "order.send"]
    assert {"order.status", "execution", "commission"} <= set(kinds)
    assert (await desk._store.verify()).is_valid


async def test_a_preview_and_its_order_are_recorded_with_the_market_of_their_moment(gateway: Gateway) -> None:
    desk, key = gateway.running.desk, new_key()
    preview = await desk.preview(far_limit())
    await desk.place(key, far_limit())
    page = await desk._store.query(AuditFilter(), PageRequest())
    rows = {record.kind: json.loads(record.body_json) for record in page.items}
    assert preview.quote is not None
    assert rows["order.preview"]["market"]["bid_price"] == preview.quote.bid_price
    assert rows["order.preview"]["spec"]["limit_price"] == "10.00"
    assert rows["order.preview"]["what_if"]["commission"] == str(preview.what_if.commission)  # type: ignore[union-attr]
    assert preview.token not in str(rows)
    # The line of the preview still flows when the order is placed.
    assert rows["order.intent"]["market"]["last_price"] > 0
    assert rows["order.intent"]["rules"]["mode"] == "simulation"
