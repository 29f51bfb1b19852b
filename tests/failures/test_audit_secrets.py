"""What must never be in the record, searched for in all of it."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ibkr_gateway import GatewayError, connect
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb

from tests.callers import TokenFile
from tests.conftest import MakeGateway
from tests.failures.conftest import eventually_recorded
from tests.failures.test_audit_space import of, order

STRANGERS_TOKEN = "stranger-token-7f3a9c1e5b2d-is-long-enough-to-be-one"
PASSWORD = "tws-password-4c8e2f6a"
OTHER_ACCOUNT = "DU7654321"


def cells(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every value of every column of every table, by its place."""
    with closing(sqlite3.connect(path)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = database.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    yield f"{table}.{name}", value if isinstance(value, bytes) else str(value).encode()


async def test_D13_secrets_are_shown_to_the_gateway(
    make_gateway: MakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers show good and bad tokens and name accounts that are not theirs, and the environment holds a password.

    None of it, nor the record's own key, is in any column of any table, nor in any file beside the database but the
    key's own.
    """
    monkeypatch.setenv("TWS_PASSWORD", PASSWORD)
    tokens = TokenFile(tmp_path / "tokens.toml")
    token = tokens.issue("trader", "read", "trade", "preview")
    gateway = await make_gateway(tokens_file=tokens.path, audit_db_path=tmp_path / "record" / "audit.db")
    noted = order(note="a note of the caller")
    request = orders_pb.PlaceOrderRequest(client_order_id="an-order-with-a-note", order=noted)
    foreign = orders_pb.PlaceOrderRequest(client_order_id="an-order-of-another", order=order(account_id=OTHER_ACCOUNT))
    async with connect(gateway.running.target, token=token) as trader:
        await trader.orders.PlaceOrder(request)
        with pytest.raises(GatewayError):
            await trader.orders.PlaceOrder(foreign)
    async with connect(gateway.running.target, token=STRANGERS_TOKEN) as stranger:
        with pytest.raises(GatewayError):
            await stranger.orders.PlaceOrder(request)
    async with connect(gateway.running.target, token=token) as trader:
        gateway.client = trader
        await eventually_recorded(gateway, "authz.denied", len)
        await gateway.running.desk.recorder.settle()
    store = of(gateway)
    key = store.path.with_suffix(".key").read_bytes()
    secret = [each.encode() for each in (token, STRANGERS_TOKEN, PASSWORD, OTHER_ACCOUNT)]
    secret += [key, key.hex().encode(), base64.b64encode(key)]
    found = list(cells(store.path))
    # What is searched is the record indeed: what was allowed to be in it is there.
    assert any(b"a note of the caller" in value for _, value in found)
    assert {place.partition(".")[0] for place, _ in found} >= {"events", "orders", "floors"}
    assert [place for place, value in found for each in secret if each in value] == []
    beside = [path for path in store.path.parent.iterdir() if path.suffix != ".key"]
    assert {path.suffix for path in beside} >= {".db", ".watermark"}
    assert [path.name for path in beside for each in secret if each in path.read_bytes()] == []
