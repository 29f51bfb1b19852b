"""The catalogue: what the simulated gateway lists, and how it matches what a client asks for.

Contract ids of well-known instruments are IBKR's; those of expiring contracts are invented but stable: the same
contract has the same id in every process and on every day.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

from ibkr_gateway_server.simulator.holidays import holidays
from ibkr_gateway_server.simulator.listings import FIXED, ROOTS, Listing

_MONTH_CODES = "FGHJKMNQUVXZ"


class _Future(NamedTuple):
    """One series of futures; its margin is the maintenance margin of one contract."""

    name: str
    multiplier: str
    first_con_id: int
    margin: float
    under_con_id: int
    root: str


_FUTURES = {
    "ES": _Future("E-mini S&P 500", "50", 700_000_000, 22_400.0, 416904, "SPX"),
    "MES": _Future("Micro E-mini S&P 500", "5", 701_000_000, 2_240.0, 416904, "SPX"),
    "NQ": _Future("E-mini NASDAQ-100", "20", 702_000_000, 33_600.0, 416843, "NDX"),
    "MNQ": _Future("Micro E-mini NASDAQ-100", "2", 703_000_000, 3_360.0, 416843, "NDX"),
}
_OPTION_ROOTS = {"AAPL": (265598, 5.0), "SPY": (756733, 5.0)}
_STRIKES_EACH_SIDE = 10


def third_friday(year: int, month: int) -> date:
    """The last trading day of monthly options and quarterly futures; the day before where it is a holiday."""
    first = date(year, month, 1)
    friday = first + timedelta(days=(4 - first.weekday()) % 7 + 14)
    return friday - timedelta(days=1) if friday in holidays(year) else friday


@dataclass
class Catalogue:
    """Everything listed on one day. `spot` gives the price that an option's strikes lie around."""

    today: date
    spot: Callable[[Listing], float] = field(default=lambda stock: ROOTS[stock.root].level * stock.scale, repr=False)
    _by_id: dict[int, Listing] = field(default_factory=dict, repr=False)
    # By symbol (a bond's CUSIP as well) and kind, which most requests give.
    _by_name: dict[tuple[str, str], list[Listing]] = field(default_factory=dict, init=False, repr=False)
    # Today as expiries are spelled: every request's contract is compared with it, many times.
    _today: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self.roll(self.today)

    def __iter__(self) -> Iterator[Listing]:
        """What can be traded."""
        return (listing for listing in self._by_id.values() if not self.has_expired(listing))

    def roll(self, today: date) -> list[Listing]:
        """A new day: what has expired is kept under its id alone, and what comes after it is listed. Returns what has
        expired since the day before."""
        before, self.today, self._today = self.today, today, today.strftime("%Y%m%d")
        for listing in (*FIXED, *self._futures(), *self._options()):
            if listing.con_id not in self._by_id:
                self.add(listing)
        gone = (listing for listing in self._by_id.values() if self.has_expired(listing))
        return [listing for listing in gone if listing.expiry >= before.strftime("%Y%m%d")]

    def add(self, listing: Listing) -> None:
        """List this as well, in place of what has its id."""
        self._by_id[listing.con_id] = listing
        for name in (listing.symbol, listing.bond.cusip if listing.bond else ""):
            if name:
                others = self._by_name.get((name, listing.sec_type), ())
                kept = [other for other in others if other.con_id != listing.con_id]
                self._by_name[name, listing.sec_type] = [*kept, listing]

    def has_expired(self, listing: Listing) -> bool:
        """Whether its last trading day is over."""
        return bool(listing.expiry) and listing.expiry < self._today

    def by_id(self, con_id: int) -> Listing | None:
        """The contract with this id."""
        return self._by_id.get(con_id)

    def match(self, query: ContractQuery, *, include_expired: bool = False) -> list[Listing]:
        """Every contract that a request's contract fits, in the catalogue's order."""
        listed = (listing for listing in self._candidates(query) if query.fits(listing))
        return [listing for listing in listed if include_expired or not self.has_expired(listing)]

    def _candidates(self, query: ContractQuery) -> Iterable[Listing]:
        """What may fit, without looking at everything where a name or a number is given."""
        if query.con_id:
            found = self._by_id.get(query.con_id)
            return () if found is None else (found,)
        if query.symbol and query.sec_type and not query.isin:
            return self._by_name.get((query.symbol, query.sec_type), ())
        return self._by_id.values()

    def search(self, pattern: str) -> list[Listing]:
        """Stocks, indices and pairs whose symbol begins with the pattern or whose name contains it."""
        wanted = pattern.upper()
        found = [
            listing for listing in FIXED if listing.symbol.startswith(wanted) or wanted in listing.long_name.upper()
        ]
        return sorted(found, key=lambda listing: (not listing.symbol.startswith(wanted), listing.symbol))

    def options_of(self, con_id: int) -> list[Listing]:
        """The options on an underlying."""
        return [listing for listing in self if listing.sec_type == "OPT" and listing.under_con_id == con_id]

    @property
    def quarters(self) -> list[date]:
        """Last trading days of the front quarter and the three after it."""
        days = (third_friday(self.today.year + ahead, month) for ahead in (0, 1, 2) for month in (3, 6, 9, 12))
        return [day for day in days if day >= self.today][:4]

    @property
    def months(self) -> list[date]:
        """Last trading days of the next three monthly options."""
        days = (third_friday(self.today.year + ahead, month) for ahead in (0, 1) for month in range(1, 13))
        return [day for day in days if day >= self.today][:3]

    def _futures(self) -> Iterator[Listing]:
        for symbol, future in _FUTURES.items():
            for day in self.quarters:
                local = f"{symbol}{_MONTH_CODES[day.month - 1]}{day.year % 10}"
                yield Listing(
                    con_id=future.first_con_id + day.year * 100 + day.month,
                    symbol=symbol,
                    sec_type="FUT",
                    exchange="CME",
                    primary_exchange="",
                    local_symbol=local,
                    trading_class=symbol,
                    long_name=future.name,
                    expiry=day.strftime("%Y%m%d"),
                    multiplier=future.multiplier,
                    min_tick=0.25,
                    market_rule=67,
                    valid_exchanges="CME,QBALGO",
                    market_name=symbol,
                    contract_month=day.strftime("%Y%m"),
                    time_zone="US/Central",
                    hours=("1700-1600", "0830-1600"),
                    under_con_id=future.under_con_id,
                    under_symbol=symbol,
                    under_sec_type="IND",
                    agg_group="2147483647",
                    root=future.root,
                    contract_margin=future.margin,
                )

    def _options(self) -> Iterator[Listing]:
        for symbol, (under, step) in _OPTION_ROOTS.items():
            stock = next(listing for listing in FIXED if listing.con_id == under)
            middle = round(self.spot(stock) / step) * step
            strikes = [middle + step * offset for offset in range(-_STRIKES_EACH_SIDE, _STRIKES_EACH_SIDE + 1)]
            for day in self.months:
                for strike in strikes:
                    for right in "CP":
                        yield self._option(stock, symbol, day, strike, right)

    @staticmethod
    def _option(stock: Listing, symbol: str, day: date, strike: float, right: str) -> Listing:
        local = f"{symbol:<6}{day:%y%m%d}{right}{round(strike * 1000):08d}"
        return Listing(
            con_id=800_000_000 + zlib.crc32(local.encode()) % 100_000_000,
            symbol=symbol,
            sec_type="OPT",
            exchange="SMART",
            primary_exchange="",
            local_symbol=local,
            trading_class=symbol,
            long_name=stock.long_name,
            expiry=day.strftime("%Y%m%d"),
            strike=strike,
            right=right,
            multiplier="100",
            market_rule=32,
            valid_exchanges="SMART,AMEX,CBOE,CBOE2,PHLX,ISE,BOX,BATS,NASDAQOM,GEMINI,MIAX,PEARL,EMERALD,MERCURY",
            market_name=symbol,
            contract_month=day.strftime("%Y%m"),
            hours=("0930-1600", "0930-1600"),
            industry=stock.industry,
            category=stock.category,
            subcategory=stock.subcategory,
            under_con_id=stock.con_id,
            under_symbol=symbol,
            under_sec_type="STK",
            root=stock.root,
            scale=stock.scale,
            margin_rate=1.0,
        )


