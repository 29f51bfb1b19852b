"""Which scope each RPC needs: one table, which an RPC must be in to be served at all."""

from __future__ import annotations

from collections.abc import Iterable

from ibkr_gateway_server.domain.scopes import Scope


def _service(service: str, scope: Scope | None, rpcs: Iterable[str]) -> dict[str, Scope | None]:
    return {f"/ibkr_gateway.v1.{service}/{rpc}": scope for rpc in rpcs}


SCOPES: dict[str, Scope | None] = {
    # What asks whether the server is there has no token to show.
    **_service("GatewayService", None, ["GetHealth"]),
    **_service(
        "GatewayService",
        Scope.READ,
        [
            "GetServerInfo",
            "GetServerTime",
            "GetTradingStatus",
            "WatchTradingStatus",
            "WatchSession",
            "GetUsage",
            "GetMetrics",
            "ListErrorReasons",
        ],
    ),
    # Whoever may trade may stop; for GLOBAL_CANCEL, which reaches orders of others, the servicer asks for admin.
    **_service("GatewayService", Scope.TRADE, ["HaltTrading"]),
    **_service("GatewayService", Scope.ADMIN, ["ResumeTrading"]),
    **_service(
        "MarketDataService",
        Scope.READ,
        [
            "GetQuote",
            "GetQuotes",
            "StreamQuotes",
            "SubscribeMarketData",
            "GetHistoricalBars",
            "GetHeadTimestamp",
            "StreamHistoricalBars",
            "StreamBars",
            "StreamMarketDepth",
            "StreamTicks",
            "GetMarketDataUsage",
        ],
    ),
    **_service(
        "ReferenceDataService",
        Scope.READ,
        [
            "ResolveContract",
            "ResolveContracts",
            "GetContractDetails",
            "SearchSymbols",
            "ListFutures",
            "GetOptionChain",
            "GetTradingSchedule",
            "GetMarketRule",
        ],
    ),
    **_service(
        "AccountService",
        Scope.READ,
        [
            "ListAccounts",
            "GetAccountSummary",
            "GetAccountValues",
            "GetPositions",
            "GetAccountStatus",
            "GetPnl",
            "StreamAccountSummary",
            "StreamPositions",
            "StreamPnl",
            "ListExecutions",
        ],
    ),
    **_service("OrdersService", Scope.PREVIEW, ["PreviewOrder"]),
    # For orders of others, and for CANCEL_SCOPE_GLOBAL, cancels ask for admin as well.
    **_service(
        "OrdersService",
        Scope.TRADE,
        ["PlaceOrder", "ModifyOrder", "CancelOrder", "CancelOrderSet", "CancelAllOrders"],
    ),
    **_service(
        "OrdersService",
        Scope.READ,
        ["GetOrder", "GetOrderStatus", "GetOrderSetStatus", "ListOpenOrders", "ListOrders", "StreamOrderEvents"],
    ),
    **_service("AuditService", Scope.READ, ["QueryAuditEvents", "ExportOrders", "VerifyAuditChain"]),
    **_service("AuditService", Scope.ADMIN, ["AcceptAuditRollback"]),
    **_service(
        "SimulationService",
        Scope.ADMIN,
        ["SetQuote", "SetScenario", "InjectFault", "AdvanceClock", "GetState", "Reset"],
    ),
}
