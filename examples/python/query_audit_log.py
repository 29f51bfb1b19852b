"""Shows what the gateway's record holds: every order, every change of its state, who asked for it; newest first."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from typing import Any

import options
from ibkr_gateway import SyncGateway
from ibkr_gateway.v1.audit_service_pb2 import AuditEvent, QueryAuditEventsRequest

PAGE = 1000
COLUMNS: tuple[str, ...] = (
    "sequence",
    "time",
    "kind",
    "client_order_id",
    "order_id",
    "perm_id",
    "principal",
    "correlation_id",
    "body",
)


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--kind", default="", help='only of this kind: "order.intent", "order.state", "execution"')
    parser.add_argument("--order", default="", help="only of this client_order_id")
    parser.add_argument("--correlation-id", default="", help="only of this call")
    parser.add_argument("--limit", type=int, default=100, help="at most so many")
    options.add_span(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one object a line")
    form.add_argument("--csv", action="store_true", help="CSV with a heading")
    arguments = parser.parse_args()
    request = QueryAuditEventsRequest(
        kind=arguments.kind,
        client_order_id=arguments.order,
        correlation_id=arguments.correlation_id,
        start_time=arguments.since,
        end_time=arguments.until,
    )
    with options.connected(arguments) as gateway:
        rows = [row(event) for event in events(gateway, request, arguments.limit)]
    if arguments.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS)
        writer.writeheader()
        writer.writerows({**each, "body": json.dumps(each["body"])} for each in rows)
    else:
        for each in rows:
            print(json.dumps(each) if arguments.json else line(each))


def events(gateway: SyncGateway, request: QueryAuditEventsRequest, limit: int) -> Iterator[AuditEvent]:
    """Events page by page, at most so many."""
    while limit > 0:
        request.page_size = min(limit, PAGE)
        answer = gateway.audit.QueryAuditEvents(request)
        yield from answer.events
        limit -= len(answer.events)
        request.page_token = answer.next_page_token
        if not request.page_token:
            return


def row(event: AuditEvent) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "time": options.time_text(event.record_time),
        "kind": event.kind,
        "client_order_id": event.client_order_id,
        "order_id": event.order_id,
        "perm_id": event.perm_id,
        "principal": event.principal,
        "correlation_id": event.correlation_id,
        "body": json.loads(event.body_json or "{}"),
    }


def line(row: dict[str, Any]) -> str:
    return f"{row['sequence']:>8}  {row['time']}  {row['kind']:<20}  {row['client_order_id'] or '-'}"


if __name__ == "__main__":
    main()
