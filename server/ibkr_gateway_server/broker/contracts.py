"""Contracts: from what a caller names to the one contract that IBKR knows, each asked for once a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.answers import DayAnswers
from ibkr_gateway_server.broker.hours import last_day_of, schedule_of, sessions_of
from ibkr_gateway_server.broker.kept_details import KeptDetails
from ibkr_gateway_server.broker.market_rules import MarketRules
from ibkr_gateway_server.broker.numbers import decimal
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.broker.time_zones import zone_of
from ibkr_gateway_server.domain.errors import ContractAmbiguous, ContractNotFound, Violations
from ibkr_gateway_server.domain.instruments import (
    ContractDetails,
    Instrument,
    OptionRight,
    PriceLadder,
    SecurityType,
    TradingSchedule,
)
from ibkr_gateway_server.domain.tallies import UNKNOWN_TIME_ZONES

# Volume in quarterly index futures moves to the next expiry from the Thursday before the week they expire in, which is
# eight days before the last trading day: on that day the front month is already the next one.
ROLL_DAYS = 8

CANDIDATES_SHOWN = 10

# Where a product trades when the caller does not say; IBKR needs an exchange for futures and indices.
_FUTURES_EXCHANGES = {
    **dict.fromkeys(("ES", "MES", "NQ", "MNQ", "RTY", "M2K", "EUR", "GBP", "JPY", "AUD", "CAD", "M6E", "BTC"), "CME"),
    **dict.fromkeys(("YM", "MYM", "ZN", "ZB", "ZF", "ZT", "ZC", "ZS", "ZW"), "CBOT"),
    **dict.fromkeys(("CL", "MCL", "NG", "QM", "RB", "HO", "PL"), "NYMEX"),
    **dict.fromkeys(("GC", "MGC", "SI", "SIL", "HG"), "COMEX"),
    **dict.fromkeys(("VIX", "VXM"), "CFE"),
}
_INDEX_EXCHANGES = {"SPX": "CBOE", "VIX": "CBOE", "NDX": "NASDAQ", "RUT": "RUSSELL", "INDU": "CME"}
_USUAL_EXCHANGES = {
    SecurityType.STK: "SMART",
    SecurityType.OPT: "SMART",
    SecurityType.CASH: "IDEALPRO",
    SecurityType.CRYPTO: "PAXOS",
    SecurityType.CFD: "SMART",
    SecurityType.FUND: "FUNDSERV",
}
_DOLLAR_PLACES = frozenset({*_FUTURES_EXCHANGES.values(), *_INDEX_EXCHANGES.values(), *_USUAL_EXCHANGES.values()})


class Contracts:
    """Resolves instruments. `today` is injected, since expiries and opening hours depend on it.

    What IBKR answers is in `kept` as well, where that is given, and known again after a start on the same day.
    """

    def __init__(
        self,
        session: Session,
        pacer: Pacer,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        kept: KeptDetails | None = None,
    ) -> None:
        self._session = session
        self._pacer = pacer
        self._today = today
        self._details: DayAnswers[Instrument, tuple[ContractDetails, ...]] = DayAnswers(today)
        self._kept = kept
        if kept is not None:
            for wanted, details in kept.read(today()).items():
                self._details.know(wanted, details)
        self.rules = MarketRules(session, pacer, today)

    async def resolve(self, instrument: Instrument) -> Instrument:
        """The one contract it names. Raises FieldsInvalid, ContractNotFound, ContractAmbiguous, Unavailable."""
        return (await self.detail(instrument)).instrument

    def known(self, instrument: Instrument) -> Instrument | None:
        """The one contract it names, where that has been asked for today; None: `resolve` has to. Costs no wait.

        Raises ContractAmbiguous.
        """
        matches = self._details.known(with_usual_places(instrument))
        return self._only(instrument, matches).instrument if matches else None

    async def detail(self, instrument: Instrument) -> ContractDetails:
        """What IBKR knows of the one contract it names."""
        return self._only(instrument, await self.details(instrument))

    def _only(self, instrument: Instrument, matches: tuple[ContractDetails, ...]) -> ContractDetails:
        if len(matches) == 1:
            return matches[0]
        if _names_a_future_by_symbol(instrument) and len({_family(match.instrument) for match in matches}) == 1:
            front, _ = self._front_and_next(matches)
            return front
        raise ContractAmbiguous(instrument.label(), _shown(matches))

    async def details(self, instrument: Instrument) -> tuple[ContractDetails, ...]:
        """Every match, by expiry, strike and con_id; at least one."""
        found = Violations()
        with found.under("instrument") as nested:
            instrument.violations(nested)
        found.raise_if_any()
        wanted = with_usual_places(instrument)
        return await self._details.get(wanted, lambda: self._ask(wanted))

    async def schedule(self, instrument: Instrument, day_count: int) -> TradingSchedule:
        """Its sessions from today at the exchange on, as far as IBKR tells them and at most so many days.

        Raises what `resolve` raises, and NoData where IBKR tells no hours. Which day is today, IBKR's clock says.
        """
        details = await self.detail(instrument)
        now, _ = await self._session.server_time()
        return schedule_of(details, now, day_count)

    async def futures(
        self, symbol: str, exchange: str = "", currency: str = ""
    ) -> tuple[tuple[Instrument, ...], Instrument, Instrument | None]:
        """The expiries of a future, its front month and the next. Raises what `resolve` raises."""
        matches = await self.details(
            Instrument(symbol=symbol, security_type=SecurityType.FUT, exchange=exchange, currency=currency)
        )
        if len({_family(match.instrument) for match in matches}) > 1:
            raise ContractAmbiguous(symbol, _shown(matches))
        front, following = self._front_and_next(matches)
        listed = tuple(match.instrument for match in matches)
        return listed, front.instrument, following.instrument if following else None

    async def ladder(self, instrument: Instrument) -> PriceLadder:
        """The price steps at the instrument's exchange, from its market rule; without one, its minimum tick."""
        details = await self.detail(instrument)
        rules = dict(zip(details.valid_exchanges, details.market_rule_ids, strict=False))
        rule = rules.get(instrument.exchange) or next(iter(details.market_rule_ids), 0)
        if not rule:
            return PriceLadder(((Decimal(0), details.min_tick),))
        return await self.rules.ladder(rule)

    async def until_served(self) -> None:
        """Returns once one can be asked for. Raises SessionEnded, ShuttingDown where none ever can."""
        await self._session.until_served()

    # --- asking --------------------------------------------------------------------------------------------------

    async def _ask(self, wanted: Instrument) -> tuple[ContractDetails, ...]:
        connection = self._session.linked()
        timeout_s = self._session.timings.request_timeout_s
        await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        rows = await connection.ask(
            "reqContractDetails",
            lambda request_id: connection.client.reqContractDetails(request_id, to_contract(wanted)),
            timeout_s=timeout_s,
            about=wanted.label(),
        )
        matches = [_from_details(row) for row in rows]
        if not matches:
            raise ContractNotFound(wanted.symbol, str(wanted.security_type or ""))
        for match in matches:
            if match.time_zone and zone_of(match.time_zone) is None:
                self._session.tallies.add(UNKNOWN_TIME_ZONES)
        details = tuple(sorted(matches, key=_order_of_listing))
        if self._kept is not None:
            self._kept.add(self._today(), wanted, details)
        return details

    def _front_and_next(self, matches: tuple[ContractDetails, ...]) -> tuple[ContractDetails, ContractDetails | None]:
        roll = (self._today() + timedelta(days=ROLL_DAYS)).isoformat()
        active = [match for match in matches if match.instrument.expiry > roll] or list(matches[-1:])
        return active[0], active[1] if len(active) > 1 else None


