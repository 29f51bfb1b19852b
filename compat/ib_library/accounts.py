"""The account: balances, positions, P&L."""

from __future__ import annotations

from compat.ib_library.talk import ACCOUNT, Talk, step

HELD = {("AAPL", "STK"), ("SPY", "STK"), ("MES", "FUT")}


@step("account summary")
async def summary(talk: Talk) -> None:
    rows = await talk.ib.accountSummaryAsync()
    values = {row.tag: row for row in rows if row.account == ACCOUNT}
    assert float(values["NetLiquidation"].value) > float(values["AvailableFunds"].value) > 0
    assert values["NetLiquidation"].currency == "USD"
    assert float(values["GrossPositionValue"].value) > 0


@step("account updates")
async def updates(talk: Talk) -> None:
    values = {(value.tag, value.currency): value.value for value in talk.ib.accountValues(ACCOUNT)}
    assert float(values["NetLiquidation", "USD"]) > 0
    assert float(values["TotalCashBalance", "USD"]) > 0
    items = talk.ib.portfolio()
    assert {(item.contract.symbol, item.contract.secType) for item in items} == HELD
    stock = next(item for item in items if item.contract.symbol == "AAPL")
    assert abs(stock.marketValue - stock.position * stock.marketPrice) < 0.01
    assert abs(stock.unrealizedPNL - stock.position * (stock.marketPrice - stock.averageCost)) < 0.01


@step("account updates of a model")
async def updates_multi(talk: Talk) -> None:
    before = len(talk.recorder.errors)
    await talk.ib.reqAccountUpdatesMultiAsync(ACCOUNT, "")
    values = {value.tag: value.value for value in talk.ib.accountValues(ACCOUNT)}
    assert float(values["NetLiquidation"]) > 0
    assert len(talk.recorder.errors) == before


@step("positions")
async def positions(talk: Talk) -> None:
    found = await talk.ib.reqPositionsAsync()
    assert {(position.contract.symbol, position.contract.secType) for position in found} == HELD
    assert {position.account for position in found} == {ACCOUNT}
    future = next(position for position in found if position.contract.secType == "FUT")
    # A future's average cost is of the whole contract.
    assert future.avgCost > 10_000
    assert future.contract.multiplier == "5"


@step("positions of a model")
async def positions_multi(talk: Talk) -> None:
    # Both libraries decode the rows and hand them to nobody: what can be seen is that nothing is warned of, and that a
    # request after it is answered.
    req_id = talk.ib.client.getReqId()
    talk.ib.client.reqPositionsMulti(req_id, ACCOUNT, "")
    assert await talk.ib.reqCurrentTimeAsync()
    talk.ib.client.cancelPositionsMulti(req_id)


@step("P&L")
async def pnl(talk: Talk) -> None:
    whole = talk.ib.reqPnL(ACCOUNT)
    await talk.until("figures", lambda: whole.unrealizedPnL == whole.unrealizedPnL and whole.dailyPnL == whole.dailyPnL)
    talk.ib.cancelPnL(ACCOUNT)
    assert abs(whole.dailyPnL) < 1e6
    assert abs(whole.unrealizedPnL) < 1e6


@step("P&L of a position")
async def pnl_single(talk: Talk) -> None:
    one = talk.ib.reqPnLSingle(ACCOUNT, "", talk.aapl.conId)
    await talk.until("figures", lambda: one.value == one.value)
    talk.ib.cancelPnLSingle(ACCOUNT, "", talk.aapl.conId)
    assert one.position == 100
    assert 100 * 50 < one.value < 100 * 2000
