"""The connection and contracts."""

from __future__ import annotations

import threading
import time

from ibapi.contract import Contract

from compat.official.talk import ACCOUNT, CLIENT, WATCHER, Connection, Talk, contract, order, step
from compat.record import LeftOut


@step("connect")
def connect(talk: Talk) -> None:
    talk.api.open(talk.port, CLIENT)
    talk.wait("nextValidId")
    assert talk.api.isConnected()
    # The library loses what it has read when a burst of exactly 4096 bytes, or twice that, is followed by a second of
    # silence. A line that never stops leaves no such second.
    talk.api.reqMktData(1, contract("SPY", "STK", conId=756733), "", False, False, [])


@step("a second client")
def second_client(talk: Talk) -> None:
    talk.watcher.open(talk.port, WATCHER)
    talk.until("its first id", lambda: talk.watcher.told("nextValidId"))
    assert [event.accountsList for event in talk.watcher.told("managedAccounts")] == [ACCOUNT]
    assert talk.api.isConnected()
    talk.watcher.reqMktData(1, contract("SPY", "STK", conId=756733), "", False, False, [])


@step("a client id in use: 326")
def duplicate_client(talk: Talk) -> None:
    other = Connection()
    other.open(talk.port, CLIENT)
    (error,) = talk.until("326", lambda: other.told("error", errorCode=326))
    assert "already in use" in error.errorString
    talk.until("its end", lambda: not other.isConnected())
    assert other.told("nextValidId") == []
    assert talk.api.isConnected()


@step("server version")
def server_version(talk: Talk) -> None:
    assert talk.api.serverVersion() == talk.server_version


@step("next order id")
def next_order_id(talk: Talk) -> None:
    first = talk.api.told("nextValidId")[0].orderId
    assert first >= 1
    talk.api.reqIds(-1)
    assert talk.wait("nextValidId")[0].orderId == first + 1


@step("current time")
def current_time(talk: Talk) -> None:
    talk.api.reqCurrentTime()
    assert abs(talk.wait("currentTime")[0].time - time.time()) < 3600


@step("current time in ms")
def current_time_in_ms(talk: Talk) -> None:
    if talk.server_version < 197:
        raise LeftOut("the client itself refuses it below server version 197")
    talk.api.reqCurrentTimeInMillis()
    assert abs(talk.wait("currentTimeInMillis")[0].timeInMillis / 1000 - time.time()) < 3600


@step("managed accounts")
def managed_accounts(talk: Talk) -> None:
    talk.api.reqManagedAccts()
    assert [event.accountsList for event in talk.wait("managedAccounts")] == [ACCOUNT]


def details(talk: Talk, wanted: Contract, rows: str = "contractDetails") -> list:
    """Details of contracts."""
    found = talk.ask(talk.api.reqContractDetails, wanted, rows=rows, end="contractDetailsEnd")
    return [row.contractDetails for row in found]


@step("details of a stock")
def stock(talk: Talk) -> None:
    (found,) = details(talk, contract("AAPL", "STK"))
    assert (found.contract.conId, found.contract.primaryExchange, found.longName) == (265598, "NASDAQ", "APPLE INC")
    assert (found.minTick, found.stockType, found.marketName) == (0.01, "COMMON", "NMS")
    assert (str(found.minSize), str(found.suggestedSizeIncrement)) == ("0.0001", "100")
    assert len(found.validExchanges.split(",")) == len(found.marketRuleIds.split(","))
    assert "ISIN" in {pair.tag for pair in found.secIdList}
    assert ":" in found.tradingHours


@step("details of futures")
def futures(talk: Talk) -> None:
    found = details(talk, contract("MES", "FUT", exchange="CME"))
    assert len(found) >= 4
    expiries = [each.contract.lastTradeDateOrContractMonth for each in found]
    assert expiries == sorted(expiries)
    assert {each.contract.multiplier for each in found} == {"5"}
    assert {(each.minTick, each.underSymbol, each.underSecType) for each in found} == {(0.25, "MES", "IND")}


@step("details of an option")
def option(talk: Talk) -> None:
    found = near_option(talk)
    assert (found.multiplier, found.right, found.tradingClass) == ("100", "C", "AAPL")
    assert found.localSymbol.startswith("AAPL  ")


@step("details of an index")
def index(talk: Talk) -> None:
    (found,) = details(talk, contract("SPX", "IND", exchange="CBOE"))
    assert (found.contract.conId, found.contract.secType, found.longName) == (416904, "IND", "S&P 500 Stock Index")


@step("details of a currency pair")
def pair(talk: Talk) -> None:
    (found,) = details(talk, contract("EUR", "CASH", exchange="IDEALPRO"))
    assert (found.contract.conId, found.contract.localSymbol, found.minTick) == (12087792, "EUR.USD", 0.00005)


