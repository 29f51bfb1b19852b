"""Orders from preview to execution, changed and cancelled, each asked about in words that say all of it."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from ibkr_gateway import Unavailable
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_mcp.approval import world
from ibkr_gateway_mcp.asking import answered
from ibkr_gateway_mcp.budget import Budget
from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.refusals import Refusal
from ibkr_gateway_mcp.terms import OrderFields
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult
from pydantic import ValidationError

from tests.conftest import Gateway, MakeGateway, eventually
from tests.mcp.conftest import BUY, ERAS, Agent, Person, agent_of

MARKET = {"symbol": "AAPL", "security_type": "STK", "side": "BUY", "quantity": "5", "order_type": "MKT"}
BRACKET = {
    "symbol": "AAPL",
    "side": "BUY",
    "quantity": 10,
    "order_type": "BRACKET",
    "limit_price": 100,
    "take_profit_price": 120,
    "stop_loss_price": 90,
    "tif": "GTC",
}


async def placed(agent: Agent, **terms: Any) -> dict[str, Any]:
    preview = await agent.call("preview_order", **terms)
    return await agent.call("place_order", **terms, preview_id=preview["preview_id"])


async def until(agent: Agent, order_id: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while (status := await agent.call("get_order_status", order_id=order_id))["state"] != state:
            await asyncio.sleep(0.01)
    return status


@pytest.mark.parametrize("era", ERAS)
async def test_an_order_goes_from_its_preview_to_its_execution(gateway: Gateway, era: str) -> None:
    person = Person()
    async with agent_of(gateway.running.target, era=era, person=person) as agent:
        preview = await agent.call("preview_order", **MARKET)
        assert (preview["is_simulation"], preview["trading_mode"], preview["blockers"]) == (False, "SIMULATION", [])
        assert preview["commission"] == {"amount": "1", "currency_code": "USD"}
        assert "preview_token" not in preview
        result = await agent.call("place_order", **MARKET, preview_id=preview["preview_id"])
        assert result["client_order_id"] == preview["client_order_id"]
        status = await until(agent, result["client_order_id"], "FILLED")
        assert status["filled_quantity"] == "5"
        async with asyncio.timeout(15):
            while not (found := await agent.call("list_executions", order_id=result["client_order_id"]))["executions"]:
                await asyncio.sleep(0.01)
        assert found["executions"][0]["client_order_id"] == result["client_order_id"]
        refusal = await agent.refusal("cancel_order", order_id=result["client_order_id"])
        assert refusal["error_code"] == "NOT_CANCELLABLE"
    # What has ended cannot leave again: nobody is asked about its cancel.
    assert len(person.questions) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_the_question_says_where_what_at_which_price_and_for_how_much(gateway: Gateway, era: str) -> None:
    person = Person()
    async with agent_of(gateway.running.target, era=era, person=person) as agent:
        await placed(agent, **BRACKET)
    (question,) = person.questions
    lines = question.split("\n")
    assert lines[0] == "SIMULATION (no real money): send this order?"
    assert lines[1] == (
        "BUY 10 AAPL STK SMART USD con_id 265598 BRACKET limit 100 take profit 120 stop loss 90 GTC, account DU1234567"
    )
    assert re.fullmatch(r"Value: 1000 USD", lines[2])
    assert question.isascii()
    assert len(gateway.simulator.gateway.open_orders()) == 3


@pytest.mark.parametrize("era", ERAS)
async def test_a_change_is_asked_about_as_before_and_after_and_sent_once(gateway: Gateway, era: str) -> None:
    person = Person()
    async with agent_of(gateway.running.target, era=era, person=person) as agent:
        key = (await placed(agent, **BUY))["client_order_id"]
        changed = await agent.call("modify_order", order_id=key, limit_price=99.25, quantity="12")
        assert (changed["status"]["limit_price"], changed["status"]["quantity"]) == ("99.25", "12")
        again = await agent.refusal("modify_order", order_id=key, limit_price=99.25, quantity="12")
        assert again["error_code"] == "FIELD_INVALID"
        assert (await agent.refusal("modify_order", order_id=key))["error_code"] == "FIELD_INVALID"
        assert (await agent.refusal("modify_order", order_id=key, limit_price=99.255))["error_code"] == "TICK_SIZE"
    asked = person.questions[1].split("\n")
    assert asked[0] == f"SIMULATION (no real money): change the working order {key}?"
    assert asked[1].startswith("From: BUY 10 AAPL STK SMART USD con_id 265598 LMT limit 100.5")
    assert asked[2].startswith("To: BUY 12 AAPL STK SMART USD con_id 265598 LMT limit 99.25")
    (order,) = gateway.simulator.gateway.open_orders()
    assert order.terms.limit_price == 99.25


async def test_an_order_that_changes_while_the_person_thinks_is_not_changed_unasked(gateway: Gateway) -> None:
    key = "an-order-of-the-test"
    terms = OrderFields.model_validate(BUY)
    placing = pb.PlaceOrderRequest(client_order_id=key, order=terms.spec())
    await gateway.client.orders.PlaceOrder(placing)

    async def meanwhile(_context: ClientRequestContext, _params: ElicitRequestParams) -> ElicitResult:
        other = terms.model_copy(update={"limit_price": "98"}).spec()
        request = pb.ModifyOrderRequest(client_order_id=key, modify_id="a-change-of-the-test", order=other)
        await gateway.client.orders.ModifyOrder(request)
        return ElicitResult(action="accept", content={"approve": True})

    async with agent_of(gateway.running.target, era="legacy", person=meanwhile) as agent:
        refusal = await agent.refusal("modify_order", order_id=key, quantity=20)
        assert refusal["error_code"] == "APPROVAL_REQUIRED"
        assert (await agent.call("get_order_status", order_id=key))["quantity"] == "10"


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancel_is_asked_about_and_a_no_leaves_the_order(gateway: Gateway, era: str) -> None:
    person = Person(ElicitResult(action="decline"))
    key = "an-order-of-the-test"
    order = OrderFields.model_validate(BUY).spec()
    await gateway.client.orders.PlaceOrder(pb.PlaceOrderRequest(client_order_id=key, order=order))
    async with agent_of(gateway.running.target, era=era, person=person) as agent:
        assert (await agent.refusal("cancel_order", order_id=key))["error_code"] == "APPROVAL_REQUIRED"
        assert (await agent.refusal("modify_order", order_id=key, quantity=1))["error_code"] == "APPROVAL_REQUIRED"
        assert (await agent.refusal("halt_trading", level="CANCEL_OWN"))["error_code"] == "APPROVAL_REQUIRED"
        assert (await agent.call("get_order_status", order_id=key))["state"] == "WORKING"
        person.says = ElicitResult(action="accept", content={"approve": True})
        assert (await agent.call("cancel_order", order_id=key))["status"]["state"] == "CANCELLED"
    assert person.questions[0] == (
        f"SIMULATION (no real money): cancel the order {key}?\n"
        "BUY 10 AAPL STK SMART USD con_id 265598 LMT limit 100.5, account DU1234567"
    )


@pytest.mark.parametrize("era", ERAS)
async def test_a_halt_asks_nobody_and_one_that_cancels_does(gateway: Gateway, era: str) -> None:
    person = Person()
    async with agent_of(gateway.running.target, era=era, person=person) as agent:
        await placed(agent, **BUY)
        halted = await agent.call("halt_trading", comment="a bad feeling")
        assert halted["status"]["halt_comment"] == {"text": "a bad feeling", "untrusted": True}
        assert len(person.questions) == 1
        preview = await agent.call("preview_order", **BUY)
        assert preview["blockers"][0]["error_code"] == "TRADING_HALTED"
        refusal = await agent.refusal("place_order", **BUY, preview_id=preview["preview_id"])
        assert refusal["error_code"] == "TRADING_HALTED"
        assert len(person.questions) == 1
        halted = await agent.call("halt_trading", level="CANCEL_OWN")
        assert halted["cancel_requested_count"] == 1
        assert "cancel every open order" in person.questions[1]
    await eventually(lambda: gateway.simulator.gateway.open_orders() == [])


@pytest.mark.parametrize("era", ERAS)
async def test_with_orders_disabled_the_whole_flow_is_simulated_and_asks_nobody(
    make_gateway: MakeGateway, era: str
) -> None:
    gateway = await make_gateway(orders_enabled=False)
    async with agent_of(gateway.running.target, era=era) as agent:
        preview = await agent.call("preview_order", **BUY)
        assert preview["is_simulation"]
        answers = [await agent.call("place_order", **BUY, preview_id=preview["preview_id"]) for _ in range(2)]
        # The tool takes an order without a preview as well, as long as nothing can leave.
        answers.append(await agent.call("place_order", **BUY))
        assert {answer["state"] for answer in answers} == {"SIMULATED"}
        assert all(answer["is_simulated"] for answer in answers)
        assert answers[0]["client_order_id"] == answers[1]["client_order_id"] == preview["client_order_id"]
        assert answers[2]["client_order_id"] != preview["client_order_id"]
        assert (await agent.call("get_order_status", order_id=preview["client_order_id"]))["state"] == "SIMULATED"
        assert (await agent.refusal("cancel_order", order_id=preview["client_order_id"]))["error_code"] in (
            "NOT_CANCELLABLE",
            "TRADING_DISABLED",
        )
    assert gateway.simulator.gateway.orders == {}


async def test_an_answer_that_was_lost_is_got_by_calling_again(gateway: Gateway) -> None:
    person = Person()
    async with agent_of(gateway.running.target, person=person) as agent:
        preview = await agent.call("preview_order", **BUY)
        arguments = {**BUY, "preview_id": preview["preview_id"]}
        # The order is placed by the id that the preview has, as a call would whose answer never came.
        request = pb.PlaceOrderRequest(
            client_order_id=preview["client_order_id"], order=OrderFields.model_validate(BUY).spec()
        )
        await gateway.client.orders.PlaceOrder(request)
        assert (await agent.call("place_order", **arguments))["state"] == "WORKING"
        assert len(gateway.simulator.gateway.open_orders()) == 1


async def test_a_command_without_a_gateways_answer_is_not_called_unsent() -> None:
    async def lost() -> None:
        raise Unavailable("socket closed", code=grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(Refusal) as refused:
        await answered(lost())
    assert refused.value.error_code == "ANSWER_LOST"
    assert "not known whether it was sent" in refused.value.message


async def test_a_budget_comes_free_in_time() -> None:
    now = datetime(2026, 11, 23, 15, tzinfo=UTC)
    budget = Budget(Limits(per_minute=2, per_day=3), lambda: now)
    budget.take()
    now += timedelta(seconds=20)
    budget.take()
    with pytest.raises(Refusal) as refused:
        budget.take()
    assert refused.value.details == {"limit": "2", "retry_after_s": "40"}
    now += timedelta(seconds=41)
    budget.take()
    now += timedelta(seconds=61)
    with pytest.raises(Refusal) as refused:
        budget.take()
    assert refused.value.details["limit"] == "3"
    now += timedelta(days=1)
    budget.take()


async def test_a_budget_of_zero_allows_nothing() -> None:
    with pytest.raises(Refusal):
        Budget(Limits(per_minute=0), lambda: datetime.now(UTC)).take()


@pytest.mark.parametrize("era", ERAS)
async def test_a_person_who_says_no_is_not_asked_without_end(gateway: Gateway, era: str) -> None:
    person = Person(ElicitResult(action="decline"))
    key = "an-order-of-the-test"
    order = OrderFields.model_validate(BUY).spec()
    await gateway.client.orders.PlaceOrder(pb.PlaceOrderRequest(client_order_id=key, order=order))
    limits = Limits(per_minute=2)
    async with agent_of(gateway.running.target, era=era, person=person, limits=limits) as agent:
        codes = [(await agent.refusal("cancel_order", order_id=key))["error_code"] for _ in range(4)]
    assert codes == ["APPROVAL_REQUIRED"] * 2 + ["ORDER_RATE"] * 2
    assert len(person.questions) == 2


async def test_the_mode_of_a_live_account_cannot_be_overlooked() -> None:
    status = gateway_pb.TradingStatus(trading_mode=gateway_pb.TRADING_MODE_LIVE)
    assert world(status) == "LIVE ACCOUNT, REAL MONEY"


@pytest.mark.parametrize(
    ("given", "taken"),
    [(10, "10"), (0.1, "0.1"), ("0.10", "0.10"), (187.305, "187.305"), (1e-7, "0.0000001"), (-37.63, "-37.63")],
)
def test_numbers_are_taken_as_the_decimals_they_were_written_as(given: object, taken: str) -> None:
    assert OrderFields.model_validate({**MARKET, "limit_price": given}).spec().limit_price == taken


@pytest.mark.parametrize("given", [float("nan"), float("inf"), 1e308, True, "1e3", "1,000", "٣", " 1", "1\n"])
def test_what_is_no_decimal_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        OrderFields.model_validate({**MARKET, "quantity": given})
