"""What an order waits for before it is worked, and until when it lives."""

from __future__ import annotations

from ibkr_gateway_server.simulator import history, hours
from ibkr_gateway_server.simulator.acceptance import off_hours
from ibkr_gateway_server.simulator.floor import Floor
from ibkr_gateway_server.simulator.orders import AT_CLOSE, Order


def reasons_to_hold(floor: Floor, order: Order) -> str:
    """As orderStatus tells them: its parent, a price, shares to sell."""
    reasons = ["child"] if order.parent is not None and order.parent.status != "Filled" else []
    reasons += ["trigger"] if order.waits_for_trigger else []
    reasons += ["locate"] if _must_locate(floor, order) else []
    return ",".join(reasons)


def hold_until_open(floor: Floor, order: Order) -> None:
    """Hold it until its auction, its own beginning or the market's, with a warning when the market is closed."""
    terms, listing, now = order.terms, order.listing, floor.agenda.now
    if terms.order_type in AT_CLOSE:
        order.held_until = hours.next_close(listing, now)
    elif terms.tif == "OPG":
        order.held_until = hours.next_opening(listing, now)
    else:
        begin = _time_of(terms.good_after_time, now) if terms.good_after_time else now
        opening = floor.hours.next_open(listing, max(begin, now), outside_rth=terms.outside_rth)
        order.held_until = opening if opening > now else 0.0
        if not floor.hours.is_open(listing, now, outside_rth=terms.outside_rth):
            order.notices.append((399, off_hours(terms, listing, opening)))


def end_of(floor: Floor, order: Order) -> float | None:
    """When its time in force is over; None: not by itself. An order of an auction ends with that."""
    terms, now = order.terms, floor.agenda.now
    if terms.tif == "GTD":
        return _time_of(terms.good_till_date, now)
    if terms.tif == "DAY" and not order.is_auction:
        return floor.hours.day_end(order.listing, max(order.held_until, now), outside_rth=terms.outside_rth)
    return None


def _must_locate(floor: Floor, order: Order) -> bool:
    """Whether it sells short what is hard to borrow."""
    if order.is_buy or order.is_located or order.listing.symbol not in floor.behaviour.hard_to_borrow:
        return False
    held = floor.ledgers[order.terms.account].holdings.get(order.listing.con_id)
    return order.remaining > (held.quantity if held else 0.0)


def _time_of(text: str, now: float) -> float:
    """A time in an order's terms; one that cannot be read is now."""
    try:
        return history.end_of(text, float("inf"))
    except history.BadRequest:
        return now
