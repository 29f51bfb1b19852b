"""How things look: tables for people, from the contract's messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway.v1 import (
    account_service_pb2,
    audit_service_pb2,
    common_pb2,
    market_data_service_pb2,
    orders_service_pb2,
    reference_data_service_pb2,
)
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.charts import short

DASH = "-"
WARNING = "yellow"
# Characters of an event's body that a table shows; --json shows all.
BODY_SHOWN = 60
_OPEN = (
    orders_service_pb2.ORDER_STATE_WORKING,
    orders_service_pb2.ORDER_STATE_PARTIAL,
    orders_service_pb2.ORDER_STATE_CANCEL_PENDING,
)


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table; the columns named in `numbers` are aligned right."""
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    return made


def columns_of(shown: RenderableType) -> int:
    """How wide something is that is cut nowhere."""
    endless = Console(width=10_000)
    return Measurement.get(endless, endless.options, shown).maximum


def with_remark(shown: RenderableType, remark: str) -> RenderableType:
    """Figures, and below them why they are not to be believed."""
    return Group(shown, Text(f"  {remark}", style=WARNING)) if remark else shown


def clock(time: Timestamp) -> str:
    """The time of the day, in UTC."""
    return time.ToDatetime().strftime("%H:%M:%SZ")


def name_of(instrument: common_pb2.Instrument) -> str:
    """A short name: the exchange's own where it says more than the symbol."""
    return instrument.local_symbol.strip() or instrument.symbol or str(instrument.con_id)


def quotes_table(
    rows: Iterable[tuple[str, market_data_service_pb2.Quote | None, str]],
    *,
    trends: Sequence[str] | None = None,
    without: Collection[str] = (),
) -> Table:
    """Quotes, one row each: its label, the quote or None, and a remark.

    With a trend for each where they are given; the volume is short then, to leave them room. Columns can be left out.
    """
    every = ("bid size", "bid", "ask", "ask size", "last", "change", "volume")
    columns = [column for column in every if column not in without]
    behind = ["data"] if trends is None else ["trend", "data"]
    made = table("", "instrument", *columns, *behind, numbers=columns)
    for at, (label, quote, remark) in enumerate(rows):
        cells = dict.fromkeys(columns, Text(DASH)) if quote is None else _quote_cells(quote)
        if trends is not None and quote is not None and quote.HasField("volume"):
            cells["volume"] = Text(short(quote.volume))
        kind = remark if quote is None else remark or kind_of(quote)
        is_doubtful = bool(remark) or quote is None or quote.is_stale
        made.add_row(
            label if quote is None else name_of(quote.instrument),
            *(cells[column] for column in columns),
            *([] if trends is None else [trends[at]]),
            Text(kind, style="yellow" if is_doubtful else "dim"),
        )
    return made


def _quote_cells(quote: market_data_service_pb2.Quote) -> dict[str, Text]:
    return {
        "bid size": Text(_number(quote, "bid_size")),
        "bid": Text(_price(quote, "bid_price")),
        "ask": Text(_price(quote, "ask_price")),
        "ask size": Text(_number(quote, "ask_size")),
        "last": Text(_price(quote, "last_price")),
        "change": _change(quote),
        "volume": Text(_number(quote, "volume")),
    }


def bars_table(answer: market_data_service_pb2.GetHistoricalBarsResponse) -> Table:
    """Bars, one row each."""
    numbers = ("open", "high", "low", "close", "volume", "wap")
    made = table(name_of(answer.instrument), "start", *numbers, numbers=numbers)
    for bar in answer.bars:
        start = start_of(bar)
        prices = (cents(price) for price in (bar.open, bar.high, bar.low, bar.close))
        made.add_row(start, *prices, _number(bar, "volume"), _price(bar, "wap"))
    return made


def start_of(bar: market_data_service_pb2.Bar) -> str:
    """When a bar began: its day, or its time in UTC."""
    return bar.date or bar.start_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")


def matches_table(pattern: str, matches: Iterable[reference_data_service_pb2.SymbolMatch]) -> Table:
    """What a search found, one row each, best first."""
    made = table(f'"{pattern}"', "con_id", "symbol", "type", "exchange", "currency", "name", "derivatives")
    for match in matches:
        found = match.instrument
        kinds = " ".join(_type_name(kind) for kind in match.derivative_types)
        kind = _type_name(found.security_type)
        made.add_row(
            str(found.con_id), found.symbol, kind, found.primary_exchange, found.currency, match.description, kinds
        )
    return made


def chains_table(underlying: str, chains: Iterable[reference_data_service_pb2.OptionChain]) -> Table:
    """Option chains, one row each: how many expiries and strikes, the first and the last."""
    numbers = ("multiplier", "expiries", "strikes")
    made = table(f"Options on {underlying}", "exchange", "class", *numbers, numbers=numbers)
    for listed in chains:
        spans = (_span(values) for values in (listed.expiries, listed.strikes))
        made.add_row(listed.exchange, listed.trading_class, listed.multiplier or DASH, *spans)
    return made


