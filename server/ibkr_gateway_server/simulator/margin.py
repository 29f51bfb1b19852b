"""What positions bind: margin of each kind of contract, each by itself, in its own currency.

Hedges, spreads and covered options are not netted, and concentration costs nothing: the rules are simpler than IBKR's.
"""

from __future__ import annotations

from collections.abc import Iterable

from ibkr_gateway_server.simulator.listings import Listing

# What opens a position binds a tenth more than what keeps it: stocks so on live gateways (captured: 41515.19 initial,
# 37741.09 maintenance of a fund), futures so at CME.
INITIAL_MARGIN = 1.1
# A short stock above 5.00. Source: FINRA rule 4210(c)(3); a long one's 25 % is in its listing.
SHORT_STOCK_RATE = 0.30
CHEAP_STOCK, CHEAP_STOCK_LEAST, STOCK_LEAST = 5.0, 2.5, 5.0
# Half of what a stock costs must be paid. Source: Regulation T, 12 CFR 220.12(a).
REG_T_RATE = 0.50
# A sold option. Source: FINRA rule 4210(f)(2)(E): its price and a fifth of its underlying (an index: 15 %) less what it
# is out of the money, at least a tenth.
SOLD_OPTION_SHARE, SOLD_INDEX_OPTION_SHARE, SOLD_OPTION_LEAST = 0.20, 0.15, 0.10
# A borrowed currency against a held one; captured: 3.06 euros for 122.95 borrowed dollars at 0.8303924.
CURRENCY_RATE = 0.03


def maintenance(listing: Listing, quantity: float, price: float, underlying: float = 0.0) -> float:
    """What it takes to keep a position. `underlying` is the price of an option's.

    A bought option binds nothing: its value is no equity to lend on in the first place. Nor does a currency pair: the
    balances it leaves do, see `currencies`.
    """
    if listing.sec_type == "CASH":
        return 0.0
    if listing.sec_type == "OPT":
        return _option(listing, quantity, price, underlying)
    if listing.contract_margin:
        return abs(quantity) * listing.contract_margin
    value = abs(quantity * price * listing.units)
    if quantity >= 0:
        return value * listing.margin_rate
    if price < CHEAP_STOCK:
        return max(value, CHEAP_STOCK_LEAST * -quantity)
    return max(value * max(SHORT_STOCK_RATE, listing.margin_rate), STOCK_LEAST * -quantity)


def initial(listing: Listing, quantity: float, price: float, underlying: float = 0.0) -> float:
    """What it takes to open a position. A sold option binds the same from the first day on."""
    bound = maintenance(listing, quantity, price, underlying)
    return bound if listing.sec_type == "OPT" else bound * INITIAL_MARGIN


def regulation_t(listing: Listing, quantity: float, price: float, underlying: float = 0.0) -> float:
    """What Regulation T asks for a security at the end of the day."""
    if listing.sec_type == "STK":
        return abs(quantity * price) * REG_T_RATE
    return _option(listing, quantity, price, underlying) if listing.sec_type == "OPT" else 0.0


def currencies(balances: Iterable[float]) -> float:
    """What borrowed currencies bind against those that are held, all stated in the base currency."""
    amounts = list(balances)
    held, borrowed = sum(max(amount, 0.0) for amount in amounts), sum(max(-amount, 0.0) for amount in amounts)
    return CURRENCY_RATE * min(held, borrowed)


def _option(listing: Listing, quantity: float, price: float, underlying: float) -> float:
    if quantity >= 0:
        return 0.0
    is_call = listing.right == "C"
    out_of_the_money = max(listing.strike - underlying if is_call else underlying - listing.strike, 0.0)
    share = SOLD_INDEX_OPTION_SHARE if listing.under_sec_type == "IND" else SOLD_OPTION_SHARE
    least = SOLD_OPTION_LEAST * (underlying if is_call else listing.strike)
    return -quantity * listing.units * (price + max(share * underlying - out_of_the_money, least))
