"""Contracts, orders and changes as tools take them: flat, and as the contract's messages."""

from __future__ import annotations

from typing import Annotated, Literal

from ibkr_gateway import forex
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from pydantic import Field

from ibkr_gateway_mcp.answers.common import SecurityType, Side
from ibkr_gateway_mcp.answers.orders import OcaType, OrderType, TimeInForce
from ibkr_gateway_mcp.inputs import (
    CURRENCY,
    DATE,
    NAME,
    PRINTABLE,
    SYMBOL,
    AccountId,
    DecimalText,
    Fields,
    OrderId,
    Time,
    timestamp,
)
from ibkr_gateway_mcp.refusals import Refusal


class InstrumentFields(Fields):
    """Names one tradable contract."""

    symbol: Annotated[str, Field(pattern=SYMBOL)]
    """Symbol (AAPL, MES, SPX), currency pair (EUR.USD with CASH), or IBKR's contract id (digits), which is enough."""
    security_type: SecurityType = "STK"
    """STK stock or ETF, FUT future (front month without expiry), OPT option, IND index, CASH currency pair, and IBKR's
    other types."""
    exchange: Annotated[str, Field(pattern=NAME)] | None = None
    """Routing destination. Missing: the type's usual one (SMART for stocks)."""
    currency: Annotated[str, Field(pattern=CURRENCY)] | None = None
    """ISO 4217 code of its prices. Missing: USD."""
    primary_exchange: Annotated[str, Field(pattern=NAME)] | None = None
    """Listing exchange, which tells equal symbols apart."""
    expiry: Annotated[str, Field(pattern=DATE)] | None = None
    """Of futures and options: YYYY-MM-DD, or YYYY-MM."""
    strike: DecimalText | None = None
    """Of options."""
    right: Literal["CALL", "PUT"] | None = None
    """Of options."""
    multiplier: DecimalText | None = None
    """Only where several contracts differ by it."""
    trading_class: Annotated[str, Field(pattern=NAME)] | None = None
    """Only where several contracts differ by it."""

    def instrument(self) -> common_pb2.Instrument:
        """The contract as the gateway takes it."""
        if self.symbol.isdigit():
            return common_pb2.Instrument(con_id=int(self.symbol), exchange=self.exchange or "")
        if self.security_type == "CASH" and "." in self.symbol:
            try:
                return forex(self.symbol)
            except ValueError as error:
                raise Refusal("FIELD_INVALID", str(error), symbol="write a currency pair as EUR.USD") from None
        return common_pb2.Instrument(
            symbol=self.symbol.upper(),
            security_type=common_pb2.SecurityType.Value(f"SECURITY_TYPE_{self.security_type}"),
            exchange=self.exchange or "",
            currency=self.currency or "",
            primary_exchange=self.primary_exchange or "",
            expiry=self.expiry or "",
            strike=self.strike or "",
            right=common_pb2.OptionRight.Value(f"OPTION_RIGHT_{self.right or 'UNSPECIFIED'}"),
            multiplier=self.multiplier or "",
            trading_class=self.trading_class or "",
        )


