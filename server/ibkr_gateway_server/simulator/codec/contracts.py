"""Server messages about contracts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ibkr_gateway_server.simulator.listings import Bond, Fund, Listing
from ibkr_gateway_server.simulator.wire import plain

SIZE_INCREMENTS = 164
LAST_TRADE_DATE = 182
INELIGIBILITY = 186
SYMBOL_DESCRIPTION = 176
FUND_FIELDS = 179
BOND_HOURS = 188


def contract_data(
    version: int, req_id: int, listing: Listing, hours: str, regular_hours: str, *, exchange: str = ""
) -> list[str]:
    """10, contractData: everything of one contract, at the exchange that was asked for."""
    exchanges = listing.valid_exchanges
    rules = ",".join([str(listing.market_rule)] * len(exchanges.split(",")))
    fields = ["10"] + (["8"] if version < SIZE_INCREMENTS else [])
    fields += [str(req_id), listing.symbol, listing.sec_type, _last_trade(listing)]
    fields += [_iso(listing.expiry)] if version >= LAST_TRADE_DATE else []
    fields += [
        plain(listing.strike),
        listing.right,
        exchange or listing.exchange,
        listing.currency,
        listing.local_symbol,
        listing.market_name,
        listing.trading_class,
        str(listing.con_id),
        plain(listing.min_tick),
        *(["100"] if version < SIZE_INCREMENTS else []),
        listing.multiplier,
        listing.order_types,
        exchanges,
        "1",
        str(listing.under_con_id),
        listing.long_name,
        listing.primary_exchange,
        listing.contract_month,
        listing.industry,
        listing.category,
        listing.subcategory,
        listing.time_zone,
        hours,
        regular_hours,
        "",
        "",
        *(["1", "ISIN", listing.isin] if listing.isin else ["0"]),
        listing.agg_group,
        listing.under_symbol,
        listing.under_sec_type,
        rules,
        listing.expiry,
        listing.stock_type,
    ]
    fields += listing.sizes[:1] if version == SIZE_INCREMENTS - 1 else ()
    fields += listing.sizes if version >= SIZE_INCREMENTS else ()
    if listing.fund is not None and version >= FUND_FIELDS:
        fields += _fund_fields(listing, listing.fund)
    return fields + (["0"] if version >= INELIGIBILITY else [])


def _fund_fields(listing: Listing, fund: Fund) -> list[str]:
    """Name, family, kind, loads and their interval, fee, whether it is closed to all, to new investors and to new
    money, notice, purchases, where it is sold, distribution, asset. Which spellings a live gateway has is a guess."""
    head = [listing.long_name, fund.family, fund.kind, "0", "0", "", fund.management_fee, "0", "0", "0", ""]
    return [*head, fund.least_purchase, fund.least_further_purchase, "ALL", "", fund.distribution, fund.asset]


def bond_contract_data(
    version: int, req_id: int, listing: Listing, bond: Bond, hours: str, regular_hours: str, *, exchange: str = ""
) -> list[str]:
    """18, bondContractData: everything of one bond. No capture of one exists: layout as the clients read it."""
    exchanges = listing.valid_exchanges
    rules = ",".join([str(listing.market_rule)] * len(exchanges.split(",")))
    fields = ["18"] + (["6"] if version < SIZE_INCREMENTS else [])
    fields += [str(req_id), listing.symbol, listing.sec_type, bond.cusip, plain(bond.coupon), bond.maturity]
    fields += [bond.issued, bond.ratings, bond.kind, bond.coupon_kind, "0", "0", "0", bond.description]
    fields += [exchange or listing.exchange, listing.currency, listing.market_name, listing.trading_class]
    fields += [str(listing.con_id), plain(listing.min_tick)] + (["100"] if version < SIZE_INCREMENTS else [])
    fields += [listing.order_types, exchanges, "", "", "0", "", listing.long_name]
    fields += [listing.time_zone, hours, regular_hours] if version >= BOND_HOURS else []
    fields += ["", "0", "1", "CUSIP", bond.cusip, "9", rules]
    return fields + (list(listing.sizes) if version >= SIZE_INCREMENTS else [])


def contract_data_end(req_id: int) -> list[str]:
    """52."""
    return ["52", "1", str(req_id)]


def symbol_samples(
    version: int, req_id: int, listings: Sequence[Listing], derivatives: dict[int, list[str]]
) -> list[str]:
    """79: what a search found."""
    fields = ["79", str(req_id), str(len(listings))]
    for listing in listings:
        kinds = derivatives.get(listing.con_id, [])
        fields += [str(listing.con_id), listing.symbol, listing.sec_type]
        fields += [listing.primary_exchange or listing.exchange, listing.currency, str(len(kinds)), *kinds]
        fields += [listing.long_name, ""] if version >= SYMBOL_DESCRIPTION else []
    return fields


def option_chain(req_id: int, exchange: str, options: Sequence[Listing]) -> list[str]:
    """75: expiries and strikes at one exchange."""
    expiries = sorted({option.expiry for option in options})
    strikes = sorted({option.strike for option in options})
    first = options[0]
    return [
        "75",
        str(req_id),
        exchange,
        str(first.under_con_id),
        first.trading_class,
        first.multiplier,
        str(len(expiries)),
        *expiries,
        str(len(strikes)),
        *(repr(strike) for strike in strikes),
    ]


def option_chain_end(req_id: int) -> list[str]:
    """76."""
    return ["76", str(req_id)]


def position(account: str, listing: Listing, quantity: float, average_cost: float) -> list[str]:
    """61. A stock's exchange is where it is listed; a derivative's is left empty."""
    return ["61", "3", account, *_position_contract(listing), plain(quantity), plain(average_cost)]


def position_multi(req_id: int, account: str, listing: Listing, quantity: float, average_cost: float) -> list[str]:
    """71."""
    contract = _position_contract(listing)
    return ["71", "1", str(req_id), account, *contract, plain(quantity), plain(average_cost), ""]


def portfolio(
    account: str,
    listing: Listing,
    quantity: float,
    price: float,
    value: float,
    average_cost: float,
    unrealized: float,
    realized: float,
) -> list[str]:
    """7: one position at its mark."""
    exchange = listing.primary_exchange if listing.sec_type == "STK" else listing.exchange
    contract = [str(listing.con_id), listing.symbol, listing.sec_type, listing.expiry, plain(listing.strike)]
    contract += [listing.right or "0", listing.multiplier, exchange, listing.currency]
    amounts = (
        quantity,
        round(price, 7),
        round(value, 2),
        round(average_cost, 7),
        round(unrealized, 2),
        round(realized, 2),
    )
    return [
        "7",
        "8",
        *contract,
        listing.local_symbol,
        listing.trading_class,
        *(plain(amount) for amount in amounts),
        account,
    ]


def _position_contract(listing: Listing) -> list[str]:
    return [
        str(listing.con_id),
        listing.symbol,
        listing.sec_type,
        listing.expiry,
        repr(listing.strike),
        listing.right,
        listing.multiplier,
        listing.primary_exchange if listing.sec_type == "STK" else "",
        listing.currency,
        listing.local_symbol,
        listing.trading_class,
    ]


def _last_trade(listing: Listing) -> str:
    """Live futures and options carry time and zone behind the date, as "20260618 08:30 US/Central"."""
    return f"{listing.expiry} 08:30 {listing.time_zone}" if listing.sec_type == "FUT" else listing.expiry


def _iso(expiry: str) -> str:
    return datetime.strptime(expiry, "%Y%m%d").date().isoformat() if expiry else ""
