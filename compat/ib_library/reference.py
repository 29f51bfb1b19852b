"""The connection and contracts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from compat.ib_library.talk import ACCOUNT, CLIENT, IS_IB_ASYNC, WATCHER, Talk, library, order, step
from compat.record import LeftOut


@step("connect")
async def connect(talk: Talk) -> None:
    await talk.ib.connectAsync("127.0.0.1", talk.port, clientId=CLIENT)
    assert talk.ib.isConnected()
    assert {position.contract.symbol for position in talk.ib.positions()} == {"AAPL", "SPY", "MES"}


@step("a second client")
async def second_client(talk: Talk) -> None:
    await talk.watcher.connectAsync("127.0.0.1", talk.port, clientId=WATCHER)
    assert talk.watcher.isConnected()
    assert talk.ib.isConnected()
    assert talk.watcher.managedAccounts() == [ACCOUNT]


# Both libraries are told 326 and wait for their timeout all the same.
@step(
    "a client id in use: 326",
    logs=("Error 326", "Peer closed connection", "API connection failed", "clientId 3 already in use"),
)
async def duplicate_client(talk: Talk) -> None:
    other, codes = library.IB(), list[int]()
    other.errorEvent += lambda _req_id, code, _text, _contract: codes.append(code)
    try:
        await other.connectAsync("127.0.0.1", talk.port, clientId=CLIENT, timeout=0.5)
    except (TimeoutError, ConnectionError):
        pass
    else:
        raise AssertionError("it was let in")
    assert codes == [326]
    assert talk.ib.isConnected()


@step("server version")
def server_version(talk: Talk) -> None:
    assert talk.ib.client.serverVersion() == (178 if IS_IB_ASYNC else 176)


@step("next order id")
async def next_order_id(talk: Talk) -> None:
    first = talk.ib.client.getReqId()
    assert first >= 1
    assert talk.ib.client.getReqId() == first + 1


@step("current time")
async def current_time(talk: Talk) -> None:
    told = await talk.ib.reqCurrentTimeAsync()
    assert abs(told - datetime.now(UTC)) < timedelta(hours=1)


@step("current time in ms")
def current_time_in_ms(_: Talk) -> None:
    raise LeftOut("the library has no such request")


@step("managed accounts")
def managed_accounts(talk: Talk) -> None:
    assert talk.ib.managedAccounts() == [ACCOUNT]


@step("details of a stock")
async def stock(talk: Talk) -> None:
    (found,) = await talk.ib.reqContractDetailsAsync(library.Stock("AAPL", "SMART", "USD"))
    assert (found.contract.conId, found.contract.primaryExchange, found.longName) == (265598, "NASDAQ", "APPLE INC")
    assert (found.minTick, found.stockType, found.marketName) == (0.01, "COMMON", "NMS")
    assert (found.minSize, found.suggestedSizeIncrement) == (0.0001, 100)
    assert len(found.validExchanges.split(",")) == len(found.marketRuleIds.split(","))
    assert "ISIN" in {pair.tag for pair in found.secIdList}
    assert found.tradingSessions()


@step("details of futures")
async def futures(talk: Talk) -> None:
    found = await talk.ib.reqContractDetailsAsync(library.Future("MES", exchange="CME"))
    assert len(found) >= 4
    expiries = [each.contract.lastTradeDateOrContractMonth for each in found]
    assert expiries == sorted(expiries)
    assert {each.contract.multiplier for each in found} == {"5"}
    assert {(each.minTick, each.underSymbol, each.underSecType) for each in found} == {(0.25, "MES", "IND")}


@step("details of an option")
async def option(talk: Talk) -> None:
    found = await near_option(talk)
    assert (found.multiplier, found.right, found.tradingClass) == ("100", "C", "AAPL")
    assert found.localSymbol.startswith("AAPL  ")


@step("details of an index")
async def index(talk: Talk) -> None:
    (found,) = await talk.ib.reqContractDetailsAsync(library.Index("SPX", "CBOE"))
    assert (found.contract.conId, found.contract.secType, found.longName) == (416904, "IND", "S&P 500 Stock Index")


@step("details of a currency pair")
async def pair(talk: Talk) -> None:
    (found,) = await talk.ib.reqContractDetailsAsync(library.Forex("EURUSD"))
    assert (found.contract.conId, found.contract.localSymbol, found.minTick) == (12087792, "EUR.USD", 0.00005)


@step("details of a bond")
def bond(_: Talk) -> None:
    raise LeftOut("the library reads a coupon as a whole number")


@step("details of a fund")
async def fund(talk: Talk) -> None:
    wanted = library.Contract(symbol="VTSAX", secType="FUND", exchange="FUNDSERV", currency="USD")
    (found,) = await talk.ib.reqContractDetailsAsync(wanted)
    assert (found.contract.secType, found.contract.localSymbol, found.minSize) == ("FUND", "VTSAX", 0.001)


@step("details by ISIN")
async def by_isin(talk: Talk) -> None:
    wanted = library.Contract(secIdType="ISIN", secId="DE0007164600", exchange="SMART", currency="EUR")
    (found,) = await talk.ib.reqContractDetailsAsync(wanted)
    assert (found.contract.symbol, found.contract.currency) == ("SAP", "EUR")


@step("unknown contract: 200", 200, logs=("Error 200",))
async def unknown_contract(talk: Talk) -> None:
    assert await talk.ib.reqContractDetailsAsync(library.Stock("NOSUCH", "SMART", "USD")) == []
    assert talk.recorder.errors[0][2] == "No security definition has been found for the request"


@step("several contracts, ambiguous when ordered: 200", 200, logs=("Error 200", "Canceled order: "))
async def ambiguous_contract(talk: Talk) -> None:
    several = library.Future("MES", exchange="CME", currency="USD")
    assert len(await talk.ib.reqContractDetailsAsync(several)) > 1
    trade = talk.ib.placeOrder(several, order("MKT", quantity=1))
    await talk.until_error(200)
    assert "ambiguous" in talk.recorder.errors[0][2]
    assert trade.orderStatus.status == "Cancelled"


@step("matching symbols")
async def matching_symbols(talk: Talk) -> None:
    found = await talk.ib.reqMatchingSymbolsAsync("MSFT")
    assert (found[0].contract.conId, found[0].contract.symbol, found[0].contract.currency) == (272093, "MSFT", "USD")


@step("option chain")
async def option_chain(talk: Talk) -> None:
    chains = await talk.ib.reqSecDefOptParamsAsync("AAPL", "", "STK", 265598)
    assert "SMART" in {chain.exchange for chain in chains}
    chain = chains[0]
    assert (chain.underlyingConId, chain.tradingClass, chain.multiplier) in {
        (265598, "AAPL", "100"),
        ("265598", "AAPL", "100"),
    }
    assert len(chain.expirations) >= 3
    assert len(chain.strikes) >= 21


@step("market rule")
async def market_rule(talk: Talk) -> None:
    assert [(step.lowEdge, step.increment) for step in await talk.ib.reqMarketRuleAsync(26)] == [(0.0, 0.01)]


@step("depth exchanges")
async def depth_exchanges(talk: Talk) -> None:
    found = await talk.ib.reqMktDepthExchangesAsync()
    assert ("NASDAQ", "STK", "Deep2") in {(venue.exchange, venue.secType, venue.serviceDataType) for venue in found}


@step("smart components")
async def smart_components(talk: Talk) -> None:
    ticker = talk.ib.reqMktData(talk.aapl)
    await talk.until("the venues' key", lambda: ticker.bboExchange)
    found = await talk.ib.reqSmartComponentsAsync(ticker.bboExchange)
    talk.ib.cancelMktData(talk.aapl)
    assert {part.exchangeLetter for part in found} >= {"N", "P", "Q", "Z"}
    assert len({part.bitNumber for part in found}) == len(found)


@step("disconnect")
async def disconnect(talk: Talk) -> None:
    talk.watcher.disconnect()
    talk.ib.disconnect()
    await asyncio.sleep(0)
    assert not talk.ib.isConnected()
    assert not talk.watcher.isConnected()


async def near_option(talk: Talk) -> Any:
    """A call on AAPL of the next expiry, near the money, as the gateway lists it."""
    chains = await talk.ib.reqSecDefOptParamsAsync("AAPL", "", "STK", 265598)
    strikes = sorted(chains[0].strikes)
    wanted = library.Option("AAPL", min(chains[0].expirations), strikes[len(strikes) // 2], "C", "SMART")
    (found,) = await talk.ib.reqContractDetailsAsync(wanted)
    assert found.contract.strike == strikes[len(strikes) // 2]
    return found.contract