@lru_cache(maxsize=1024)
def with_usual_places(instrument: Instrument) -> Instrument:
    """The instrument with the exchange and currency that its type usually has, where none is given."""
    if instrument.con_id:
        return instrument
    kind = instrument.security_type
    exchange = instrument.exchange
    if not exchange and kind in (SecurityType.FUT, SecurityType.FOP):
        exchange = _FUTURES_EXCHANGES.get(instrument.symbol, "")
    elif not exchange and kind is SecurityType.IND:
        exchange = _INDEX_EXCHANGES.get(instrument.symbol, "")
    elif not exchange and kind is not None:
        exchange = _USUAL_EXCHANGES.get(kind, "")
    # Elsewhere than in these places the usual currency is another one, and IBKR knows it.
    is_usual = exchange in _DOLLAR_PLACES and not instrument.primary_exchange
    return replace(instrument, exchange=exchange, currency=instrument.currency or ("USD" if is_usual else ""))


def to_contract(instrument: Instrument) -> ib.Contract:
    """The TWS API's contract."""
    return ib.Contract(
        conId=instrument.con_id,
        symbol=instrument.symbol,
        secType=str(instrument.security_type or ""),
        lastTradeDateOrContractMonth=instrument.expiry.replace("-", ""),
        strike=float(instrument.strike or 0),
        right=str(instrument.right or ""),
        multiplier="" if instrument.multiplier is None else f"{instrument.multiplier:f}",
        exchange=instrument.exchange,
        primaryExchange=instrument.primary_exchange,
        currency=instrument.currency,
        localSymbol=instrument.local_symbol,
        tradingClass=instrument.trading_class,
    )


