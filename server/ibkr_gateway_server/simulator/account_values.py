"""An account's figures as live gateways tell them: a tag, a currency and a value spelled out.

Tags, order and spelling are those of three accounts that users have published in full (of dollars, euros and Hong Kong
dollars; 2015 to 2022), and of IBKR's list of account window values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from ibkr_gateway_server.simulator.figures import CENT, Balances, Figures, together

# A tag, its currency ("" where it is not money), and its value.
Row = tuple[str, str, str]

BASE = "BASE"
ZERO = Decimal(0)
CASH_STEP = Decimal("0.0001")

# What the simulated accounts never have. A currency's, then an account's, then those that each segment repeats.
_NO_LEDGER = [
    "AccruedCash",
    "CorporateBondValue",
    "Cryptocurrency",
    "FundValue",
    "FutureOptionValue",
    "FxCashBalance",
    "IssuerOptionValue",
    "MoneyMarketFundValue",
    "MutualFundValue",
    "NetDividend",
    "TBillValue",
    "TBondValue",
    "WarrantValue",
]
_NO_AMOUNT = [
    "AccruedDividend",
    "Billable",
    "Guarantee",
    "IndianStockHaircut",
    "PASharesValue",
    "PhysicalCertificateValue",
    "PostExpirationExcess",
    "PostExpirationMargin",
    "TotalDebitCardPendingCharges",
]

# The tags that are told of each currency.
LEDGER_TAGS = frozenset(_NO_LEDGER) | {
    "AccountOrGroup",
    "CashBalance",
    "Currency",
    "ExchangeRate",
    "FuturesPNL",
    "NetLiquidationByCurrency",
    "OptionMarketValue",
    "RealCurrency",
    "RealizedPnL",
    "StockMarketValue",
    "TotalCashBalance",
    "UnrealizedPnL",
}

# Names of IBKR's own list of summary tags for which the answer has another. That it answers at all is a guess.
ALIASES = {
    "PreviousEquityWithLoanValue": "PreviousDayEquityWithLoanValue",
    "ReqTEquity": "RegTEquity",
    "ReqTMargin": "RegTMargin",
}


def account_rows(account: str, figures: Figures) -> list[Row]:
    """All that reqAccountUpdates tells, by tag and then currency."""
    return ordered(
        [
            *_labels(account),
            *total_rows(figures),
            *_segment_rows(figures),
            *ledger_rows(account, (figures.total, *figures.balances)),
        ]
    )


def summary_rows(figures: Figures) -> list[Row]:
    """Every tag of a summary but its ledgers: those that are not money first, each part by tag, as captured."""
    rows = [*total_rows(figures), ("AccountType", "", "INDIVIDUAL"), *_money(figures.base, {"AccruedCash": ZERO})]
    return sorted(rows, key=lambda row: (row[1] != "", row[0]))


def total_rows(figures: Figures) -> list[Row]:
    """What describes the whole account."""
    total = figures.total
    liquidation = figures.net_liquidation
    amounts = {
        **dict.fromkeys(_NO_AMOUNT, ZERO),
        **_requirements(figures.initial_margin, figures.maintenance_margin, figures.equity),
        "BuyingPower": figures.buying_power,
        "EquityWithLoanValue": figures.equity,
        "GrossPositionValue": total.gross,
        "NetLiquidation": liquidation,
        "NetLiquidationUncertainty": ZERO,
        "RegTEquity": figures.equity,
        "RegTMargin": figures.regulation_t_margin,
        "SMA": figures.credit,
        "TotalCashValue": total.total_cash,
    }
    if figures.previous_equity is not None:
        amounts["PreviousDayEquityWithLoanValue"] = figures.previous_equity
    cushion = figures.excess / liquidation if liquidation > 0 else ZERO
    return [
        *_money(figures.base, amounts),
        ("Cushion", "", _trimmed(cushion, Decimal("0.000001"), 0)),
        ("DayTradesRemaining", "", str(figures.day_trades_remaining(0))),
        ("LookAheadNextChange", "", "0"),
    ]


def ledger_rows(account: str, balances: Iterable[Balances]) -> list[Row]:
    """Balances of each currency, or of all together, by tag."""
    return ordered(row for each in balances for row in _currency_rows(account, each))


def group_balances(accounts: Sequence[Figures], rate: Callable[[str], Decimal]) -> tuple[Balances, ...]:
    """Of several accounts: all together in the currency that `rate` converts to, then each currency by itself."""
    parts = [each for figures in accounts for each in figures.balances]
    currencies = [
        together(name, rate(name), ((each, Decimal(1)) for each in parts if each.currency == name))
        for name in dict.fromkeys(each.currency for each in parts)
    ]
    return together(BASE, Decimal(1), ((each, each.rate) for each in currencies)), *currencies


def ordered(rows: Iterable[Row]) -> list[Row]:
    """By tag; all currencies together before each."""
    return sorted(set(rows), key=lambda row: (row[0], row[1] != BASE, row[1]))


def _currency_rows(account: str, balances: Balances) -> list[Row]:
    currency = balances.currency
    amounts = {
        **dict.fromkeys(_NO_LEDGER, ZERO),
        "FuturesPNL": balances.futures_gain,
        "OptionMarketValue": balances.option_value,
        "RealizedPnL": balances.realized,
        "StockMarketValue": balances.stock_value,
        "UnrealizedPnL": balances.unrealized,
    }
    # These alone have more than cents on live gateways, as -122.9487.
    exact = {
        "CashBalance": balances.total_cash,
        "NetLiquidationByCurrency": balances.net_liquidation,
        "TotalCashBalance": balances.total_cash,
    }
    return [
        *_money(currency, amounts),
        *((tag, currency, _trimmed(amount, CASH_STEP, 2)) for tag, amount in exact.items()),
        ("AccountOrGroup", currency, account),
        ("Currency", currency, currency),
        ("ExchangeRate", currency, _trimmed(balances.rate, Decimal("1e-7"), 2)),
        ("RealCurrency", currency, currency),
    ]


def _requirements(initial: Decimal, maintenance: Decimal, equity: Decimal) -> dict[str, Decimal]:
    """Margin under its three names: now, without intraday relief, and after the next change. Here all are the same."""
    available, excess = equity - initial, equity - maintenance
    rows: dict[str, Decimal] = {}
    for name in ("", "Full", "LookAhead"):
        rows |= {f"{name}AvailableFunds": available, f"{name}ExcessLiquidity": excess}
        rows |= {f"{name}InitMarginReq": initial, f"{name}MaintMarginReq": maintenance}
    return rows


def _segment_rows(figures: Figures) -> list[Row]:
    """The parts of a universal account: -C commodities, -S securities.

    Cash is swept between them; that commodities are left with what their futures bind, and no more, is a guess.
    """
    commodities = figures.commodities_initial_margin
    securities = figures.net_liquidation - commodities
    equity = figures.equity - commodities
    leverage = figures.total.gross / securities if securities > 0 else ZERO
    parts = {
        "C": {
            **_requirements(commodities, figures.commodities_maintenance_margin, commodities),
            "EquityWithLoanValue": commodities,
            "NetLiquidation": commodities,
            "TotalCashValue": commodities,
        },
        "S": {
            **_requirements(
                figures.initial_margin - commodities,
                figures.maintenance_margin - figures.commodities_maintenance_margin,
                equity,
            ),
            "EquityWithLoanValue": equity,
            "GrossPositionValue": figures.total.gross,
            "NetLiquidation": securities,
            "RegTEquity": equity,
            "RegTMargin": figures.regulation_t_margin,
            "SMA": figures.credit,
            "TotalCashValue": figures.total.total_cash - commodities,
        },
    }
    if figures.previous_equity is not None:
        parts["S"]["PreviousDayEquityWithLoanValue"] = figures.previous_equity - commodities
    rows: list[Row] = []
    for part, amounts in parts.items():
        every = {**dict.fromkeys([*_NO_AMOUNT, "AccruedCash"], ZERO), **amounts}
        rows += _money(figures.base, {f"{tag}-{part}": amount for tag, amount in every.items()})
    rows += [(f"DayTradesRemainingT+{days}", "", str(figures.day_trades_remaining(days))) for days in range(1, 5)]
    return [*rows, ("Leverage-S", "", str(leverage.quantize(CENT)))]


def _labels(account: str) -> list[Row]:
    return [
        ("AccountCode", "", account),
        ("AccountReady", "", "true"),
        ("AccountType", "", "INDIVIDUAL"),
        ("ColumnPrio-C", "", "2"),
        ("ColumnPrio-S", "", "3"),
        ("NLVAndMarginInReview", "", "false"),
        ("SegmentTitle-C", "", "Commodities"),
        ("SegmentTitle-S", "", "Securities"),
        ("TradingType-S", "", "STKNOPT"),
        ("WhatIfPMEnabled", "", "true"),
    ]


def _money(currency: str, amounts: dict[str, Decimal]) -> list[Row]:
    return [(tag, currency, str(amount.quantize(CENT) + ZERO)) for tag, amount in amounts.items()]


def _trimmed(amount: Decimal, step: Decimal, least: int) -> str:
    """At most as many decimals as the step has, at least so many, no zeros behind them."""
    text = f"{amount.quantize(step) + ZERO:f}"
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0").ljust(least, "0")
    return f"{whole}.{decimals}" if decimals else whole
