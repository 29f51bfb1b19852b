"""From what IBKR knows of contracts to messages, whole objects at a time."""

from __future__ import annotations

from collections.abc import Iterable

from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import reference_data_service_pb2 as pb

from ibkr_gateway_server.domain.instruments import (
    ContractDetails,
    OptionChain,
    PriceLadder,
    SymbolMatch,
    TradingSchedule,
    TradingSession,
)
from ibkr_gateway_server.rpc import present


def contract_details(known: ContractDetails) -> pb.ContractDetails:
    """Everything known of a contract."""
    return pb.ContractDetails(
        instrument=present.instrument(known.instrument),
        long_name=known.long_name,
        min_tick=present.decimal(known.min_tick) or "",
        order_types=known.order_types,
        valid_exchanges=known.valid_exchanges,
        market_rule_ids=known.market_rule_ids,
        time_zone=known.time_zone,
        trading_sessions=_sessions(known.trading_sessions),
        regular_sessions=_sessions(known.regular_sessions),
        min_size=present.decimal(known.min_size) or "",
        size_increment=present.decimal(known.size_increment) or "",
        underlying_con_id=known.underlying_con_id,
        industry=known.industry,
        category=known.category,
        stock_type=known.stock_type,
        contract_month=known.contract_month,
    )


def symbol_match(match: SymbolMatch) -> pb.SymbolMatch:
    """What a search found."""
    kinds = [present.enum(common_pb2.SecurityType, "SECURITY_TYPE", kind) for kind in match.derivative_types]
    return pb.SymbolMatch(
        instrument=present.instrument(match.instrument),
        description=match.description,
        derivative_types=kinds,
    )


def option_chain(chain: OptionChain) -> pb.OptionChain:
    """What is listed at one exchange under one trading class."""
    return pb.OptionChain(
        exchange=chain.exchange,
        trading_class=chain.trading_class,
        multiplier=present.decimal(chain.multiplier) or "",
        expiries=chain.expiries,
        strikes=[present.decimal(strike) or "" for strike in chain.strikes],
    )


def trading_schedule(schedule: TradingSchedule) -> pb.GetTradingScheduleResponse:
    """Opening hours."""
    return pb.GetTradingScheduleResponse(
        time_zone=schedule.time_zone,
        regular_sessions=_sessions(schedule.regular_sessions),
        trading_sessions=_sessions(schedule.trading_sessions),
        last_date=schedule.last_date.isoformat(),
    )


def market_rule(ladder: PriceLadder) -> pb.GetMarketRuleResponse:
    """Price steps by low edge."""
    return pb.GetMarketRuleResponse(
        increments=[
            pb.PriceIncrement(low_edge=present.decimal(edge) or "", increment=present.decimal(step) or "")
            for edge, step in ladder.steps
        ]
    )


def _sessions(sessions: Iterable[TradingSession]) -> list[pb.TradingSession]:
    return [
        pb.TradingSession(open_time=present.time(session.open_time), close_time=present.time(session.close_time))
        for session in sessions
    ]
