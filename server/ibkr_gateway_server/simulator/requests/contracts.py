"""Requests about contracts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator import hours
from ibkr_gateway_server.simulator.codec import contracts, messages
from ibkr_gateway_server.simulator.codec.requests import read_contract
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import MARKET_RULES, Listing
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

NO_DEFINITION = "No security definition has been found for the request"
VALIDATION = "Error validating request.-'bN' : cause - "


def details(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    expired, kind, number = fields.flag(), fields.text(), fields.text()
    query = replace(query, isin=number) if kind == "ISIN" else query
    matches = matching(session, req_id, query, include_expired=expired)
    now = session.gateway.now
    for listing in matches:
        open_hours = hours.hours_text(listing, now, regular=False), hours.hours_text(listing, now, regular=True)
        told = session.version, req_id, listing
        if listing.bond is None:
            session.send(contracts.contract_data(*told, *open_hours, exchange=query.exchange))
        else:
            session.send(contracts.bond_contract_data(*told, listing.bond, *open_hours, exchange=query.exchange))
    if matches:
        session.send(contracts.contract_data_end(req_id))


def matching(session: Session, req_id: int, query: ContractQuery, *, include_expired: bool = False) -> list[Listing]:
    """What a request's contract fits; when nothing does, the client has been told why."""
    if not query.con_id and not query.isin and not query.sec_type:
        session.error(req_id, 321, f"{VALIDATION}Please enter a valid security type")
        return []
    matches = session.gateway.catalogue.match(query, include_expired=include_expired)
    if not matches:
        session.error(req_id, 200, NO_DEFINITION)
    return matches


def one_contract(
    session: Session, req_id: int, query: ContractQuery, *, include_expired: bool = False
) -> Listing | None:
    """The one contract that a data request means; otherwise the client has been told why not."""
    if not query.exchange:
        session.error(req_id, 321, f"{VALIDATION}Please enter exchange")
        return None
    matches = matching(session, req_id, query, include_expired=include_expired)
    if len(matches) > 1:
        session.error(req_id, 200, f"The contract description specified for {query.symbol} is ambiguous.")
    return matches[0] if len(matches) == 1 else None


def matching_symbols(session: Session, fields: Fields) -> None:
    req_id, pattern = fields.integer(), fields.text()
    catalogue = session.gateway.catalogue
    found = catalogue.search(pattern)
    derivatives = {listing.con_id: ["OPT"] for listing in found if catalogue.options_of(listing.con_id)}
    session.send(contracts.symbol_samples(session.version, req_id, found, derivatives))


def option_chain(session: Session, fields: Fields) -> None:
    req_id = fields.integer()
    fields.skip(3)
    options = session.gateway.catalogue.options_of(fields.integer())
    for exchange in options[0].valid_exchanges.split(",") if options else ():
        session.send(contracts.option_chain(req_id, exchange, options))
    session.send(contracts.option_chain_end(req_id))


def market_rule(session: Session, fields: Fields) -> None:
    rule_id = fields.integer()
    if rule_id in MARKET_RULES:
        session.send(messages.market_rule(rule_id, MARKET_RULES[rule_id]))
    else:
        session.error(-1, 321, "Error validating request.-'ct' : cause - Invalid market rule id.")
