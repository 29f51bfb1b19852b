"""AuditService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ibkr_gateway.v1 import audit_service_pb2 as pb

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import AuditFilter, OrderFilter
from ibkr_gateway_server.rpc import order_csv, parse, present
from ibkr_gateway_server.rpc.calls import Call


class AuditServicer:
    """Reads the record, and has one that is behind its watermark taken as it is."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def QueryAuditEvents(self, request: pb.QueryAuditEventsRequest, _call: Call) -> pb.QueryAuditEventsResponse:
        wanted = AuditFilter(request.kind, request.client_order_id, request.correlation_id, *parse.span(request))
        page = await self._store.query(wanted, parse.page(request.page_size, request.page_token))
        events = [
            pb.AuditEvent(
                sequence=record.sequence,
                record_time=present.time(record.record_time),
                kind=record.kind,
                correlation_id=record.correlation_id,
                client_order_id=record.client_order_id,
                order_id=record.order_id,
                perm_id=record.perm_id,
                body_json=record.body_json,
                principal=record.principal,
                epoch=record.epoch,
            )
            for record in page.items
        ]
        return pb.QueryAuditEventsResponse(events=events, next_page_token=str(page.next_before or ""))

    async def ExportOrders(
        self, request: pb.ExportOrdersRequest, _call: Call
    ) -> AsyncIterator[pb.ExportOrdersResponse]:
        start, end = parse.span(request)
        async for piece in order_csv.pieces(self._store, OrderFilter(request.symbol, (), start, end)):
            yield pb.ExportOrdersResponse(data=piece)

    async def VerifyAuditChain(self, _request: pb.VerifyAuditChainRequest, _call: Call) -> pb.VerifyAuditChainResponse:
        check = await self._store.verify()
        return pb.VerifyAuditChainResponse(
            is_valid=check.is_valid,
            checked_count=check.checked_count,
            first_bad_sequence=check.first_bad_sequence or None,
            watermark_sequence=check.watermark_sequence,
        )

    async def AcceptAuditRollback(
        self, request: pb.AcceptAuditRollbackRequest, call: Call
    ) -> pb.AcceptAuditRollbackResponse:
        comment = parse.comment(request.comment)
        lost = await self._store.accept_rollback(request.head_sequence, comment, call.cause)
        return pb.AcceptAuditRollbackResponse(lost_count=lost)
