"""AuditService: who did what, the orders as a file, and what a spreadsheet must not run."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway import InvalidRequest, connect, new_client_order_id
from ibkr_gateway.v1 import audit_service_pb2 as pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import OrderFilter
from ibkr_gateway_server.domain.orders import BrokerNotice, LegRole, OrderState
from ibkr_gateway_server.rpc.order_csv import COLUMNS, PIECE_BYTES, pieces

from tests.callers import TokenFile
from tests.conftest import Gateway, MakeGateway
from tests.failures.test_audit_space import BRACKET, order
from tests.server.audit.test_store import stored


async def exported(store: AuditStore, wanted: OrderFilter | None = None) -> list[dict[str, str]]:
    """The rows of the file."""
    data = b"".join([piece async for piece in pieces(store, wanted or OrderFilter())])
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


async def test_an_event_says_whose_call_caused_it_and_in_which_epoch(make_gateway: MakeGateway, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml")
    token = tokens.issue("trader", "read", "trade")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with connect(gateway.running.target, token=token) as trader:
        await trader.orders.PlaceOrder(
            orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order())
        )
        (intent,) = (await trader.audit.QueryAuditEvents(pb.QueryAuditEventsRequest(kind="order.intent"))).events
    assert (intent.principal, intent.epoch) == ("trader", 1)


async def test_orders_are_exported_leg_by_leg_oldest_first(gateway: Gateway) -> None:
    keys = [new_client_order_id() for _ in range(2)]
    for key, changed in zip(keys, ({}, BRACKET), strict=True):
        await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=order(**changed)))
    await gateway.running.desk.recorder.settle()
    stream = gateway.client.audit.ExportOrders(pb.ExportOrdersRequest(symbol="AAPL"))
    data = b"".join([piece.data async for piece in stream])
    assert data.splitlines()[0].decode() == ",".join(COLUMNS)
    assert data.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    legs = [(row["client_order_id"], row["leg_role"]) for row in rows]
    assert legs == [(keys[0], "ENTRY"), *((keys[1], role) for role in ("ENTRY", "TAKE_PROFIT", "STOP_LOSS"))]
    assert (rows[0]["limit_price"], rows[0]["state"], rows[0]["side"]) == ("10.00", "WORKING", "BUY")
    assert rows[0]["create_time"].endswith("+00:00")
    other = gateway.client.audit.ExportOrders(pb.ExportOrdersRequest(symbol="MSFT"))
    assert len(b"".join([piece.data async for piece in other]).splitlines()) == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
async def test_text_that_a_spreadsheet_would_run_is_made_text(tmp_path: Path, text: str) -> None:
    awkward = f'{text}, "quoted"\nand on a second line'
    async with AuditStore(tmp_path / "audit.db") as store:
        made = stored(state=OrderState.REJECTED)
        status = replace(
            made.status,
            rejection=BrokerNotice(201, awkward),
            warnings=(BrokerNotice(399, awkward),),
            why_held=text,
            limit_price=Decimal("-1.5"),
        )
        await store.transact(lambda tx: tx.save_order(replace(made, status=status), 1))
        (row,) = await exported(store)
    assert (row["rejection_code"], row["rejection_text"]) == ("201", f"'{awkward}")
    assert row["warnings"] == f"399 {awkward}"
    assert row["why_held"] == f"'{text}"
    # A spread's price is a number and stays one.
    assert row["limit_price"] == "-1.5"


async def test_a_large_export_comes_in_pieces_of_a_bounded_size(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db", durable=False) as store:
        keys = [f"order-number-{number:06d}" for number in range(1200)]
        made = [stored(key) for key in keys]
        saved = list(enumerate(made, start=1))
        await store.transact(lambda tx: [tx.save_order(order, sequence) for sequence, order in saved])
        sizes = [len(piece) async for piece in pieces(store, OrderFilter())]
        assert max(sizes) <= PIECE_BYTES
        assert len(sizes) > 3
        assert [row["client_order_id"] for row in await exported(store)] == keys
    assert made[0].terms.role is LegRole.ENTRY


async def test_what_is_not_behind_its_watermark_cannot_be_accepted(gateway: Gateway) -> None:
    check = await gateway.client.audit.VerifyAuditChain(pb.VerifyAuditChainRequest())
    with pytest.raises(InvalidRequest, match="nothing to accept"):
        await gateway.client.audit.AcceptAuditRollback(pb.AcceptAuditRollbackRequest(head_sequence=check.checked_count))
    with pytest.raises(InvalidRequest, match="256 are the most"):
        await gateway.client.audit.AcceptAuditRollback(pb.AcceptAuditRollbackRequest(comment="x" * 257))
