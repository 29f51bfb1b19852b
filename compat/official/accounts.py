"""The account: balances, positions, P&L."""

from __future__ import annotations

from compat.official.talk import ACCOUNT, Talk, step

HELD = {("AAPL", "STK"), ("SPY", "STK"), ("MES", "FUT")}


@step("account summary")
def summary(talk: Talk) -> None:
    tags = "NetLiquidation,AvailableFunds,GrossPositionValue,AccountType"
    rows = talk.ask(talk.api.reqAccountSummary, "All", tags, rows="accountSummary", end="accountSummaryEnd")
    talk.api.cancelAccountSummary(rows[0].reqId)
    values = {row.tag: row for row in rows if row.account == ACCOUNT}
    assert sorted(values) == sorted(tags.split(","))
    assert float(values["NetLiquidation"].value) > float(values["AvailableFunds"].value) > 0
    assert (values["NetLiquidation"].currency, values["AccountType"].currency) == ("USD", "")
    assert float(values["GrossPositionValue"].value) > 0


# 2100: the gateway's word when account updates are no longer wanted.
@step("account updates", 2100)
def updates(talk: Talk) -> None:
    talk.api.reqAccountUpdates(True, ACCOUNT)
    assert talk.wait("accountDownloadEnd")[0].accountName == ACCOUNT
    talk.api.reqAccountUpdates(False, ACCOUNT)
    values = {(event.key, event.currency): event.val for event in talk.told("updateAccountValue")}
    assert float(values["NetLiquidation", "USD"]) > 0
    assert float(values["TotalCashBalance", "USD"]) > 0
    items = talk.told("updatePortfolio")
    assert {(item.contract.symbol, item.contract.secType) for item in items} == HELD
    stock = next(item for item in items if item.contract.symbol == "AAPL")
    held = float(stock.position)
    assert abs(stock.marketValue - held * stock.marketPrice) < 0.01
    assert abs(stock.unrealizedPNL - held * (stock.marketPrice - stock.averageCost)) < 0.01
    assert talk.told("updateAccountTime")
    talk.error(2100)


@step("account updates of a model")
def updates_multi(talk: Talk) -> None:
    request = talk.api.reqAccountUpdatesMulti
    rows = talk.ask(request, ACCOUNT, "", False, rows="accountUpdateMulti", end="accountUpdateMultiEnd")
    talk.api.cancelAccountUpdatesMulti(rows[0].reqId)
    values = {row.key: row.value for row in rows}
    assert float(values["NetLiquidation"]) > 0
    assert {(row.account, row.modelCode) for row in rows} == {(ACCOUNT, "")}


@step("positions")
def positions(talk: Talk) -> None:
    talk.api.reqPositions()
    talk.wait("positionEnd")
    talk.api.cancelPositions()
    found = talk.told("position")
    assert {(each.contract.symbol, each.contract.secType) for each in found} == HELD
    assert {each.account for each in found} == {ACCOUNT}
    future = next(each for each in found if each.contract.secType == "FUT")
    # A future's average cost is of the whole contract.
    assert future.avgCost > 10_000
    assert future.contract.multiplier == "5"


@step("positions of a model")
def positions_multi(talk: Talk) -> None:
    rows = talk.ask(talk.api.reqPositionsMulti, ACCOUNT, "", rows="positionMulti", end="positionMultiEnd")
    talk.api.cancelPositionsMulti(rows[0].reqId)
    assert {(row.contract.symbol, row.contract.secType) for row in rows} == HELD
    assert {(row.account, row.modelCode) for row in rows} == {(ACCOUNT, "")}


@step("P&L")
def pnl(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqPnL(req_id, ACCOUNT, "")
    found = talk.wait("pnl", reqId=req_id)[-1]
    talk.api.cancelPnL(req_id)
    assert abs(found.dailyPnL) < 1e6
    assert abs(found.unrealizedPnL) < 1e6


@step("P&L of a position")
def pnl_single(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqPnLSingle(req_id, ACCOUNT, "", talk.aapl.conId)
    found = talk.wait("pnlSingle", reqId=req_id)[-1]
    talk.api.cancelPnLSingle(req_id)
    assert found.pos == 100
    assert 100 * 50 < found.value < 100 * 2000