def summary_table(summary: account_service_pb2.AccountSummary) -> Table:
    """Balances and margin."""
    made = table(f"Account {summary.account_id} ({summary.currency})", "figure", "amount", numbers=("amount",))
    for name in (
        "net_liquidation",
        "cash",
        "buying_power",
        "available_funds",
        "initial_margin",
        "maintenance_margin",
        "margin_excess",
        "gross_position_value",
    ):
        made.add_row(name.replace("_", " "), amount(getattr(summary, name)))
    return made


def positions_table(positions: Iterable[account_service_pb2.Position]) -> Table:
    """Positions, one row each."""
    numbers = ("quantity", "average cost", "price", "value", "unrealized P&L")
    made = table("Positions", "instrument", "type", *numbers, "currency", numbers=numbers)
    for position in positions:
        kind = common_pb2.SecurityType.Name(position.instrument.security_type).removeprefix("SECURITY_TYPE_")
        made.add_row(
            name_of(position.instrument),
            kind,
            amount(position.quantity, 0),
            amount(position.average_cost),
            _price(position, "market_price"),
            amount(position.market_value),
            signed(position.unrealized_pnl),
            position.currency,
        )
    return made


def legs_table(preview: orders_service_pb2.OrderPreview) -> Table:
    """The orders that IBKR would get, one row each, with what each is estimated at."""
    numbers = ("quantity", "limit", "stop", "price", "value")
    made = table(
        "Orders", "part", "side", "quantity", "type", "limit", "stop", "lives", "price", "value", numbers=numbers
    )
    for leg in preview.legs:
        made.add_row(
            state_name(leg.role, orders_service_pb2.LegRole, "LEG_ROLE_"),
            state_name(leg.side, common_pb2.Side, "SIDE_"),
            amount(leg.quantity, 0),
            state_name(leg.order_type, orders_service_pb2.OrderType, "ORDER_TYPE_"),
            leg.limit_price or (f"{leg.limit_offset} off" if leg.limit_offset else DASH),
            _stop_of(leg),
            state_name(leg.time_in_force, orders_service_pb2.TimeInForce, "TIME_IN_FORCE_"),
            leg.estimated_price or DASH,
            amount(leg.estimated_notional) if leg.estimated_notional else DASH,
        )
    return made


def _stop_of(order: orders_service_pb2.OrderLeg | orders_service_pb2.OrderStatus) -> str:
    """What an order waits for: a price, or one that follows the market."""
    if order.HasField("trailing_amount"):
        return f"trails {order.trailing_amount}"
    if order.HasField("trailing_percent"):
        return f"trails {order.trailing_percent} %"
    return order.stop_price or DASH


def _in_words(leg: orders_service_pb2.OrderLeg, instrument: common_pb2.Instrument) -> str:
    terms = [state_name(leg.side, common_pb2.Side, "SIDE_"), amount(leg.quantity, 0)]
    terms.append(state_name(leg.order_type, orders_service_pb2.OrderType, "ORDER_TYPE_"))
    terms += [f"at {leg.limit_price}"] if leg.HasField("limit_price") else []
    terms += [f"from {leg.stop_price} on"] if leg.HasField("stop_price") else []
    terms += [_stop_of(leg)] if leg.trailing_amount or leg.trailing_percent else []
    return " ".join([*terms, name_of(instrument)] if instrument.con_id else terms)


def preview_table(preview: orders_service_pb2.OrderPreview) -> Table:
    """What an order would cost and need, and what is in its way."""
    source = orders_service_pb2.MarginSource.Name(preview.margin_source).removeprefix("MARGIN_SOURCE_")
    made = table("Preview (nothing is sent)", "what", "value", numbers=("value",))
    if len(preview.legs) == 1:
        made.add_row("order", _in_words(preview.legs[0], preview.quote.instrument))
    for label, name in (
        ("value", "total_notional"),
        ("commission", "commission"),
        ("initial margin", "initial_margin_change"),
        ("maintenance margin", "maintenance_margin_change"),
    ):
        money = getattr(preview, name)
        shown = f"{amount(money.amount)} {money.currency_code}" if preview.HasField(name) else "not known"  # type: ignore[arg-type]
        made.add_row(label, shown)
    made.add_row("figures by", "IBKR's what-if" if source == "BROKER_WHATIF" else "the gateway's estimate")
    for warning in preview.warnings:
        made.add_row("note", Text(warning, style="yellow"))
    for blocker in preview.blockers:
        made.add_row("blocked", Text(f"{blocker.error_code}: {blocker.message}", style="red"))
    return made


