"""Server messages about orders: openOrder, orderStatus, execDetails, completedOrder.

The layouts follow the server version; the literals are what live frames carry in the fields that an ordinary order
leaves unset.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.codec.messages import execution_time
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.orders import TOUCHES, Execution, Order
from ibkr_gateway_server.simulator.wire import UNSET_DOUBLE, UNSET_INTEGER, UNSET_LONG, flag, plain

DURATION = 158
POST_TO_ATS = 160
AUTO_CANCEL_PARENT = 162
PEG_BEST_FIELDS = 170
NO_FA_PROFILE = 177
PENDING_PRICE_REVISION = 178
CUSTOMER_ACCOUNT = 183
PROFESSIONAL_CUSTOMER = 184
BOND_ACCRUED_INTEREST = 185
INCLUDE_OVERNIGHT = 189
CME_TAGGING = 193
FULL_ORDER_PREVIEW = 195
SUBMITTER = 198
IMBALANCE_ONLY = 199

# A size that is not suggested, alone of all unset fields, is the smallest integer. Source: captured openOrder, 2026.
UNSET_SUGGESTED_SIZE = "-9223372036854775808"


@dataclass(frozen=True, slots=True)
class Preview:
    """A what-if's figures: margins before, change and after, each (initial, maintenance, equity with loan)."""

    before: tuple[float, float, float]
    change: tuple[float, float, float]
    after: tuple[float, float, float]
    commission: float
    currency: str
    warning: str = ""


def open_order(version: int, order: Order, preview: Preview | None = None) -> list[str]:
    """5, openOrder."""
    terms, listing = order.terms, order.listing
    fields = [
        "5",
        str(order.order_id),
        *_contract(listing, order.contract.exchange),
        terms.action,
        plain(terms.quantity),
    ]
    fields += [
        terms.order_type,
        _order_price(_shown_limit(order)),
        _order_price(terms.aux_price),
        terms.tif,
        terms.oca_group,
    ]
    fields += [
        terms.account,
        "",
        "0",
        terms.order_ref,
        str(order.client_id),
        str(order.perm_id),
        flag(terms.outside_rth),
    ]
    fields += [flag(terms.hidden), "0", terms.good_after_time]
    fields += ["" if preview else f"{order.perm_id}.0/{terms.account}/100", "", "", ""]
    fields += [""] if version < NO_FA_PROFILE else []
    fields += [terms.model_code, terms.good_till_date, "", "", "", "0", "", "-1", "0", "", "", "", "", ""]
    fields += [
        str(terms.display_size or UNSET_INTEGER),
        "0",
        "0",
        flag(terms.all_or_none),
        "",
        str(terms.oca_type),
        "0",
        "0",
    ]
    fields += ["", str(terms.parent_id), "0", "", "0", "None", "", "0", "", "", "", "?", "0", "0", "", "0", "0"]
    trail_stop = terms.trail_stop_price if order.stop_level is None else round(order.stop_level, 6)
    fields += [_optional(trail_stop), _optional(terms.trailing_percent), "", "", "", "0", "0", "0"]
    fields += [
        UNSET_INTEGER,
        UNSET_INTEGER,
        "",
        "",
        "0",
        "",
        "IB",
        "0",
        "0",
        "",
        "0",
        flag(terms.what_if),
        order.status,
    ]
    fields += _margins(preview)
    if preview is None:
        commission = "" if order.commission is None else repr(float(order.commission))
        fields += [commission, "", "", listing.currency if order.commission is not None else ""]
    else:
        commission = repr(float(preview.commission))
        fields += [commission, commission, commission, preview.currency]
    if version >= FULL_ORDER_PREVIEW:
        fields += ["", *[UNSET_DOUBLE] * 9, UNSET_SUGGESTED_SIZE, "", "0"]
    fields += [
        preview.warning if preview else "",
        "0",
        "0",
        "0",
        "None",
        *_adjusted(order),
        "0",
        "",
        "",
        "",
        "0",
        "1",
        "0",
        "0",
        "0",
    ]
    fields += [""] if version >= DURATION else []
    fields += [""] if version >= POST_TO_ATS else []
    fields += ["0"] if version >= AUTO_CANCEL_PARENT else []
    if version >= PEG_BEST_FIELDS:
        # A stock's frame carries IBKR's defaults for competing against the best offer; a future's leaves them empty.
        fields += ["", *(["100", "0.02"] if listing.sec_type == "STK" else ["", ""]), "", ""]
    fields += [""] if version >= CUSTOMER_ACCOUNT else []
    fields += ["0"] if version >= PROFESSIONAL_CUSTOMER else []
    fields += [""] if version >= BOND_ACCRUED_INTEREST else []
    fields += ["0"] if version >= INCLUDE_OVERNIGHT else []
    # Captured first frames of an order have 0 where later ones have the integer that means none.
    fields += ["", "0"] if version >= CME_TAGGING else []
    fields += [""] if version >= SUBMITTER else []
    return fields + (["0"] if version >= IMBALANCE_ONLY else [])


def order_status(order: Order, client_id: int | None = None) -> list[str]:
    """3, orderStatus."""
    client = order.client_id if client_id is None else client_id
    fields = ["3", str(order.order_id), order.status, plain(order.filled), plain(order.remaining)]
    fields += [plain(round(order.average_price, 8)), str(order.perm_id), str(order.terms.parent_id)]
    return [*fields, plain(order.last_price), str(client), _shown_reason(order), "0"]


def order_bound(order: Order) -> list[str]:
    """100, orderBound."""
    return ["100", str(order.perm_id), str(order.client_id), str(order.order_id)]


