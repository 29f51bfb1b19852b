"""Refusals are in the record: what was refused, to whom, and why; what is wrong by itself is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ibkr_gateway_server.domain.errors import (
    FieldsInvalid,
    NotCancellable,
    OrderNotFound,
    RestartWindow,
    ScopeMissing,
)
from ibkr_gateway_server.domain.orders import OrderKey
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.logs import principal
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import virtually
from tests.failures.dealings import CANCEL, CONTRACT_DETAILS, KEY, PLACE, Dealings, dealing, limit


def refused(dealings: Dealings, kind: str) -> list[tuple[str, str, str]]:
    """The order, to whom, and why, of every refusal of a kind."""
    rows = dealings.recorded(kind)
    return [(row.client_order_id, row.principal, json.loads(row.body_json)["reason"]) for row in rows]


def test_who_may_not_touch_an_order_is_recorded_with_what_was_tried(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            desk = dealings.life.desk
            principal.set("somebody-else")
            with pytest.raises(ScopeMissing):
                await desk.cancel(OrderKey(KEY))
            with pytest.raises(ScopeMissing):
                await desk.modify(KEY, "the-change-000001", limit("11"))
            assert refused(dealings, "order.cancel.refused") == [(KEY, "somebody-else", "SCOPE_MISSING")]
            assert refused(dealings, "order.modify.refused") == [(KEY, "somebody-else", "SCOPE_MISSING")]
            assert (dealings.frames(PLACE), dealings.frames(CANCEL)) == (1, 0)

    virtually(main)


def test_a_cancel_that_cannot_be_sent_is_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            desk = dealings.life.desk
            with pytest.raises(OrderNotFound):
                await desk.cancel(OrderKey("the-order-unknown"))
            dealings.inject(Fault.REFUSE, PLACE, code=201, text="Order rejected")
            await dealings.place(limit())
            with pytest.raises(NotCancellable):
                await desk.cancel(OrderKey(KEY))
            assert refused(dealings, "order.cancel.refused") == [
                ("the-order-unknown", "", "ORDER_NOT_FOUND"),
                (KEY, "", "NOT_CANCELLABLE"),
            ]

    virtually(main)


def test_an_order_that_cannot_be_sent_is_refused_before_tws_is_asked_about_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path, restarts=RestartWindows.parse("09:55-10:30 America/New_York")) as dealings:
            with pytest.raises(RestartWindow):
                await dealings.life.desk.place(KEY, limit())
            assert refused(dealings, "order.refused") == [(KEY, "", "RESTART_WINDOW")]
            assert dealings.frames(CONTRACT_DETAILS) == 0

    virtually(main)


def test_what_is_wrong_by_itself_is_not_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            with pytest.raises(FieldsInvalid):
                await dealings.life.desk.place(KEY, limit(quantity=-1))
            assert refused(dealings, "order.refused") == []

    virtually(main)
