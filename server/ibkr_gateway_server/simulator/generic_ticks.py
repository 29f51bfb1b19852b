"""Generic ticks: which numbers a client may ask for, of what, and what each of them brings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ibkr_gateway_server.simulator.listings import Listing

NEWS, TOP_OFF = "292", "mdoff"
FUNDAMENTALS = "258"
RT_VOLUME, RT_TRADE_VOLUME = "233", "375"

# Number, the older one that means the same, and the name in IBKR's list. Source: error 321 as users report it.
_NAMES = (
    *(
        (100, 0, "Option Volume"),
        (101, 0, "Option Open Interest"),
        (105, 0, "Average Opt Volume"),
        (106, 0, "impvolat"),
    ),
    *(
        (162, 0, "Index Future Premium"),
        (165, 0, "Misc. Stats"),
        (221, 220, "Creditman Mark Price"),
        (225, 0, "Auction"),
    ),
    *((232, 221, "Pl Price"), (233, 0, "RTVolume"), (236, 0, "inventory"), (258, 47, "Fundamentals")),
    *((293, 0, "TradeCount"), (294, 0, "TradeRate"), (295, 0, "VolumeRate"), (318, 0, "LastRTHTrade")),
    *((375, 0, "RTTrdVolume"), (411, 0, "rthistvol"), (456, 59, "IBDividends"), (460, 0, "Bond Factor Multiplier")),
    *((576, 0, "EtfNavBidAsk(navbidask)"), (577, 0, "EtfNavLast(navlast)"), (578, 0, "EtfNavClose(navclose)")),
    *((586, 0, "IPOHLMPRC"), (587, 0, "Pl Price Delayed"), (588, 0, "Futures Open Interest")),
    *((595, 0, "Short-Term Volume X Mins"), (614, 0, "EtfNavMisc(high/low)")),
    *((619, 0, "Creditman Slow Mark Price"), (623, 0, "EtfFrozenNavLast(fznavlast)")),
)
# What is not in the list of a kind of contract: the stocks' list is as reported, the others' are guesses.
_NOT_OF = {
    "STK": {162},
    "FUT": {100, 101, 105, 106, 162, 236, 258, 456, 460, 576, 577, 578, 586, 614, 623},
    "OPT": {100, 105, 162, 236, 258, 456, 460, 576, 577, 578, 586, 588, 614, 623},
    "IND": {236, 258, 375, 456, 460, 576, 577, 578, 586, 588, 595, 614, 623},
    "CASH": {100, 101, 105, 106, 162, 165, 225, 233, 236, 258, 293, 294, 295, 318, 375, 456, 460, 576, 577, 578}
    | {586, 588, 595, 614, 623},
    "BOND": {100, 101, 105, 106, 162, 236, 258, 375, 456, 576, 577, 578, 586, 588, 595, 614, 623},
    "FUND": {100, 101, 105, 106, 162, 225, 233, 236, 258, 293, 294, 295, 318, 375, 411, 456, 460, 576, 577, 578}
    | {586, 588, 595, 614, 623},
}
# Taken from stocks though it is not in their list.
_UNLISTED = {"STK": {104}, "IND": {104}, "OPT": {104}}

# Ticks that come without a subscription to an exchange's prices.
INDEPENDENT = frozenset({"104", "105", "165", "236", "456"})

_NEWS_OF = re.compile(r"292(?::([A-Za-z-]+(?:\+[A-Za-z-]+)*))?")


class WrongList(ValueError):
    """A list that IBKR refuses, with its sentence."""


@dataclass(frozen=True, slots=True)
class GenericTicks:
    """What one request asks for: numbers, whether headlines and of which providers, whether prices at all."""

    numbers: frozenset[str] = frozenset()
    has_news: bool = False
    providers: frozenset[str] = frozenset()
    is_top_off: bool = False

    @classmethod
    def read(cls, text: str) -> GenericTicks:
        """ "mdoff,292:BRFG,233" as a client sends it."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        news = [found for part in parts if (found := _NEWS_OF.fullmatch(part))]
        providers = {code for found in news if found[1] for code in found[1].split("+")}
        rest = {part for part in parts if not _NEWS_OF.fullmatch(part)}
        return cls(frozenset(rest - {TOP_OFF}), bool(news), frozenset(providers), TOP_OFF in rest)

    def check(self, text: str, listing: Listing) -> None:
        """Raise WrongList when one of them is not of this kind of contract."""
        if not self.numbers <= set(_legal(listing.sec_type)):
            names = ",".join(_named(listing.sec_type))
            kind = listing.sec_type
            raise WrongList(f"Incorrect generic tick list of {text}.  Legal ones for ({kind}) are: {names}")

    def only(self, numbers: Collection[str]) -> GenericTicks:
        """These of them, without prices."""
        return GenericTicks(self.numbers & frozenset(numbers), self.has_news, self.providers, True)


def _legal(sec_type: str) -> Iterable[str]:
    for number, older, _ in _rows(sec_type):
        yield str(number)
        if older:
            yield str(older)
    yield from (str(number) for number in _UNLISTED.get(sec_type, ()))


def _named(sec_type: str) -> Iterable[str]:
    return (f"{number}/{older}({name})" if older else f"{number}({name})" for number, older, name in _rows(sec_type))


def _rows(sec_type: str) -> Iterable[tuple[int, int, str]]:
    return (row for row in _NAMES if row[0] not in _NOT_OF.get(sec_type, set()))
