"""The halt on the real desk, record and simulator: no order leaves, whoever or whatever has engaged it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import GatewayError, InvalidRequest, Refused, connect_sync, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.domain.errors import AuditUnavailable, TradingHalted
from ibkr_gateway_server.domain.halts import HaltLevel, halt_level_in
from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms

from tests.callers import TokenFile
from tests.conftest import Gateway, MakeGateway, eventually, program
from tests.failures.conftest import eventually_recorded

PLACE, CANCEL, GLOBAL_CANCEL = 3, 4, 58
NEW = HaltLevel.BLOCK_NEW


def order(**changed: Any) -> orders_pb.PlaceOrderRequest:
    fields = {"instrument": stock("AAPL"), "side": common_pb2.SIDE_BUY, "quantity": "1", "limit_price": "10.00"}
    spec = orders_pb.OrderSpec(**{**fields, "order_type": orders_pb.ORDER_TYPE_LMT, **changed})
    return orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=spec)


def request(level: HaltLevel = NEW, comment: str = "") -> pb.HaltTradingRequest:
    return pb.HaltTradingRequest(level=pb.HaltLevel.Value(f"HALT_LEVEL_{level}"), comment=comment)


async def status(gateway: Gateway) -> pb.TradingStatus:
    return (await gateway.client.gateway.GetTradingStatus(pb.GetTradingStatusRequest())).status


async def refusal(gateway: Gateway) -> str:
    """Why an order is refused; empty: it is not."""
    try:
        await gateway.client.orders.PlaceOrder(order())
    except GatewayError as error:
        return error.reason
    return ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "HALT"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", HaltLevel.BLOCK_NEW),
        ("block-new", HaltLevel.BLOCK_NEW),
        ("CANCEL_OWN\n", HaltLevel.CANCEL_OWN),
        ("cancel-own please", HaltLevel.CANCEL_OWN),
        ("global", HaltLevel.GLOBAL_CANCEL),
        ("GLOBAL_CANCEL", HaltLevel.GLOBAL_CANCEL),
        ("stop everything now", HaltLevel.BLOCK_NEW),
        ("\ufffd", HaltLevel.BLOCK_NEW),
    ],
)
def test_a_file_halts_whatever_is_in_it(text: str, level: HaltLevel) -> None:
    assert halt_level_in(text) is level


async def test_a_halt_refuses_new_orders_and_lets_cancels_go(gateway: Gateway) -> None:
    placed = (await gateway.client.orders.PlaceOrder(order())).result
    halted = await gateway.client.gateway.HaltTrading(request(comment="prices look wrong"))
    assert halted.cancel_requested_count == 0
    assert halted.status.halt_level == pb.HALT_LEVEL_BLOCK_NEW
    assert halted.status.halt_comment == "prices look wrong"
    with pytest.raises(Refused) as refused:
        await gateway.client.orders.PlaceOrder(order())
    assert refused.value.reason == "TRADING_HALTED"
    assert refused.value.details["level"] == "BLOCK_NEW"
    assert gateway.simulator.frames_received(PLACE) == 1
    key = orders_pb.OrderKey(client_order_id=placed.client_order_id)
    cancelled = await gateway.client.orders.CancelOrder(orders_pb.CancelOrderRequest(order=key))
    assert cancelled.status.state == orders_pb.ORDER_STATE_CANCELLED


async def test_the_status_says_since_when_and_what_to_do(gateway: Gateway) -> None:
    await gateway.client.gateway.HaltTrading(request())
    told = await status(gateway)
    (blocker,) = told.blockers
    assert not told.can_send_orders
    assert (blocker.reason, blocker.since_time) == ("TRADING_HALTED", told.halt_time)
    assert told.halt_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ") in blocker.message
    assert "ResumeTrading" in blocker.remedy


async def test_other_things_in_the_way_are_named_beside_the_halt(gateway: Gateway) -> None:
    await gateway.client.gateway.HaltTrading(request())
    gateway.simulator.inject(Rule(Fault.LINK_LOST))
    await eventually(lambda: gateway.running.session.status.state == "LINK_DOWN")
    reasons = {blocker.reason for blocker in (await status(gateway)).blockers}
    assert reasons == {"TRADING_HALTED", "BROKER_LINK_DOWN"}


async def test_resuming_lets_orders_go_and_is_recorded_with_who_and_why(
    make_gateway: MakeGateway, tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml")
    token = tokens.issue("boss", "read", "preview", "trade", "admin")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with type(gateway.client)(gateway.client.channel, 10.0, token) as client:
        gateway = Gateway(gateway.running, client)
        await client.gateway.HaltTrading(request(comment="a"))
        resumed = await client.gateway.ResumeTrading(pb.ResumeTradingRequest(comment="b"))
        assert resumed.status.can_send_orders
        assert not resumed.status.halt_level
        assert not resumed.status.HasField("halt_time")
        assert await refusal(gateway) == ""
        (engaged,) = await eventually_recorded(gateway, "halt.engaged", len)
        assert (engaged["level"], engaged["comment"], engaged["source"]) == ("BLOCK_NEW", "a", "call")
        assert await eventually_recorded(gateway, "halt.released", len) == [{"comment": "b"}]
    rows = sqlite3.connect(tmp_path / "audit.db").execute("SELECT principal FROM events WHERE kind LIKE 'halt.%'")
    assert rows.fetchall() == [("boss",), ("boss",)]


async def test_resuming_what_is_not_halted_is_harmless(gateway: Gateway) -> None:
    resumed = await gateway.client.gateway.ResumeTrading(pb.ResumeTradingRequest())
    assert resumed.status.can_send_orders


async def test_whoever_may_trade_may_halt_and_only_admin_resumes_or_reaches_others(
    make_gateway: MakeGateway, tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml")
    token = tokens.issue("trader", "read", "trade")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with type(gateway.client)(gateway.client.channel, 10.0, token) as client:
        with pytest.raises(Refused) as refused:
            await client.gateway.HaltTrading(request(HaltLevel.GLOBAL_CANCEL))
        assert (refused.value.reason, refused.value.details["scope"]) == ("SCOPE_MISSING", "admin")
        assert not (await status(Gateway(gateway.running, client))).halt_level
        await client.gateway.HaltTrading(request())
        with pytest.raises(Refused) as refused:
            await client.gateway.ResumeTrading(pb.ResumeTradingRequest())
        assert refused.value.reason == "SCOPE_MISSING"


async def test_a_level_is_never_lowered_by_another_halt(gateway: Gateway) -> None:
    await gateway.client.gateway.HaltTrading(request(HaltLevel.CANCEL_OWN, "first"))
    first = await status(gateway)
    second = (await gateway.client.gateway.HaltTrading(request(NEW))).status
    assert (second.halt_level, second.halt_comment) == (pb.HALT_LEVEL_CANCEL_OWN, "first")
    assert second.halt_time == first.halt_time


async def test_the_halt_survives_a_restart_with_its_time_and_reason(tmp_path: Path) -> None:
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "ERROR")
    with program("ibkr_gateway_server", *arguments, cwd=tmp_path) as (process, address):
        with connect_sync(address) as client:
            before = client.gateway.HaltTrading(request(comment="why")).status
        process.kill()
        process.wait(timeout=20)
    with program("ibkr_gateway_server", *arguments, cwd=tmp_path) as (_, address), connect_sync(address) as client:
        after = client.gateway.GetTradingStatus(pb.GetTradingStatusRequest()).status
        assert (after.halt_level, after.halt_comment, after.halt_time) == (
            pb.HALT_LEVEL_BLOCK_NEW,
            "why",
            before.halt_time,
        )
        client.gateway.ResumeTrading(pb.ResumeTradingRequest())
    with program("ibkr_gateway_server", *arguments, cwd=tmp_path) as (_, address), connect_sync(address) as client:
        assert not client.gateway.GetTradingStatus(pb.GetTradingStatusRequest()).status.halt_level


async def test_the_file_is_looked_for_before_every_order(gateway: Gateway, file: Path) -> None:
    assert await refusal(gateway) == ""
    file.touch()
    # At once: nothing is waited for in between.
    with pytest.raises(TradingHalted):
        gateway.running.desk.guard.check_way()
    assert await refusal(gateway) == "TRADING_HALTED"
    assert (await status(gateway)).halt_comment == "the file HALT"


async def test_the_file_is_looked_for_every_second_and_recorded(gateway: Gateway, file: Path) -> None:
    file.write_text("block-new")
    (engaged,) = await eventually_recorded(gateway, "halt.engaged", len)
    assert (engaged["source"], engaged["level"]) == ("file", "BLOCK_NEW")


async def test_the_file_can_raise_the_level_and_never_lowers_it(gateway: Gateway, file: Path) -> None:
    file.write_text("cancel-own")
    await eventually_recorded(gateway, "halt.engaged", len)
    file.write_text("block-new")
    gateway.running.halt.look()
    assert (await status(gateway)).halt_level == pb.HALT_LEVEL_CANCEL_OWN


async def test_while_the_file_is_there_nobody_resumes_and_afterwards_somebody_must(
    gateway: Gateway, file: Path
) -> None:
    file.touch()
    with pytest.raises(Refused) as refused:
        await gateway.client.gateway.ResumeTrading(pb.ResumeTradingRequest())
    assert refused.value.reason == "TRADING_HALTED"
    file.unlink()
    assert await refusal(gateway) == "TRADING_HALTED"
    await gateway.client.gateway.ResumeTrading(pb.ResumeTradingRequest())
    assert await refusal(gateway) == ""


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
async def test_whatever_has_the_name_of_the_file_halts(
    gateway: Gateway, file: Path, make: Callable[[Path], None]
) -> None:
    make(file)
    assert await refusal(gateway) == "TRADING_HALTED"


async def test_a_signal_halts(tmp_path: Path) -> None:
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "ERROR")
    with program("ibkr_gateway_server", *arguments, cwd=tmp_path) as (process, address):
        with connect_sync(address) as client:
            os.kill(process.pid, signal.SIGUSR1)
            for change in client.gateway.WatchTradingStatus(pb.WatchTradingStatusRequest(), timeout=20):
                if change.status.halt_level:
                    assert change.status.halt_comment == "SIGUSR1"
                    break
        assert process.poll() is None


async def test_without_a_record_it_halts_all_the_same_and_is_recorded_later(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "audit.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        halted = await gateway.client.gateway.HaltTrading(request())
        assert halted.status.halt_level == pb.HALT_LEVEL_BLOCK_NEW
        with pytest.raises(TradingHalted):
            gateway.running.desk.guard.check_way()
        other.execute("ROLLBACK")
    other.close()
    await eventually_recorded(gateway, "halt.engaged", len)


async def test_without_a_record_nobody_resumes(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.client.gateway.HaltTrading(request())
    with sqlite3.connect(tmp_path / "audit.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AuditUnavailable):
            await gateway.running.halt.release("", Cause())
        other.execute("ROLLBACK")
    other.close()
    assert await refusal(gateway) == "TRADING_HALTED"


async def test_a_halt_while_somebody_resumes_stays(gateway: Gateway) -> None:
    halt = gateway.running.halt
    await halt.engage(NEW, "first", Cause())
    releasing = asyncio.ensure_future(halt.release("", Cause()))
    await asyncio.sleep(0)
    await asyncio.gather(halt.engage(NEW, "again", Cause()), releasing)
    assert await refusal(gateway) == "TRADING_HALTED"
    rows = sqlite3.connect(gateway.running.halt.file.with_name("audit.db")).execute("SELECT body_json FROM switches")
    assert [json.loads(row[0])["comment"] for row in rows.fetchall()] == ["again"]


async def test_a_halt_that_is_released_at_once_is_recorded_before_its_end(gateway: Gateway) -> None:
    halt = gateway.running.halt
    halt.engage_at_once(NEW, "SIGUSR1")
    await halt.release("mistake", Cause())
    assert await refusal(gateway) == ""
    rows = sqlite3.connect(halt.file.with_name("audit.db")).execute(
        "SELECT kind FROM events WHERE kind LIKE 'halt.%' ORDER BY sequence"
    )
    assert rows.fetchall() == [("halt.engaged",), ("halt.released",)]


async def test_a_halt_with_no_time_to_wait_is_engaged_and_cancels_all_the_same(gateway: Gateway) -> None:
    await gateway.client.orders.PlaceOrder(order())
    assert await gateway.running.halt.engage(HaltLevel.CANCEL_OWN, "", Cause(), wait_s=0.0) == 0
    with pytest.raises(TradingHalted):
        gateway.running.desk.guard.check_way()
    await eventually(lambda: not gateway.running.desk.own_open_orders())


async def test_cancel_own_cancels_every_open_order_and_says_how_many(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.client.orders.PlaceOrder(order())
    halted = await gateway.client.gateway.HaltTrading(request(HaltLevel.CANCEL_OWN))
    assert halted.cancel_requested_count == 3
    await eventually(lambda: not gateway.running.desk.own_open_orders())
    assert gateway.simulator.frames_received(CANCEL) == 3


async def test_orders_that_could_not_be_cancelled_are_cancelled_when_tws_is_back(gateway: Gateway) -> None:
    await gateway.client.orders.PlaceOrder(order())
    gateway.simulator.inject(Rule(Fault.REFUSE_CONNECTIONS))
    gateway.simulator.drop_connections()
    await eventually(lambda: not gateway.running.session.status.state.is_connected)
    halted = await gateway.client.gateway.HaltTrading(request(HaltLevel.CANCEL_OWN))
    assert halted.cancel_requested_count == 0
    assert halted.status.halt_level == pb.HALT_LEVEL_CANCEL_OWN
    gateway.simulator.gateway.faults.clear()
    await eventually(lambda: not gateway.running.desk.own_open_orders(), timeout_s=30)
    assert gateway.simulator.frames_received(CANCEL) == 1


def place_elsewhere(gateway: Gateway) -> None:
    """An order of another client of the login."""
    terms = Terms(action="BUY", quantity=1, order_type="LMT", limit_price=10.0, account="DU1234567")
    gateway.simulator.gateway.place(77, 1, ContractQuery(con_id=265598), terms)


async def test_global_cancel_cancels_orders_placed_elsewhere_as_well(gateway: Gateway) -> None:
    place_elsewhere(gateway)
    await gateway.client.orders.PlaceOrder(order())
    await eventually(lambda: len(gateway.simulator.gateway.open_orders()) == 2)
    await gateway.client.gateway.HaltTrading(request(HaltLevel.GLOBAL_CANCEL))
    await eventually(lambda: not gateway.simulator.gateway.open_orders())
    assert gateway.simulator.frames_received(GLOBAL_CANCEL) == 1
    await eventually(lambda: gateway.running.halt.look() and not gateway.running.halt.look().owes_global_cancel)


async def test_a_global_cancel_that_could_not_be_sent_is_sent_once_tws_is_back(gateway: Gateway) -> None:
    place_elsewhere(gateway)
    await eventually(lambda: len(gateway.simulator.gateway.open_orders()) == 1)
    gateway.simulator.inject(Rule(Fault.REFUSE_CONNECTIONS))
    gateway.simulator.drop_connections()
    await eventually(lambda: not gateway.running.session.status.state.is_connected)
    halted = await gateway.client.gateway.HaltTrading(request(HaltLevel.GLOBAL_CANCEL))
    assert halted.status.halt_level == pb.HALT_LEVEL_GLOBAL_CANCEL
    assert gateway.running.halt.look().owes_global_cancel  # type: ignore[union-attr]
    gateway.simulator.gateway.faults.clear()
    await eventually(lambda: not gateway.simulator.gateway.open_orders(), timeout_s=30)
    assert gateway.simulator.frames_received(GLOBAL_CANCEL) == 1
    rows = await eventually_recorded(gateway, "halt.engaged", lambda found: len(found) == 2)
    assert [row["owes_global_cancel"] for row in rows] == [True, False]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (pb.HaltTradingRequest(), "level"),
        (request(comment="x" * 257), "comment"),
        (pb.HaltTradingRequest(level=9), "level"),
    ],  # type: ignore[arg-type]
)
async def test_a_level_must_be_named_and_a_comment_is_short(
    gateway: Gateway, wrong: pb.HaltTradingRequest, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await gateway.client.gateway.HaltTrading(wrong)
    assert list(refused.value.fields) == [field]
    with pytest.raises(InvalidRequest):
        await gateway.client.gateway.ResumeTrading(pb.ResumeTradingRequest(comment="x" * 257))
    assert (await status(gateway)).can_send_orders
