"""Answers have every field and every word of the contract, and nothing is lost on the way from it."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import error_reason_pb2 as error_pb
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from ibkr_gateway_mcp.answers import account, common, gateway, market, orders
from ibkr_gateway_mcp.plain import LONGEST_TEXT, enum_prefix, plain, untrusted
from ibkr_gateway_mcp.terms import Changes, OrderFields

PAIRS: list[tuple[type[common.Answer], type[Message]]] = [
    (common.Money, common_pb2.Money),
    (common.ComboLeg, common_pb2.ComboLeg),
    (common.Instrument, common_pb2.Instrument),
    (common.Notice, common_pb2.Notice),
    (common.Failure, error_pb.GatewayError),
    (market.Greeks, market_pb.Greeks),
    (market.Quote, market_pb.Quote),
    (market.QuoteResult, market_pb.QuoteResult),
    (market.Bar, market_pb.Bar),
    (market.Bars, market_pb.GetHistoricalBarsResponse),
    (market.SymbolMatch, reference_pb.SymbolMatch),
    (market.TradingSession, reference_pb.TradingSession),
    (market.ContractDetails, reference_pb.ContractDetails),
    (market.OptionChain, reference_pb.OptionChain),
    (account.AccountSummary, account_pb.AccountSummary),
    (account.Position, account_pb.Position),
    (account.Positions, account_pb.GetPositionsResponse),
    (account.AccountStatus, account_pb.GetAccountStatusResponse),
    (account.PnlDetail, account_pb.PnlDetail),
    (account.AccountPnl, account_pb.AccountPnl),
    (account.Execution, account_pb.Execution),
    (account.Executions, account_pb.ListExecutionsResponse),
    (orders.OrderLeg, orders_pb.OrderLeg),
    (orders.OrderPreview, orders_pb.OrderPreview),
    (orders.OrderStatus, orders_pb.OrderStatus),
    (orders.OrderResult, orders_pb.OrderResult),
    (orders.CancelResult, orders_pb.CancelOrderResponse),
    (gateway.Health, gateway_pb.GetHealthResponse),
    (gateway.TradingBlocker, gateway_pb.TradingBlocker),
    (gateway.TradingStatus, gateway_pb.TradingStatus),
    (gateway.Halted, gateway_pb.HaltTradingResponse),
]
# Fields that an answer has beside the contract's, and one that is the adapter's to keep.
OWN = {
    market.Bars: {"note"},
    market.QuoteResult: {"symbol"},
    account.AccountStatus: {"note"},
    account.AccountPnl: {"note"},
    account.Executions: {"note"},
    orders.OrderPreview: {"preview_id", "client_order_id", "is_simulation", "trading_mode"},
}
KEPT = {orders.OrderPreview: {"preview_token"}}


@pytest.mark.parametrize(("answer", "message"), PAIRS, ids=lambda each: each.__name__)
def test_an_answer_has_every_field_of_its_message(answer: type[common.Answer], message: type[Message]) -> None:
    names = {field.name for field in message.DESCRIPTOR.fields}
    assert set(answer.model_fields) == names - KEPT.get(answer, set()) | OWN.get(answer, set())
    assert all(info.description for info in answer.model_fields.values())


@pytest.mark.parametrize(("answer", "message"), PAIRS, ids=lambda each: each.__name__)
def test_an_answer_knows_every_word_of_its_enums(answer: type[common.Answer], message: type[Message]) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    for field in descriptor.fields:
        words = _literal(answer.model_fields[field.name].annotation) if field.name in answer.model_fields else None
        if field.enum_type is None or words is None:
            continue
        prefix = enum_prefix(field.enum_type.name)
        assert words == {value.name.removeprefix(prefix) for value in field.enum_type.values if value.number}


def test_a_tool_for_orders_takes_every_term_of_the_contract() -> None:
    terms = {field.name for field in orders_pb.OrderSpec.DESCRIPTOR.fields} - {"instrument"}
    # What the contract does not take yet is not offered, and the seed calls the time in force by its short name.
    terms = terms - {"cash_quantity", "time_in_force"} | {"tif"}
    named = {field.name for field in common_pb2.Instrument.DESCRIPTOR.fields}
    assert set(OrderFields.model_fields) - named == terms
    assert set(Changes.model_fields) - {"order_id"} <= terms


def test_what_is_absent_is_left_out_and_zero_is_not() -> None:
    quote = market_pb.Quote(instrument=common_pb2.Instrument(symbol="CL"), bid_price=0.0, last_price=-37.63)
    assert market.Quote.of(quote).model_dump() == {
        "instrument": {"symbol": "CL"},
        "bid_price": 0.0,
        "last_price": -37.63,
        "is_snapshot": False,
        "is_stale": False,
    }


def test_times_enums_ids_and_maps_are_plain() -> None:
    status = orders_pb.OrderStatus(
        order_id=0, perm_id=7, side=common_pb2.SIDE_SELL, create_time=Timestamp(seconds=1_795_000_000)
    )
    found = plain(status)
    assert (found["order_id"], found["perm_id"], found["side"], found["state"]) == (None, 7, "SELL", None)
    assert found["create_time"] == "2026-11-18T11:06:40Z"
    error = error_pb.GatewayError(error_code="TICK_SIZE", message="off", details={"above": "187.31"})
    assert plain(error) == {"error_code": "TICK_SIZE", "message": "off", "details": {"above": "187.31"}}


def test_text_of_others_is_marked_cut_and_has_no_hidden_characters() -> None:
    found = untrusted("Buy\u202e now\x1b[31m\u200b" + "!" * 5_000)
    assert found["untrusted"] is True
    assert found["text"].startswith("Buy  now [31m !")
    assert len(found["text"]) == LONGEST_TEXT


def _literal(annotation: Any) -> set[str] | None:
    """The words of a literal, also of an optional one and of a list of them."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType, list):
        found = [words for each in get_args(annotation) if (words := _literal(each)) is not None]
        return found[0] if found else None
    return None
