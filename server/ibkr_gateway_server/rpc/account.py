"""AccountService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ibkr_gateway.v1 import account_service_pb2 as pb

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.accounts import is_paper_account
from ibkr_gateway_server.domain.audit import ExecutionFilter
from ibkr_gateway_server.domain.errors import AccountNotFound
from ibkr_gateway_server.rpc import parse, present, present_accounts
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.words import account_item, numbered
from ibkr_gateway_server.streams.accounts import AccountHub, PnlView, PositionsView, SummaryView

AboutAccount = (
    pb.GetAccountSummaryRequest
    | pb.GetAccountValuesRequest
    | pb.GetPositionsRequest
    | pb.GetAccountStatusRequest
    | pb.GetPnlRequest
)
MAX_AGE_S = 7 * 86400.0


class AccountServicer:
    """Balances, positions, P&L and executions."""

    def __init__(self, session: Session, accounts: Accounts, store: AuditStore, hub: AccountHub) -> None:
        self._hub = hub
        self._session = session
        self._accounts = accounts
        self._store = store

    async def ListAccounts(self, _request: pb.ListAccountsRequest, _call: Call) -> pb.ListAccountsResponse:
        accounts = [
            pb.Account(account_id=account, is_paper=is_paper_account(account))
            for account in self._session.connection().accounts
        ]
        return pb.ListAccountsResponse(accounts=accounts)

    async def GetAccountSummary(
        self, request: pb.GetAccountSummaryRequest, _call: Call
    ) -> pb.GetAccountSummaryResponse:
        self._refuse_old(request)
        summary = await self._accounts.summary(request.account_id)
        return pb.GetAccountSummaryResponse(
            summary=present_accounts.account_summary(summary, is_stale=self._accounts.is_stale)
        )

    async def GetAccountValues(self, request: pb.GetAccountValuesRequest, _call: Call) -> pb.GetAccountValuesResponse:
        self._refuse_old(request)
        values, as_of_time = await self._accounts.values(request.account_id)
        rows = [pb.AccountValue(tag=value.tag, value=value.value, currency=value.currency) for value in values]
        return pb.GetAccountValuesResponse(
            values=rows, as_of_time=present.time(as_of_time), is_stale=self._accounts.is_stale
        )

    async def GetPositions(self, request: pb.GetPositionsRequest, _call: Call) -> pb.GetPositionsResponse:
        self._refuse_old(request)
        positions, as_of_time = await self._accounts.positions(request.account_id)
        return pb.GetPositionsResponse(
            positions=[present_accounts.position(position) for position in positions],
            as_of_time=present.time(as_of_time),
            is_stale=self._accounts.is_stale,
        )

    async def GetAccountStatus(self, request: pb.GetAccountStatusRequest, _call: Call) -> pb.GetAccountStatusResponse:
        self._refuse_old(request)
        summary = await self._accounts.summary(request.account_id)
        positions, _ = await self._accounts.positions(request.account_id)
        is_stale = self._accounts.is_stale
        return pb.GetAccountStatusResponse(
            summary=present_accounts.account_summary(summary, is_stale=is_stale),
            positions=[present_accounts.position(position) for position in positions],
            is_stale=is_stale,
        )

    async def GetPnl(self, request: pb.GetPnlRequest, _call: Call) -> pb.GetPnlResponse:
        self._refuse_old(request)
        pnl = await self._accounts.pnl(request.account_id)
        return pb.GetPnlResponse(pnl=present_accounts.account_pnl(pnl, is_stale=self._accounts.is_stale))

    async def StreamAccountSummary(
        self, request: pb.StreamAccountSummaryRequest, _call: Call
    ) -> AsyncIterator[pb.StreamAccountSummaryResponse]:
        def view() -> SummaryView:
            return SummaryView(self._accounts, self._accounts.account_id(request.account_id))

        async with self._hub.subscribe(view, parse.heartbeat_s(request)) as batches:
            async for items in numbered(batches):
                yield pb.StreamAccountSummaryResponse(
                    events=[pb.AccountSummaryEvent(sequence=sequence, **account_item(item)) for sequence, item in items]
                )

    async def StreamPositions(
        self, request: pb.StreamPositionsRequest, _call: Call
    ) -> AsyncIterator[pb.StreamPositionsResponse]:
        def view() -> PositionsView:
            return PositionsView(self._accounts, self._accounts.account_id(request.account_id))

        async with self._hub.subscribe(view, parse.heartbeat_s(request)) as batches:
            async for items in numbered(batches):
                yield pb.StreamPositionsResponse(
                    events=[pb.PositionEvent(sequence=sequence, **account_item(item)) for sequence, item in items]
                )

    async def StreamPnl(self, request: pb.StreamPnlRequest, _call: Call) -> AsyncIterator[pb.StreamPnlResponse]:
        def view() -> PnlView:
            account = self._accounts.account_id(request.account_id)
            return PnlView(self._accounts, account, request.include_positions)

        async with self._hub.subscribe(view, parse.heartbeat_s(request)) as batches:
            async for items in numbered(batches):
                yield pb.StreamPnlResponse(
                    events=[pb.PnlEvent(sequence=sequence, **account_item(item)) for sequence, item in items]
                )

    async def ListExecutions(self, request: pb.ListExecutionsRequest, _call: Call) -> pb.ListExecutionsResponse:
        # The record may be read while TWS is away; whose accounts these are is then not known, or as it was.
        known = self._accounts.accounts()
        if request.account_id and known and request.account_id not in known:
            raise AccountNotFound
        start, end = parse.span(request)
        wanted = ExecutionFilter(request.account_id, request.symbol, request.client_order_id, start, end)
        page = await self._store.executions(wanted, parse.page(request.page_size, request.page_token))
        return pb.ListExecutionsResponse(
            executions=[present.execution(fill) for fill in page.items],
            next_page_token=str(page.next_before or ""),
        )

    def _refuse_old(self, request: AboutAccount) -> None:
        """Raises BrokerLinkDown when what is known is older than the caller takes."""
        if request.HasField("max_age"):
            self._accounts.refuse_older_than(parse.seconds(request.max_age, "max_age", 0.0, MAX_AGE_S))
