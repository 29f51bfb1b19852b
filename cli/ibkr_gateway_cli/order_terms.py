"""The terms of an order as options: one list for every command that takes an order, and the order that they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, get_type_hints

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway import decimal_text, parse_instrument
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb

# The mark has the lines kept as they are.
EXAMPLES = """\b
Examples:
  buy 100 AAPL                               at the market
  buy 100 AAPL --limit 187.30 --tif GTC      at a limit, until cancelled
  sell 100 AAPL --stop 180                   at the market once 180 trades
  sell 100 AAPL --trail-percent 2.5          a stop 2.5 % behind the market
  sell 100 AAPL --trail 5 --offset 0.10      5.00 behind, then a limit 0.10 off
  buy 100 AAPL --limit 187 --take-profit 195 --stop-loss 180
                                             a bracket: three orders as one
  sell 1 MES:FUT --limit 6900 --oca-group exits
                                             the first of a group to fill ends
                                             the others
  buy 100 AAPL --type MOC                    in the closing auction
  buy 100 AAPL --limit 187 --good-till 2026-11-27T20:00Z

Without --type the prices say which it is. The types: MKT LMT STP STP_LMT TRAIL TRAIL_LIMIT BRACKET MOC LOC OPG MIT LIT
REL. A price that the type does not take is an error, never ignored.
"""

_OCA_TYPES = {
    "cancel": pb.OCA_TYPE_CANCEL_WITH_BLOCK,
    "reduce": pb.OCA_TYPE_REDUCE_WITH_BLOCK,
    "reduce-no-block": pb.OCA_TYPE_REDUCE_WITHOUT_BLOCK,
}

# Also those of a change.
LimitOption = Annotated[str, typer.Option("--limit", "-l", help="Limit price; of a bracket its entry's.")]
StopOption = Annotated[str, typer.Option("--stop", "-s", help="Stop price, or the price to be touched.")]
TrailOption = Annotated[str, typer.Option("--trail", help="Trailing distance as a price.")]
TrailPercentOption = Annotated[str, typer.Option("--trail-percent", help="Trailing distance in percent.")]
TrailStopOption = Annotated[str, typer.Option("--trail-stop", help="First stop of a trailing order.")]
OffsetOption = Annotated[str, typer.Option("--offset", help="Distance of a TRAIL_LIMIT's or REL's limit.")]
TakeProfitOption = Annotated[str, typer.Option("--take-profit", help="Of a bracket: where to take the profit.")]
StopLossOption = Annotated[str, typer.Option("--stop-loss", help="Of a bracket: where to stop the loss.")]


def terms(
    side: Annotated[str, typer.Argument(metavar="buy|sell", help="Direction.")],
    quantity: Annotated[str, typer.Argument(help="Units, as a decimal.")],
    instrument: Annotated[str, typer.Argument(help="AAPL, MES:FUT, EUR.USD, or a contract id.")],
    order_type: Annotated[str, typer.Option("--type", "-t", help="Order type; without it the prices say which.")] = "",
    limit: LimitOption = "",
    stop: StopOption = "",
    trail: TrailOption = "",
    trail_percent: TrailPercentOption = "",
    trail_stop: TrailStopOption = "",
    offset: OffsetOption = "",
    take_profit: TakeProfitOption = "",
    stop_loss: StopLossOption = "",
    stop_loss_limit: Annotated[
        str, typer.Option("--stop-loss-limit", help="Of a bracket: makes the stop-loss a stop-limit.")
    ] = "",
    stage: Annotated[bool, typer.Option("--stage", help="Of a bracket: leave it in TWS, not transmitted.")] = False,
    tif: Annotated[str, typer.Option("--tif", help="Time in force: DAY, GTC, IOC, FOK, GTD, OPG. [default: DAY]")] = "",
    good_till: Annotated[
        str, typer.Option("--good-till", help="End of a GTD order: 2026-11-27T20:00Z; without a zone this machine's.")
    ] = "",
    good_after: Annotated[str, typer.Option("--good-after", help="Not before this time, as --good-till.")] = "",
    outside_hours: Annotated[bool, typer.Option("--outside-hours", help="Also outside regular trading hours.")] = False,
    oca_group: Annotated[
        str, typer.Option("--oca-group", help="Orders of one group cancel or reduce each other.")
    ] = "",
    oca_type: Annotated[
        str, typer.Option("--oca-type", help="What a fill does to the others: cancel, reduce, reduce-no-block.")
    ] = "",
    all_or_none: Annotated[bool, typer.Option("--all-or-none", help="All of it at once, or wait.")] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Not displayed.")] = False,
    display: Annotated[int, typer.Option("--display", help="Units to display; 0: all.")] = 0,
    account_id: Annotated[
        str, typer.Option("--account", "-a", help="Account number; needed when there are several.")
    ] = "",
    strategy: Annotated[str, typer.Option("--strategy", help="Kept in the record, not sent.")] = "",
    note: Annotated[str, typer.Option("--note", help="Kept in the record, not sent.")] = "",
) -> pb.OrderSpec:
    """The terms as typed. Raises ValueError for what is not even a term; the server judges the rest."""
    if side.upper() not in ("BUY", "SELL"):
        raise ValueError(f"side {side!r} is neither buy nor sell")
    if oca_type and oca_type not in _OCA_TYPES:
        raise ValueError(f"--oca-type {oca_type!r} is not one of {', '.join(_OCA_TYPES)}")
    prices = {
        "limit_price": limit,
        "stop_price": stop,
        "trailing_amount": trail,
        "trailing_percent": trail_percent,
        "trail_stop_price": trail_stop,
        "limit_offset": offset,
        "take_profit_price": take_profit,
        "stop_loss_price": stop_loss,
        "stop_loss_limit_price": stop_loss_limit,
    }
    given = {name: decimal_term(name, text) for name, text in prices.items() if text}
    return pb.OrderSpec(
        account_id=account_id,
        instrument=parse_instrument(instrument),
        side=common_pb2.Side.Value(f"SIDE_{side.upper()}"),
        quantity=decimal_term("quantity", quantity),
        order_type=_value(pb.OrderType, "ORDER_TYPE", order_type or _type_of(given), "--type"),
        time_in_force=_value(pb.TimeInForce, "TIME_IN_FORCE", tif or ("GTD" if good_till else "DAY"), "--tif"),
        good_till_time=_time("--good-till", good_till),
        good_after_time=_time("--good-after", good_after),
        outside_regular_hours=outside_hours,
        bracket_transmit=False if stage else None,
        oca_group=oca_group,
        oca_type=_OCA_TYPES.get(oca_type, pb.OCA_TYPE_UNSPECIFIED),
        all_or_none=all_or_none,
        hidden=hidden,
        display_size=display,
        strategy_id=strategy,
        note=note,
        **given,
    )


def with_terms(command: Callable[..., None], *, order_type: str = "") -> Callable[..., None]:
    """A command whose parameter `spec` is made of the options above: a function that gives the order, so that what is
    wrong with it is told as the command tells errors. With `order_type` it is of that type, and there is no option."""
    own = inspect.signature(command).parameters
    fixed = {"order_type": order_type} if order_type else {}
    shared = {name: value for name, value in inspect.signature(terms).parameters.items() if name not in fixed}

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in shared}
        command(**arguments, spec=functools.partial(terms, **{**given, **fixed}))

    hints = {**get_type_hints(command, include_extras=True), **get_type_hints(terms, include_extras=True)}
    context, *others = [parameter for name, parameter in own.items() if name != "spec"]
    # Each by its name, so that those with a default may stand before those without.
    listed = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
        for parameter in (context, *shared.values(), *others)
    ]
    run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in listed}
    del run.__wrapped__  # the signature above is the one to read
    return run


def _type_of(given: dict[str, str]) -> str:
    """The type that the prices are of."""
    if {"take_profit_price", "stop_loss_price"} & given.keys():
        return "BRACKET"
    if {"trailing_amount", "trailing_percent"} & given.keys():
        return "TRAIL_LIMIT" if "limit_offset" in given else "TRAIL"
    if "stop_price" in given:
        return "STP_LMT" if "limit_price" in given else "STP"
    return "LMT" if "limit_price" in given else "MKT"


def _value(kind: Any, prefix: str, typed: str, name: str) -> Any:
    """The contract's value of a word: stp-lmt is STP_LMT."""
    words = [value.removeprefix(f"{prefix}_") for value in kind.keys()[1:]]
    word = typed.strip().upper().replace("-", "_").replace(" ", "_")
    if word not in words:
        raise ValueError(f"{name} {typed!r} is not one of {', '.join(words)}")
    return kind.Value(f"{prefix}_{word}")


def decimal_term(name: str, text: str) -> str:
    """A price or a quantity as typed. Raises ValueError that names the term."""
    try:
        return decimal_text(text)
    except (ArithmeticError, ValueError):
        raise ValueError(f"{name.replace('_', ' ')} {text!r} is not a decimal number") from None


def _time(name: str, text: str) -> Timestamp | None:
    """A point in time; without a zone it is this machine's."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not a time like 2026-11-27T20:00Z") from None
    made = Timestamp()
    made.FromDatetime(moment.astimezone())
    return made