def exec_details(version: int, req_id: int, execution: Execution) -> list[str]:
    """11, execDetails. Unlike openOrder it spells the strike 0.0, leaves the right empty and names the venue."""
    order, listing = execution.order, execution.order.listing
    fields = [
        "11",
        str(req_id),
        str(order.order_id),
        str(listing.con_id),
        listing.symbol,
        listing.sec_type,
        listing.expiry,
    ]
    fields += [repr(listing.strike), listing.right, listing.multiplier, execution.exchange, listing.currency]
    fields += [listing.local_symbol, listing.trading_class, execution.execution_id]
    fields += [execution_time(version, execution.time, listing.time_zone), order.terms.account, execution.exchange]
    fields += ["BOT" if order.is_buy else "SLD", plain(execution.quantity), plain(execution.price), str(order.perm_id)]
    fields += [str(order.client_id), "0", plain(execution.cumulative), plain(round(execution.average_price, 8))]
    fields += [order.terms.order_ref, "", "", order.terms.model_code, str(execution.last_liquidity)]
    fields += ["0"] if version >= PENDING_PRICE_REVISION else []
    return fields + ([""] if version >= SUBMITTER else [])


def completed_order(version: int, order: Order) -> list[str]:
    """101, completedOrder."""
    terms, listing = order.terms, order.listing
    is_filled = order.status == "Filled"
    fields = ["101", *_contract(listing, order.contract.exchange), terms.action]
    # A completely filled order is reported with nothing left to do: its quantity is 0 and filledQuantity says the rest.
    fields += ["0" if is_filled else plain(terms.quantity), terms.order_type]
    fields += [
        _order_price(terms.limit_price),
        _order_price(terms.aux_price),
        terms.tif,
        terms.oca_group,
        terms.account,
    ]
    fields += ["", "0", terms.order_ref, str(order.perm_id), flag(terms.outside_rth), flag(terms.hidden), "0"]
    fields += [terms.good_after_time, "", "", ""]
    fields += [""] if version < NO_FA_PROFILE else []
    fields += [terms.model_code, terms.good_till_date, "", "", "", "0", "", "-1", "", "", "", "", ""]
    fields += [str(terms.display_size or UNSET_INTEGER), "0", flag(terms.all_or_none), "", str(terms.oca_type), "0", ""]
    fields += ["0", "None", "", "0", "0", "0", "", "0", "0", _optional(terms.trail_stop_price)]
    fields += [_optional(terms.trailing_percent), "", "0", "0", "0", UNSET_INTEGER, UNSET_INTEGER, "", "", "", "IB"]
    fields += ["0", "0", "", "0", order.status, "0", "0", "0", _adjusted(order)[1], UNSET_DOUBLE, "0", "1", "0", ""]
    fields += [
        plain(order.filled),
        UNSET_INTEGER,
        "0",
        "Not an insider or substantial shareholder",
        "0",
        "0",
        UNSET_LONG,
    ]
    zone = listing.time_zone
    moment = datetime.fromtimestamp(order.completed_time, ZoneInfo(zone))
    fields += [moment.strftime(f"%Y%m%d %H:%M:%S {zone}"), order.completed_status]
    fields += ["", "", "", "", ""] if version >= PEG_BEST_FIELDS else []
    fields += [""] if version >= CUSTOMER_ACCOUNT else []
    fields += ["0"] if version >= PROFESSIONAL_CUSTOMER else []
    return fields + ([""] if version >= SUBMITTER else [])


def _contract(listing: Listing, exchange: str) -> list[str]:
    """An order's contract: strike "0" and right "?" where there is none."""
    strike = plain(listing.strike)
    route = exchange or listing.exchange
    return [
        str(listing.con_id),
        listing.symbol,
        listing.sec_type,
        listing.expiry,
        strike,
        listing.right or "?",
        listing.multiplier,
        route,
        listing.currency,
        listing.local_symbol,
        listing.trading_class,
    ]


def _order_price(value: float | None) -> str:
    return repr(float(value or 0.0))


def _optional(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _adjusted(order: Order) -> list[str]:
    """Trigger price, trail stop, limit offset and three adjusted prices; unset but for the trail stop.

    Live frames fill that in whatever the type: one above a limit price, whatever the step, the price that a stop or a
    touch waits for. Source: captured openOrder of ES LMT (2025), AAPL LMT, REL, STP, MIT, LIT, TRAIL LIMIT (2026).
    """
    terms = order.terms
    trail = UNSET_DOUBLE
    if terms.order_type in ("LMT", "REL") and terms.limit_price:
        trail = repr(terms.limit_price + 1.0)
    elif terms.order_type in TOUCHES | {"STP", "STP LMT"} and terms.aux_price:
        trail = repr(terms.aux_price)
    elif order.stop_level is not None:
        trail = repr(round(order.stop_level, 6))
    offset = UNSET_DOUBLE if terms.order_type != "TRAIL LIMIT" else repr(round(terms.trailing_offset, 6))
    return [UNSET_DOUBLE, trail, offset, UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE]


def _shown_reason(order: Order) -> str:
    """Why an order is held. Captured: one that waits for a touch says nothing of a trigger, unlike a stop."""
    if order.terms.order_type not in TOUCHES:
        return order.why_held
    return ",".join(why for why in order.why_held.split(",") if why != "trigger")


def _shown_limit(order: Order) -> float | None:
    """The limit price that openOrder shows: a trailing one's follows its stop."""
    limit = order.terms.limit_price
    if order.shown_limit is not None:
        limit = order.shown_limit
    elif order.trailing_limit is not None:
        limit = order.trailing_limit
    return None if limit is None else round(limit, 6)


def _margins(preview: Preview | None) -> list[str]:
    if preview is None:
        return [UNSET_DOUBLE] * 9
    return [repr(round(amount, 2)) for group in (preview.before, preview.change, preview.after) for amount in group]
