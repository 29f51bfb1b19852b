"""What people type."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ibkr_gateway import bar_size, decimal_text, duration, forex, new_client_order_id, option, parse_instrument
from ibkr_gateway.v1 import common_pb2, market_data_service_pb2


@pytest.mark.parametrize(
    ("text", "kind", "symbol"),
    [
        ("AAPL", "STK", "AAPL"),
        ("aapl", "STK", "AAPL"),
        ("MES:FUT", "FUT", "MES"),
        ("SPX:ind", "IND", "SPX"),
        ("EUR.USD", "CASH", "EUR"),
        ("EUR.USD:CASH", "CASH", "EUR"),
        ("BRK.B", "STK", "BRK.B"),
    ],
)
def test_an_instrument_is_read_as_people_write_it(text: str, kind: str, symbol: str) -> None:
    parsed = parse_instrument(text)
    assert common_pb2.SecurityType.Name(parsed.security_type) == f"SECURITY_TYPE_{kind}"
    assert parsed.symbol == symbol


def test_digits_are_a_contract_id_and_an_unknown_type_is_named() -> None:
    assert parse_instrument("265598").con_id == 265598
    with pytest.raises(ValueError, match="STK"):
        parse_instrument("AAPL:STOCK")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1 min", "1_MIN"),
        ("5 mins", "5_MINS"),
        ("5 min", "5_MINS"),
        ("5m", "5_MINS"),
        ("1 hour", "1_HOUR"),
        ("1h", "1_HOUR"),
        ("1 day", "1_DAY"),
        ("1D", "1_DAY"),
        ("30 secs", "30_SECS"),
        ("1 month", "1_MONTH"),
    ],
)
def test_a_bar_size_is_read_in_every_usual_spelling(text: str, name: str) -> None:
    assert market_data_service_pb2.BarSize.Name(bar_size(text)) == f"BAR_SIZE_{name}"


@pytest.mark.parametrize("text", ["7 mins", "minute", "", "0 day"])
def test_a_bar_size_that_ibkr_does_not_have_is_refused_with_those_it_has(text: str) -> None:
    with pytest.raises(ValueError, match="1 min"):
        bar_size(text)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("1 W", 1, "WEEK"), ("30 D", 30, "DAY"), ("1 month", 1, "MONTH"), ("2Y", 2, "YEAR"), ("3600 S", 3600, "SECOND")],
)
def test_a_duration_is_read(text: str, value: int, unit: str) -> None:
    parsed = duration(text)
    assert (parsed.value, parsed.unit) == (value, market_data_service_pb2.DurationUnit.Value(f"DURATION_UNIT_{unit}"))


@pytest.mark.parametrize("text", ["5 mins", "week", "1.5 D", ""])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 W"):
        duration(text)


@pytest.mark.parametrize(("value", "text"), [("187.30", "187.30"), (Decimal("1E+2"), "100"), (5, "5"), ("-1", "-1")])
def test_a_decimal_keeps_its_digits(value: str | Decimal | int, text: str) -> None:
    assert decimal_text(value) == text


def test_a_float_and_nonsense_are_refused() -> None:
    with pytest.raises(TypeError):
        decimal_text(0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a number"):
        decimal_text("NaN")
    with pytest.raises(ValueError, match=r"EUR\.USD"):
        forex("EURUSD")
    with pytest.raises(ValueError, match="neither"):
        option("SPY", "2026-12-18", 600, "X")


def test_an_option_has_its_strike_and_right() -> None:
    named = option("SPY", "2026-12-18", "612.5", "put")
    assert (named.strike, named.right, named.expiry) == ("612.5", common_pb2.OPTION_RIGHT_PUT, "2026-12-18")


def test_order_ids_are_of_the_contracts_form_and_differ() -> None:
    ids = {new_client_order_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(16 <= len(each) <= 64 and each.isalnum() for each in ids)
