"""What the record says of orders that were under way when the gateway stopped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.events import Noted
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.trading.loading import load

from tests.server.audit.test_store import stored
from tests.server.trading.conftest import KEY, ledger_with


@pytest.mark.parametrize(
    ("was_written", "state", "kind"),
    [(True, OrderState.UNKNOWN, "recovery.unknown"), (False, OrderState.NOT_SENT, "recovery.unsent")],
)
async def test_an_order_under_way_is_unknown_unless_the_record_says_that_nothing_was_written(
    tmp_path: Path, was_written: bool, state: OrderState, kind: str
) -> None:
    # This gateway records an order as written before it is. Whoever writes one otherwise means that it was not.
    order = replace(stored(state=OrderState.PENDING), was_written=was_written)
    session = SimpleNamespace(client_id=1, now=lambda: datetime.now(UTC))
    ledger = ledger_with()
    async with AuditStore(tmp_path / "audit.db") as store:
        await store.transact(lambda tx: tx.save_order(order, 1))
        _, changes = await load(store, ledger, session)  # type: ignore[arg-type]
    intent = ledger.intent(KEY)
    assert intent is not None
    assert intent.entry.status.state is state
    assert [change.happening.kind for change in changes if isinstance(change.happening, Noted)] == [kind]
