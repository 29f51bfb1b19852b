"""Order events as they happen, with the place to go on from."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from ibkr_gateway import SyncGateway
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb

from ibkr_gateway_cli.orders import tell
from ibkr_gateway_cli.session import Options, console, errors_as_exit_codes, gateway

AfterOption = Annotated[
    int | None, typer.Option("--after", min=0, help="Events after this sequence; without it: open orders, then events.")
]


class _Cursor:
    """The last event told, and how many were since the snapshot."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.count = 0
        self._in_snapshot = False

    def take(self, event: pb.OrderEvent) -> None:
        """Count an event that was told."""
        kind = event.WhichOneof("event")
        if kind in ("snapshot_begin", "snapshot_end"):
            self._in_snapshot = kind == "snapshot_begin"
        elif not self._in_snapshot:
            self.count += 1
            # Those that are not of the record have no sequence.
            self.sequence = max(self.sequence, event.sequence)


def watch(
    context: typer.Context,
    client_order_id: Annotated[str, typer.Argument(help="Of this order alone; without it: of all.")] = "",
    after: AfterOption = None,
    count: Annotated[int, typer.Option("--count", min=0, help="End after so many events; 0: never.")] = 0,
) -> None:
    """Follow all orders live, or one, until Ctrl-C; tells at its end where to go on, so that nothing is missed."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json), gateway(options) as connected:
        if client_order_id:
            # One that there is not would be waited for for ever.
            connected.orders.GetOrder(pb.GetOrderRequest(order=pb.OrderKey(client_order_id=client_order_id)))
        cursor = _Cursor(after if after is not None else _newest(connected))
        try:
            request = pb.StreamOrderEventsRequest(resume_after_sequence=after, client_order_id=client_order_id)
            _follow(options, connected, request, cursor, count)
        finally:
            _tell_place(options, client_order_id, cursor.sequence)


def _newest(connected: SyncGateway) -> int:
    """The newest event of the record: where to go on should nothing come at all."""
    found = connected.audit.QueryAuditEvents(audit_pb.QueryAuditEventsRequest(page_size=1)).events
    return found[0].sequence if found else 0


def _follow(
    options: Options, connected: SyncGateway, request: pb.StreamOrderEventsRequest, cursor: _Cursor, count: int
) -> None:
    for response in connected.orders.StreamOrderEvents(request):
        for event in response.events:
            if event.HasField("heartbeat"):
                continue
            tell(options, event)
            cursor.take(event)
            if count and cursor.count >= count:
                return


def _tell_place(options: Options, client_order_id: str, sequence: int) -> None:
    if options.as_json:
        print(json.dumps({"resume_after_sequence": sequence}), file=sys.stderr)
    else:
        order = f"{client_order_id} " if client_order_id else ""
        console(to_stderr=True).print(f"Go on with: ibkr-gateway order watch {order}--after {sequence}", markup=False)