@step("details of a bond")
def bond(talk: Talk) -> None:
    (found,) = details(talk, contract("US-T", "BOND"), rows="bondContractDetails")
    assert (found.contract.secType, found.coupon, found.bondType) == ("BOND", 4.125, "GOVT")
    assert found.maturity == "20341115"


@step("details of a fund")
def fund(talk: Talk) -> None:
    (found,) = details(talk, contract("VTSAX", "FUND", exchange="FUNDSERV"))
    assert (found.contract.secType, found.contract.localSymbol, float(found.minSize)) == ("FUND", "VTSAX", 0.001)
    assert found.fundFamily == ("Vanguard" if talk.server_version >= 179 else "")


@step("details by ISIN")
def by_isin(talk: Talk) -> None:
    (found,) = details(talk, contract("", "", currency="EUR", secIdType="ISIN", secId="DE0007164600"))
    assert (found.contract.symbol, found.contract.currency) == ("SAP", "EUR")


@step("unknown contract: 200", 200)
def unknown_contract(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqContractDetails(req_id, contract("NOSUCH", "STK"))
    error = talk.error(200)
    assert (error.reqId, error.errorString) == (req_id, "No security definition has been found for the request")
    assert error.errorTime == 0 or talk.server_version >= 194


@step("several contracts, ambiguous when ordered: 200", 200)
def ambiguous_contract(talk: Talk) -> None:
    several = contract("MES", "FUT", exchange="CME")
    assert len(details(talk, several)) > 1
    order_id = talk.next_order_id()
    talk.api.placeOrder(order_id, several, order("MKT", quantity=1))
    error = talk.error(200)
    assert error.reqId == order_id
    assert "ambiguous" in error.errorString


@step("matching symbols")
def matching_symbols(talk: Talk) -> None:
    talk.api.reqMatchingSymbols(talk.next_id(), "MSFT")
    first = talk.wait("symbolSamples")[0].contractDescriptions[0].contract
    assert (first.conId, first.symbol, first.currency) == (272093, "MSFT", "USD")


def chains(talk: Talk) -> list:
    """The chains of AAPL's options."""
    end = "securityDefinitionOptionParameterEnd"
    request = talk.api.reqSecDefOptParams
    return talk.ask(request, "AAPL", "", "STK", 265598, rows="securityDefinitionOptionParameter", end=end)


@step("option chain")
def option_chain(talk: Talk) -> None:
    found = chains(talk)
    assert "SMART" in {chain.exchange for chain in found}
    chain = found[0]
    assert (chain.underlyingConId, chain.tradingClass, chain.multiplier) == (265598, "AAPL", "100")
    assert len(chain.expirations) >= 3
    assert len(chain.strikes) >= 21


@step("market rule")
def market_rule(talk: Talk) -> None:
    talk.api.reqMarketRule(26)
    (rule,) = talk.wait("marketRule")
    assert rule.marketRuleId == 26
    assert [(each.lowEdge, each.increment) for each in rule.priceIncrements] == [(0.0, 0.01)]


@step("depth exchanges")
def depth_exchanges(talk: Talk) -> None:
    talk.api.reqMktDepthExchanges()
    found = talk.wait("mktDepthExchanges")[0].depthMktDataDescriptions
    assert ("NASDAQ", "STK", "Deep2") in {(venue.exchange, venue.secType, venue.serviceDataType) for venue in found}


@step("smart components")
def smart_components(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqMktData(req_id, talk.aapl, "", False, False, [])
    parameters = talk.wait("tickReqParams", reqId=req_id)[0]
    talk.api.cancelMktData(req_id)
    talk.api.reqSmartComponents(talk.next_id(), parameters.bboExchange)
    found = talk.wait("smartComponents")[0].smartComponentMap
    assert {part.exchangeLetter for part in found} >= {"N", "P", "Q", "Z"}
    assert len({part.bitNumber for part in found}) == len(found)


@step("disconnect")
def disconnect(talk: Talk) -> None:
    talk.watcher.close()
    talk.api.close()
    assert not talk.api.isConnected()
    assert not talk.watcher.isConnected()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("client ")] == []


def near_option(talk: Talk) -> Contract:
    """A call on AAPL of the next expiry, near the money, as the gateway lists it."""
    chain = chains(talk)[0]
    strike = sorted(chain.strikes)[len(chain.strikes) // 2]
    wanted = contract("AAPL", "OPT", lastTradeDateOrContractMonth=min(chain.expirations), strike=strike, right="C")
    (found,) = details(talk, wanted)
    assert found.contract.strike == strike
    return found.contract
