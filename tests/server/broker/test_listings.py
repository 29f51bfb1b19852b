"""What is listed: searches within IBKR's pace, option chains whole or not at all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from ibkr_gateway_server.broker.listings import SEARCH_INTERVAL_S, Listings
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    BrokerLinkDown,
    BrokerTimeout,
    ContractNotFound,
    RateLimited,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.simulator import Fault, Rule

from tests.conftest import FAST, eventually
from tests.server.broker.conftest import Broker, MakeBroker

SEARCH, FOUND = 81, 79
CHAIN, CHAIN_ROW, CHAIN_END = 78, 75, 76
AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
IMPATIENT = replace(FAST, request_timeout_s=0.2)


# --- searches --------------------------------------------------------------------------------------------------------


async def test_a_search_finds_contracts_best_first_with_what_is_listed_on_them(broker: Broker) -> None:
    (apple, *_) = await broker.listings.search("AAP")
    assert apple.instrument == Instrument(
        con_id=265598, symbol="AAPL", security_type=SecurityType.STK, currency="USD", primary_exchange="NASDAQ"
    )
    assert apple.description == "APPLE INC"
    assert apple.derivative_types == (SecurityType.OPT,)


async def test_a_search_that_finds_nothing_is_an_answer(broker: Broker) -> None:
    assert await broker.listings.search("NOSUCH") == ()


async def test_the_same_pattern_is_searched_for_once_in_small_letters_or_capitals(broker: Broker) -> None:
    answers = await asyncio.gather(*(broker.listings.search(pattern) for pattern in ("msft", "MSFT", "Msft")))
    assert len(set(answers)) == 1
    assert broker.simulator.frames_received(SEARCH) == 1


async def test_searches_wait_for_a_second_of_their_own_and_are_refused_when_it_is_too_far(
    make_broker: MakeBroker,
) -> None:
    broker = await make_broker(timings=IMPATIENT)
    now = 100.0
    pacer = Pacer(asyncio.get_running_loop().time)
    listings = Listings(broker.session, broker.contracts, pacer, lambda: now)
    await listings.search("A")
    with pytest.raises(RateLimited) as refused:
        await listings.search("B")
    assert refused.value.retry_after_s == SEARCH_INTERVAL_S
    assert broker.simulator.frames_received(SEARCH) == 1
    now += SEARCH_INTERVAL_S
    await listings.search("B")
    assert broker.simulator.frames_received(SEARCH) == 2


@pytest.mark.parametrize(
    ("field", "value", "con_id", "kinds"), [(3, "-1", 0, (SecurityType.OPT,)), (9, "IOPT", 265598, ())]
)
async def test_an_issuer_has_no_number_and_a_kind_we_do_not_know_is_left_out(
    broker: Broker, field: int, value: str, con_id: int, kinds: tuple[SecurityType, ...]
) -> None:
    broker.simulator.inject(Rule(Fault.CORRUPT_FIELD, message_id=FOUND, field=field, value=value))
    (found, *_) = await broker.listings.search("AAPL")
    assert (found.instrument.con_id, found.derivative_types) == (con_id, kinds)


async def test_a_search_whose_answer_is_lost_times_out_and_is_made_again(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=IMPATIENT)
    broker.simulator.inject(Rule(Fault.LOSE_REPLY, message_id=FOUND))
    listings = Listings(broker.session, broker.contracts, Pacer(asyncio.get_running_loop().time), _seconds())
    with pytest.raises(BrokerTimeout):
        await listings.search("AAPL")
    assert await listings.search("AAPL")


async def test_while_the_contracts_farm_is_down_a_search_times_out(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=IMPATIENT)
    broker.simulator.inject(Rule(Fault.FARM_BROKEN, value="contracts"))
    with pytest.raises(BrokerTimeout):
        await broker.listings.search("AAPL")


async def test_without_a_link_or_a_connection_a_search_says_so(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.DISCONNECT_BEFORE, message_id=SEARCH))
    with pytest.raises(BrokerDisconnected):
        await broker.listings.search("AAPL")
    await eventually(lambda: broker.session.epoch == 2 and broker.session.status.state.is_linked)
    broker.simulator.inject(Rule(Fault.LINK_LOST))
    await eventually(lambda: not broker.session.status.state.is_linked)
    with pytest.raises(BrokerLinkDown):
        await broker.listings.search("AAPL")


# --- option chains ---------------------------------------------------------------------------------------------------


async def test_a_chain_has_every_expiry_and_strike_by_exchange_and_is_asked_for_once(broker: Broker) -> None:
    chains, *others = await asyncio.gather(*(broker.listings.option_chain(AAPL) for _ in range(5)))
    assert all(other == chains for other in others)
    assert broker.simulator.frames_received(CHAIN) == 1
    catalogue = broker.simulator.gateway.catalogue
    options = catalogue.options_of(265598)
    assert {chain.exchange for chain in chains} == set(options[0].valid_exchanges.split(","))
    for chain in chains:
        assert (chain.trading_class, chain.multiplier) == ("AAPL", Decimal(100))
        assert [expiry.replace("-", "") for expiry in chain.expiries] == sorted({option.expiry for option in options})
        assert [float(strike) for strike in chain.strikes] == sorted({option.strike for option in options})


async def test_a_chain_of_one_exchange_is_that_one_alone(broker: Broker) -> None:
    (chain,) = await broker.listings.option_chain(AAPL, "SMART")
    assert chain.exchange == "SMART"
    assert await broker.listings.option_chain(AAPL, "NOSUCH") == ()


async def test_a_row_that_comes_twice_is_one_chain(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.DUPLICATE_REPLY, message_id=CHAIN_ROW, times=None))
    (chain,) = await broker.listings.option_chain(AAPL, "SMART")
    assert len(chain.strikes) == len(set(chain.strikes))


async def test_options_on_a_future_are_asked_for_at_its_exchange_and_none_is_an_answer(broker: Broker) -> None:
    assert await broker.listings.option_chain(Instrument(symbol="MES", security_type=SecurityType.FUT)) == ()
    assert broker.simulator.frames_received(CHAIN) == 1


async def test_an_unknown_underlying_is_not_found_and_no_chain_is_asked_for(broker: Broker) -> None:
    with pytest.raises(ContractNotFound):
        await broker.listings.option_chain(Instrument(symbol="AAPLL", security_type=SecurityType.STK))
    assert broker.simulator.frames_received(CHAIN) == 0


async def test_a_chain_without_its_end_is_no_chain(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=IMPATIENT)
    broker.simulator.inject(Rule(Fault.LOSE_REPLY, message_id=CHAIN_END))
    with pytest.raises(BrokerTimeout):
        await broker.listings.option_chain(AAPL)
    assert await broker.listings.option_chain(AAPL)


async def test_while_the_contracts_farm_is_down_a_chain_times_out(make_broker: MakeBroker) -> None:
    broker = await make_broker(timings=IMPATIENT)
    await broker.contracts.resolve(AAPL)
    broker.simulator.inject(Rule(Fault.FARM_BROKEN, value="contracts"))
    with pytest.raises(BrokerTimeout):
        await broker.listings.option_chain(AAPL)


async def test_a_connection_lost_amid_a_chain_ends_the_wait(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.DISCONNECT_BEFORE, message_id=CHAIN))
    with pytest.raises(BrokerDisconnected):
        await broker.listings.option_chain(AAPL)


def _seconds() -> Callable[[], float]:
    """A clock of which every look is a second after the last."""
    looks = itertools.count()
    return lambda: float(next(looks))