def from_contract(contract: ib.Contract) -> Instrument:
    """Our instrument. TWS says "none" as a strike of 0 and a right of "?" or "0"."""
    kind = contract.secType
    return Instrument(
        con_id=contract.conId,
        symbol=contract.symbol,
        security_type=SecurityType(kind) if kind in SecurityType.__members__ else None,
        exchange=contract.exchange,
        currency=contract.currency,
        primary_exchange=contract.primaryExchange,
        expiry=iso_date(contract.lastTradeDateOrContractMonth),
        strike=decimal(contract.strike) or None,
        right={"C": OptionRight.CALL, "P": OptionRight.PUT}.get(contract.right[:1]),
        multiplier=decimal(contract.multiplier) or None,
        local_symbol=contract.localSymbol,
        trading_class=contract.tradingClass,
    )


def _from_details(details: ib.ContractDetails) -> ContractDetails:
    contract = details.contract or ib.Contract()
    return ContractDetails(
        instrument=from_contract(contract),
        long_name=details.longName,
        min_tick=decimal(details.minTick) or Decimal("0.01"),
        order_types=tuple(kind for kind in details.orderTypes.split(",") if kind),
        valid_exchanges=tuple(exchange for exchange in details.validExchanges.split(",") if exchange),
        market_rule_ids=tuple(int(rule) for rule in details.marketRuleIds.split(",") if rule.isdecimal()),
        time_zone=details.timeZoneId,
        trading_sessions=sessions_of(details.tradingHours, details.timeZoneId),
        regular_sessions=sessions_of(details.liquidHours, details.timeZoneId),
        hours_last_date=_last_day(details),
        min_size=decimal(details.minSize) or Decimal(1),
        size_increment=decimal(details.sizeIncrement) or Decimal(1),
        underlying_con_id=details.underConId,
        industry=details.industry,
        category=details.category,
        stock_type=details.stockType,
        contract_month=iso_date(details.contractMonth),
    )


def _last_day(details: ib.ContractDetails) -> date | None:
    """The last day that both kinds of hours are told of."""
    days = [last_day_of(text, details.timeZoneId) for text in (details.tradingHours, details.liquidHours)]
    told = [day for day in days if day is not None]
    return min(told) if len(told) == len(days) else None


def iso_date(text: str) -> str:
    """YYYYMMDD or YYYYMM as ISO; live gateways append a time and a zone, which are dropped here."""
    digits = text[:8].strip()
    if len(digits) == 8 and digits.isdigit():
        return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    return f"{digits[:4]}-{digits[4:6]}" if len(digits) == 6 and digits.isdigit() else ""


def _names_a_future_by_symbol(instrument: Instrument) -> bool:
    return (
        instrument.security_type is SecurityType.FUT
        and not instrument.con_id
        and not instrument.expiry
        and not instrument.local_symbol
    )


def _family(instrument: Instrument) -> tuple[str, str, Decimal | None, str]:
    """Expiries of one future share these; two futures under one symbol do not (silver of 5000 and of 1000 ounces)."""
    return instrument.exchange, instrument.currency, instrument.multiplier, instrument.trading_class


def _shown(matches: tuple[ContractDetails, ...]) -> str:
    shown = [_candidate(match.instrument) for match in matches[:CANDIDATES_SHOWN]]
    more = len(matches) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _candidate(instrument: Instrument) -> str:
    name = instrument.local_symbol or instrument.label()
    return f"{instrument.con_id} {name} {instrument.primary_exchange or instrument.exchange} {instrument.currency}"


def _order_of_listing(details: ContractDetails) -> tuple[str, Decimal, int]:
    instrument = details.instrument
    return instrument.expiry, instrument.strike or Decimal(0), instrument.con_id
