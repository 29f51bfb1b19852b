"""Market rules: each is asked for once, and a refusal without an id still reaches who asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from ibkr_gateway_server.domain.errors import BrokerDisconnected, BrokerTimeout, FieldsInvalid
from ibkr_gateway_server.simulator import Fault, Rule

from tests.conftest import FAST
from tests.server.broker.conftest import Broker, MakeBroker

ASKED, ANSWERED = 91, 93


async def test_a_rules_steps_come_by_low_edge_and_are_asked_for_once(broker: Broker) -> None:
    ladders = await asyncio.gather(*(broker.contracts.rules.ladder(32) for _ in range(20)))
    assert {ladder.steps for ladder in ladders} == {
        ((Decimal(0), Decimal("0.01")), (Decimal(3), Decimal("0.05"))),
    }
    assert broker.simulator.frames_received(ASKED) == 1


async def test_a_rule_that_ibkr_does_not_know_is_named_and_spoils_no_other(broker: Broker) -> None:
    unknown, known = await asyncio.gather(
        broker.contracts.rules.ladder(99_999), broker.contracts.rules.ladder(67), return_exceptions=True
    )
    assert isinstance(unknown, FieldsInvalid)
    (violation,) = unknown.violations
    assert violation.field == "market_rule_id"
    assert "99999" in violation.description
    assert not isinstance(known, BaseException)
    assert known.increment(Decimal(100)) == Decimal("0.25")


async def test_a_rule_without_steps_is_no_rule(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.CORRUPT_FIELD, message_id=ANSWERED, field=2, value="0"))
    with pytest.raises(FieldsInvalid):
        await broker.contracts.rules.ladder(26)


async def test_a_lost_answer_times_out_and_the_rule_can_be_asked_for_again(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=replace(FAST, request_timeout_s=0.2))
    broker.simulator.inject(Rule(Fault.LOSE_REPLY, message_id=ANSWERED))
    with pytest.raises(BrokerTimeout):
        await broker.contracts.rules.ladder(26)
    assert (await broker.contracts.rules.ladder(26)).steps == ((Decimal(0), Decimal("0.01")),)


async def test_a_lost_connection_ends_the_wait(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.DISCONNECT_BEFORE, message_id=ASKED))
    with pytest.raises(BrokerDisconnected):
        await broker.contracts.rules.ladder(26)