class OrderFields(InstrumentFields):
    """The terms of an order. Prices are in the contract's currency per unit; one that the type does not take is an
    error."""

    side: Side
    """BUY or SELL; SELL also opens a short position."""
    quantity: DecimalText
    """Units, positive."""
    order_type: OrderType
    """MKT, LMT (limit_price), STP (stop_price), STP_LMT (both), TRAIL and TRAIL_LIMIT (trailing_*), BRACKET (entry with
    or without limit_price, take_profit_price, stop_loss_price), MOC, LOC, OPG, MIT, LIT, REL."""
    limit_price: DecimalText | None = None
    """For LMT, STP_LMT, LOC, LIT, REL and the entry of a BRACKET."""
    stop_price: DecimalText | None = None
    """For STP, STP_LMT, MIT, LIT."""
    tif: TimeInForce = "DAY"
    """How long it lives."""
    account_id: AccountId | None = None
    """IBKR account, as DU1234567. Only needed when the login has several."""
    good_till_time: Time | None = None
    """End of a GTD order."""
    good_after_time: Time | None = None
    """Not before this time."""
    outside_regular_hours: bool = False
    """True: also outside regular trading hours."""
    trailing_amount: DecimalText | None = None
    """For TRAIL and TRAIL_LIMIT: distance as a price."""
    trailing_percent: DecimalText | None = None
    """For TRAIL and TRAIL_LIMIT: distance in percent, 1.5 is 1.5 %."""
    trail_stop_price: DecimalText | None = None
    """For TRAIL and TRAIL_LIMIT: first stop. Missing: from the market."""
    limit_offset: DecimalText | None = None
    """For TRAIL_LIMIT and REL: distance of the limit."""
    take_profit_price: DecimalText | None = None
    """For BRACKET."""
    stop_loss_price: DecimalText | None = None
    """For BRACKET."""
    stop_loss_limit_price: DecimalText | None = None
    """For BRACKET: makes the stop-loss a stop-limit."""
    bracket_transmit: bool | None = None
    """For BRACKET: false stages it in TWS without transmitting."""
    oca_group: Annotated[str, Field(pattern=PRINTABLE, max_length=64)] | None = None
    """Orders of one group cancel or reduce each other."""
    oca_type: OcaType | None = None
    """What becomes of the others of the group when one fills."""
    all_or_none: bool = False
    """True: fill all of it at once or wait."""
    hidden: bool = False
    """True: not displayed."""
    display_size: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Units to display. 0: all."""
    strategy_id: Annotated[str, Field(pattern=PRINTABLE, max_length=64)] | None = None
    """For the record; not sent to IBKR."""
    note: Annotated[str, Field(max_length=256)] | None = None
    """For the record; not sent to IBKR."""

    def spec(self) -> pb.OrderSpec:
        """The terms as the gateway takes them."""
        made = pb.OrderSpec(
            account_id=self.account_id or "",
            instrument=self.instrument(),
            side=common_pb2.Side.Value(f"SIDE_{self.side}"),
            quantity=self.quantity,
            order_type=pb.OrderType.Value(f"ORDER_TYPE_{self.order_type}"),
            time_in_force=pb.TimeInForce.Value(f"TIME_IN_FORCE_{self.tif}"),
            good_till_time=timestamp(self.good_till_time),
            good_after_time=timestamp(self.good_after_time),
            outside_regular_hours=self.outside_regular_hours,
            oca_group=self.oca_group or "",
            oca_type=pb.OcaType.Value(f"OCA_TYPE_{self.oca_type or 'UNSPECIFIED'}"),
            all_or_none=self.all_or_none,
            hidden=self.hidden,
            display_size=self.display_size,
            strategy_id=self.strategy_id or "",
            note=self.note or "",
        )
        for name in PRICES:
            if (price := getattr(self, name)) is not None:
                setattr(made, name, price)
        if self.bracket_transmit is not None:
            made.bracket_transmit = self.bracket_transmit
        return made


PRICES = (
    "limit_price",
    "stop_price",
    "trailing_amount",
    "trailing_percent",
    "trail_stop_price",
    "limit_offset",
    "take_profit_price",
    "stop_loss_price",
    "stop_loss_limit_price",
)
"""Fields of the terms that are prices or distances, each of which may be absent."""


class Changes(Fields):
    """Terms of a working order that may be changed. Prices are in the contract's currency per unit."""

    order_id: OrderId
    """client_order_id of the order (16 to 64 of A-Z a-z 0-9 _ -), IBKR's order_id (digits), or perm:ID."""
    quantity: DecimalText | None = None
    """New total, with what has filled already."""
    limit_price: DecimalText | None = None
    """New limit price."""
    stop_price: DecimalText | None = None
    """New stop price."""
    trailing_amount: DecimalText | None = None
    """New trailing distance as a price."""
    trailing_percent: DecimalText | None = None
    """New trailing distance in percent."""
    trail_stop_price: DecimalText | None = None
    """New first stop of a trailing order."""
    limit_offset: DecimalText | None = None
    """New distance of the limit."""
    take_profit_price: DecimalText | None = None
    """New take-profit price of a bracket."""
    stop_loss_price: DecimalText | None = None
    """New stop-loss price of a bracket."""
    stop_loss_limit_price: DecimalText | None = None
    """New limit of a bracket's stop-loss."""

    def changed(self) -> dict[str, str]:
        """New terms by name."""
        named = {name: getattr(self, name) for name in ("quantity", *PRICES)}
        return {name: value for name, value in named.items() if value is not None}