def orders_table(title: str, orders: Iterable[orders_service_pb2.OrderStatus]) -> Table:
    """Orders, one row each; their parts where one of them is a leg of several."""
    shown = list(orders)
    has_legs = any(order.leg_role > orders_service_pb2.LEG_ROLE_ENTRY for order in shown)
    numbers = ("quantity", "filled", "limit", "stop", "average")
    columns = ("client_order_id", *(["part"] if has_legs else []), "order", "instrument", "side", "type")
    made = table(title, *columns, *numbers, "state", numbers=numbers)
    for order in shown:
        part = state_name(order.leg_role, orders_service_pb2.LegRole, "LEG_ROLE_") if order.leg_role else DASH
        made.add_row(
            order.client_order_id or DASH,
            *([part] if has_legs else []),
            str(order.order_id or DASH),
            name_of(order.instrument),
            state_name(order.side, common_pb2.Side, "SIDE_"),
            order.broker_order_type or state_name(order.order_type, orders_service_pb2.OrderType, "ORDER_TYPE_"),
            amount(order.quantity, 0),
            amount(order.filled_quantity, 0),
            order.limit_price or DASH,
            _stop_of(order),
            order.average_fill_price or DASH,
            state_text(order),
        )
    return made


def state_text(order: orders_service_pb2.OrderStatus) -> Text:
    """A state in the colour of how it went."""
    name = state_name(order.state, orders_service_pb2.OrderState, "ORDER_STATE_")
    styles = {
        "FILLED": "green",
        "REJECTED": "red",
        "UNKNOWN": "bold red",
        "CONFLICT": "bold red",
        "CANCELLED": "yellow",
    }
    text = Text(name, style=styles.get(name, "cyan"))
    return text + Text(f" ({order.rejection.text})", style="red") if order.HasField("rejection") else text


def event_line(event: orders_service_pb2.OrderEvent) -> Text:
    """One event of an order stream as a line."""
    kind = event.WhichOneof("event") or ""
    head = Text(f"{event.sequence:>5}  " if event.sequence else "       ", style="dim")
    if kind == "status":
        # IBKR's own word, while it says more than the state.
        word = event.status.broker_status if event.status.state in _OPEN else ""
        return head + Text("status     ") + state_text(event.status) + Text(f"  {word}", style="dim")
    if kind in ("execution", "commission"):
        fill = getattr(event, kind)
        what = f"{amount(fill.quantity, 0)} {name_of(fill.instrument)} at {fill.price} on {fill.exchange}"
        fee = f"  commission {fill.commission.amount} {fill.commission.currency_code}" if kind == "commission" else ""
        return head + Text(f"{kind:<11}", style="green") + Text(what + fee)
    if kind == "notice":
        return head + Text("notice     ", style="yellow") + Text(f"{event.notice.ibkr_code}: {event.notice.text}")
    return head + Text(kind.replace("_", " "), style="dim")


def state_name(number: int, kind: object, prefix: str) -> str:
    """An enum's value without its prefix."""
    name: str = kind.Name(number)  # type: ignore[attr-defined]  # protobuf's enum wrappers
    return name.removeprefix(prefix)


def amount(text: str, digits: int = 2) -> str:
    """A decimal with thousands separated; a dash where there is none."""
    if not text:
        return DASH
    whole = digits == 0 and "." in text
    return f"{float(text):,.{4 if whole else digits}f}".rstrip("0" if whole else "")


def cents(price: float) -> str:
    """A price with all its digits, and no fewer than cents."""
    whole, _, fraction = f"{price:,.10g}".partition(".")
    return f"{whole}.{fraction:0<2}"


def signed(text: str) -> Text:
    """A gain in green, a loss in red."""
    if not text:
        return Text(DASH)
    return Text(f"{float(text):+,.2f}", style="green" if float(text) >= 0 else "red")


def _number(message: object, name: str) -> str:
    if not message.HasField(name):  # type: ignore[attr-defined]  # any of the contract's messages
        return DASH
    return f"{getattr(message, name):,.10g}"


def _price(message: object, name: str) -> str:
    return cents(getattr(message, name)) if message.HasField(name) else DASH  # type: ignore[attr-defined]  # as above


def _change(quote: market_data_service_pb2.Quote) -> Text:
    if not (quote.HasField("last_price") and quote.HasField("close_price") and quote.close_price):
        return Text(DASH)
    change = (quote.last_price / quote.close_price - 1) * 100
    return Text(f"{change:+.2f} %", style="green" if change >= 0 else "red")


def kind_of(quote: market_data_service_pb2.Quote) -> str:
    """How fresh a quote is, in a word."""
    name = common_pb2.MarketDataType.Name(quote.market_data_type).removeprefix("MARKET_DATA_TYPE_").lower()
    return "stale" if quote.is_stale else name


def _type_name(kind: common_pb2.SecurityType.ValueType) -> str:
    return common_pb2.SecurityType.Name(kind).removeprefix("SECURITY_TYPE_")


def _span(values: Sequence[str]) -> str:
    return f"{len(values)}: {values[0]} … {values[-1]}" if values else DASH


def audit_table(events: Iterable[audit_service_pb2.AuditEvent]) -> Table:
    """Events of the record."""
    columns = ("seq", "time", "kind", "who", "client_order_id", "order id", "what")
    made = table("Record", *columns, numbers=("seq", "order id"))
    for event in events:
        made.add_row(
            str(event.sequence),
            event.record_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ"),
            event.kind,
            event.principal or DASH,
            event.client_order_id or DASH,
            str(event.order_id or DASH),
            Text(event.body_json if len(event.body_json) <= BODY_SHOWN else f"{event.body_json[:BODY_SHOWN]}…"),
        )
    return made
