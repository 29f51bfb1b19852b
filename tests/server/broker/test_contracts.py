"""Contracts: one answer, or the candidates; never a guess."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import date, timedelta
from decimal import Decimal

import pytest
from ibkr_gateway_server.broker.contracts import Contracts, from_contract, to_contract, with_usual_places
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.domain.errors import ContractAmbiguous, ContractNotFound, FieldsInvalid
from ibkr_gateway_server.domain.instruments import Instrument, OptionRight, PriceLadder, SecurityType

from tests.server.broker.conftest import Broker

STK, FUT, IND, CASH, OPT = (SecurityType[name] for name in ("STK", "FUT", "IND", "CASH", "OPT"))


@pytest.mark.parametrize(
    ("instrument", "con_id"),
    [
        (Instrument(symbol="AAPL", security_type=STK), 265598),
        (Instrument(symbol="SPY", security_type=STK, exchange="SMART", currency="USD"), 756733),
        (Instrument(symbol="SPX", security_type=IND), 416904),
        (Instrument(symbol="EUR", security_type=CASH, currency="USD"), 12087792),
        (Instrument(con_id=272093), 272093),
    ],
)
async def test_a_name_becomes_the_contract_ibkr_knows(broker: Broker, instrument: Instrument, con_id: int) -> None:
    assert (await broker.contracts.resolve(instrument)).con_id == con_id


async def test_a_future_without_an_expiry_is_its_front_month(broker: Broker) -> None:
    front = await broker.contracts.resolve(Instrument(symbol="MES", security_type=FUT))
    listed, named_front, following = await broker.contracts.futures("MES")
    assert front == named_front
    assert front.exchange == "CME"
    assert following is not None
    assert front.expiry < following.expiry
    assert [future.expiry for future in listed] == sorted(future.expiry for future in listed)


async def test_the_front_month_rolls_eight_days_before_its_end(broker: Broker) -> None:
    (first, *_), _, _ = await broker.contracts.futures("ES")
    expiry = date.fromisoformat(first.expiry)
    pacer = Pacer(asyncio.get_running_loop().time)
    for days_before, is_front in ((9, True), (8, False)):
        contracts = Contracts(broker.session, pacer, today=lambda days=days_before: expiry - timedelta(days=days))
        front = await contracts.resolve(Instrument(symbol="ES", security_type=FUT))
        assert (front.con_id == first.con_id) is is_front


async def test_several_matches_are_named_with_their_ids(broker: Broker) -> None:
    with pytest.raises(ContractAmbiguous) as refused:
        await broker.contracts.resolve(Instrument(symbol="AAPL", security_type=OPT))
    assert "AAPL" in refused.value.candidates
    assert "more" in refused.value.candidates


async def test_an_unknown_symbol_is_not_found(broker: Broker) -> None:
    with pytest.raises(ContractNotFound) as refused:
        await broker.contracts.resolve(Instrument(symbol="AAPLL", security_type=STK))
    assert refused.value.metadata == {"symbol": "AAPLL", "security_type": "STK", "ibkr_code": "200"}


async def test_what_names_nothing_is_refused_without_asking(broker: Broker) -> None:
    asked = broker.simulator.frames_received(9)
    with pytest.raises(FieldsInvalid):
        await broker.contracts.resolve(Instrument())
    assert broker.simulator.frames_received(9) == asked


async def test_the_same_question_is_asked_once_by_any_number_of_callers(broker: Broker) -> None:
    asked = broker.simulator.frames_received(9)
    instrument = Instrument(symbol="MSFT", security_type=STK)
    await asyncio.gather(*(broker.contracts.resolve(instrument) for _ in range(20)))
    assert broker.simulator.frames_received(9) == asked + 1


async def test_a_failed_question_is_asked_again(broker: Broker) -> None:
    asked = broker.simulator.frames_received(9)
    for _ in range(2):
        with pytest.raises(ContractNotFound):
            await broker.contracts.resolve(Instrument(symbol="AAPLL", security_type=STK))
    assert broker.simulator.frames_received(9) == asked + 2


async def test_the_price_ladder_is_that_of_the_exchanges_market_rule(broker: Broker) -> None:
    es = await broker.contracts.resolve(Instrument(symbol="ES", security_type=FUT))
    assert (await broker.contracts.ladder(es)).steps == ((Decimal(0), Decimal("0.25")),)


@pytest.mark.parametrize(
    ("price", "neighbours"),
    [("2.99", None), ("3.02", ("3.00", "3.05")), ("-3.02", ("-3.05", "-3.00")), ("187.305", ("187.30", "187.35"))],
)
def test_a_ladders_neighbours_are_the_valid_prices_around(price: str, neighbours: tuple[str, str] | None) -> None:
    ladder = PriceLadder(((Decimal(0), Decimal("0.01")), (Decimal(3), Decimal("0.05"))))
    expected = neighbours and tuple(Decimal(text) for text in neighbours)
    assert ladder.neighbours(Decimal(price)) == expected


@pytest.mark.parametrize(
    ("instrument", "exchange", "currency"),
    [
        (Instrument(symbol="AAPL", security_type=STK), "SMART", "USD"),
        (Instrument(symbol="AAPL", security_type=STK, currency="EUR"), "SMART", "EUR"),
        (Instrument(symbol="VOD", security_type=STK, exchange="LSE"), "LSE", ""),
        (Instrument(symbol="VOD", security_type=STK, primary_exchange="LSE"), "SMART", ""),
        (Instrument(symbol="MES", security_type=FUT), "CME", "USD"),
        (Instrument(symbol="FDAX", security_type=FUT), "", ""),
        (Instrument(symbol="ES", security_type=SecurityType.FOP), "CME", "USD"),
        (Instrument(symbol="DAX", security_type=IND), "", ""),
        (Instrument(symbol="EUR", security_type=CASH), "IDEALPRO", "USD"),
        (Instrument(con_id=265598), "", ""),
    ],
)
def test_usual_places_are_filled_in_and_unusual_ones_are_left_to_ibkr(
    instrument: Instrument, exchange: str, currency: str
) -> None:
    filled = with_usual_places(instrument)
    assert (filled.exchange, filled.currency) == (exchange, currency)


async def test_two_futures_under_one_symbol_are_ambiguous_and_a_trading_class_decides(broker: Broker) -> None:
    catalogue = broker.simulator.gateway.catalogue
    big, *_ = [listing for listing in catalogue if listing.symbol == "ES" and listing.sec_type == "FUT"]
    small = dataclasses.replace(big, con_id=999, multiplier="5", trading_class="ESX", local_symbol="ESXZ6")
    catalogue.add(small)
    with pytest.raises(ContractAmbiguous) as refused:
        await broker.contracts.resolve(Instrument(symbol="ES", security_type=FUT))
    assert "999" in refused.value.candidates
    with pytest.raises(ContractAmbiguous):
        await broker.contracts.futures("ES")
    named = Instrument(symbol="ES", security_type=FUT, trading_class="ESX")
    assert (await broker.contracts.resolve(named)).con_id == 999


async def test_a_new_day_asks_again_and_forgets_the_old(broker: Broker) -> None:
    day = date(2026, 11, 23)
    contracts = Contracts(broker.session, Pacer(asyncio.get_running_loop().time), today=lambda: day)
    asked = broker.simulator.frames_received(9)
    for _ in range(2):
        await contracts.resolve(Instrument(symbol="AAPL", security_type=STK))
    day = date(2026, 11, 24)
    await contracts.resolve(Instrument(symbol="AAPL", security_type=STK))
    assert broker.simulator.frames_received(9) == asked + 2
    assert len(contracts._details) == 1


def test_a_contract_survives_the_way_to_tws_and_back() -> None:
    option = Instrument(
        con_id=1, symbol="SPY", security_type=OPT, exchange="SMART", currency="USD", expiry="2026-12-18",
        strike=Decimal("612.5"), right=OptionRight.PUT, multiplier=Decimal(100), local_symbol="SPY   261218P00612500",
        trading_class="SPY",
    )  # fmt: skip
    assert from_contract(to_contract(option)) == option
