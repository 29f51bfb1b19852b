"""AuditService."""

from __future__ import annotations

from ibkr_gateway.v1 import audit_service_pb2 as pb

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import AuditFilter
from ibkr_gateway_server.rpc import parse, present
from ibkr_gateway_server.rpc.calls import Call


class AuditServicer:
    """Reads the record."""

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
            )
            for record in page.items
        ]
        return pb.QueryAuditEventsResponse(events=events, next_page_token=str(page.next_before or ""))

    async def VerifyAuditChain(self, _request: pb.VerifyAuditChainRequest, _call: Call) -> pb.VerifyAuditChainResponse:
        check = await self._store.verify()
        return pb.VerifyAuditChainResponse(
            is_valid=check.is_valid,
            checked_count=check.checked_count,
            first_bad_sequence=check.first_bad_sequence or None,
        )