@dataclass(frozen=True)
class ContractQuery:
    """A contract as a client sends it: the twelve fields, most of them empty."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    isin: str = ""

    def fits(self, listing: Listing) -> bool:
        """Whether a contract is what was asked for. With a con_id nothing else but the exchange counts."""
        if not self._exchange_fits(listing):
            return False
        if self.con_id:
            return self.con_id == listing.con_id
        if self.isin:
            return self.isin == listing.isin and self.currency in ("", listing.currency)
        if not self.symbol and not self.local_symbol:
            return False
        return (
            (self.symbol in ("", listing.symbol) or self._is_cusip(listing))
            and self.sec_type in ("", listing.sec_type)
            and self.currency in ("", listing.currency)
            and self.local_symbol in ("", listing.local_symbol)
            and self.trading_class in ("", listing.trading_class)
            and listing.expiry.startswith(self.expiry)
            and self.strike in (0.0, listing.strike)
            and self.right[:1] in ("", "?", "0", listing.right)
            and self.multiplier in ("", listing.multiplier)
            and (self.primary_exchange in ("", listing.primary_exchange) or listing.sec_type != "STK")
        )

    def _is_cusip(self, listing: Listing) -> bool:
        """Bonds are asked for by their CUSIP in place of a symbol."""
        return listing.bond is not None and self.symbol == listing.bond.cusip

    def _exchange_fits(self, listing: Listing) -> bool:
        return not self.exchange or self.exchange in listing.valid_exchanges.split(",")
