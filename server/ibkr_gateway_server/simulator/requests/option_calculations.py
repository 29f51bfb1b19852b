"""Requests about options: what volatility a price means, what price a volatility gives, and their exercise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.codec.requests import read_contract
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market.options import OptionModel, black_scholes, implied_volatility
from ibkr_gateway_server.simulator.market.path import YEAR_S
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.simulator.requests.contracts import matching, one_contract
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

CUSTOM = 53
EXERCISE, LAPSE = 1, 2

# When expiring contracts end, in UTC, and the least time that an option is priced at: as the market has them.
EXPIRY_HOUR = 21
LEAST_S = 3600.0

NOT_AN_OPTION = "Error validating request.-'{letter}' : cause - Invalid security type for this request."
PROCESSING = "Error processing request."


def implied_volatility_of(session: Session, fields: Fields) -> None:
    """calculateImpliedVolatility. What follows the prices differs from client to client, and is of no consequence."""
    _calculate(session, fields, "cb")


def price_of(session: Session, fields: Fields) -> None:
    """calculateOptionPrice: volatility instead of the option's price."""
    _calculate(session, fields, "cd")


def _calculate(session: Session, fields: Fields, letter: str) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    given, spot = fields.number(), fields.number()
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    if listing.sec_type != "OPT":
        session.error(req_id, 321, NOT_AN_OPTION.format(letter=letter))
        return
    by_price = letter == "cb"
    model = _model(listing, given, spot, session.gateway.now, by_price=by_price)
    session.send(messages.tick_option(req_id, CUSTOM, model) if model else messages.tick_option_unknown(req_id, CUSTOM))


def _model(listing: Listing, given: float, spot: float, now: float, *, by_price: bool) -> OptionModel | None:
    """The option at a price or a volatility; None where there is none, as for a price below what it is worth now."""
    if not 0 < spot < 1e9 or not 0 < given < 1e9:
        return None
    end = datetime.strptime(listing.expiry, "%Y%m%d").replace(hour=EXPIRY_HOUR, tzinfo=UTC).timestamp()
    years = max(end - now, LEAST_S) / YEAR_S
    volatility = implied_volatility(given, spot, listing.strike, years, listing.right) if by_price else given
    if volatility is None or not 0.001 <= volatility <= 10:
        return None
    found = black_scholes(spot, listing.strike, years, volatility, listing.right)
    return replace(found, price=given) if by_price else found


def exercise(session: Session, fields: Fields) -> None:
    """exerciseOptions: refused with IBKR's sentences, or taken as an instruction in the form of an order.

    As captured on a paper gateway, where it has never been seen to be carried out: it waits, and fails when it is
    cancelled or its day is over.
    """
    fields.skip()
    req_id, query = fields.integer(), _read_contract_without_primary(fields)
    action, quantity, account, overrides = fields.integer(), fields.integer(), fields.text(), fields.flag()
    found = matching(session, req_id, query)
    if not found:
        return
    listing, ledgers = found[0], session.gateway.ledgers
    account = account or next(iter(ledgers))
    if len(found) > 1 or listing.sec_type != "OPT":
        session.error(req_id, 321, NOT_AN_OPTION.format(letter="cI"))
    elif action not in (EXERCISE, LAPSE) or quantity < 1 or account not in ledgers:
        session.error(req_id, 321, "Error validating request.-'cI' : cause - Invalid exercise action or quantity.")
    elif (held := int(_held(session, account, listing))) < 1:
        text = f"No unlapsed position exists in this option in account {account}."
        session.error(req_id, 322, f"{PROCESSING}{text}")
    elif not overrides and (action == EXERCISE) != _is_in_the_money(session, listing):
        text = "Exercise ignored because option is not" if action == EXERCISE else "Lapse ignored because option is"
        session.error(req_id, 322, f"{PROCESSING}{text} in-the-money.")
    else:
        # No more than is held; a limit order to buy at nothing, as captured.
        terms = Terms("BUY", min(quantity, held), "LMT", 0.0, account=account)
        contract = replace(query, symbol=listing.symbol, exchange=query.exchange or listing.exchange)
        try:
            session.gateway.exercise(session.client_id, req_id, contract, listing, terms)
        except OrderRefused as refused:
            session.error(req_id, refused.code, refused.text)


def _held(session: Session, account: str, listing: Listing) -> float:
    holding = session.gateway.ledgers[account].holdings.get(listing.con_id)
    return holding.quantity if holding else 0.0


def _is_in_the_money(session: Session, listing: Listing) -> bool:
    gain = session.gateway.market.option(listing, session.gateway.now).underlying - listing.strike
    return gain > 0 if listing.right == "C" else gain < 0


def _read_contract_without_primary(fields: Fields) -> ContractQuery:
    """The eleven fields of exerciseOptions: it alone leaves out the primary exchange."""
    return ContractQuery(
        con_id=fields.integer(),
        symbol=fields.text(),
        sec_type=fields.text(),
        expiry=fields.text(),
        strike=fields.number(),
        right=fields.text(),
        multiplier=fields.text(),
        exchange=fields.text(),
        currency=fields.text(),
        local_symbol=fields.text(),
        trading_class=fields.text(),
    )
