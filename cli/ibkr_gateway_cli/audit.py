"""The record: query, export, verify, accept a rollback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from ibkr_gateway.v1 import audit_service_pb2 as pb

from ibkr_gateway_cli.session import (
    ERROR,
    Options,
    confirm,
    console,
    errors_as_exit_codes,
    gateway,
    print_json,
)
from ibkr_gateway_cli.times import SinceOption, UntilOption, set_span

audit = typer.Typer(no_args_is_help=True, help="Read, export and check the record of all orders.")

MAX_PAGE = 1000


@audit.command()
def query(
    context: typer.Context,
    kind: Annotated[str, typer.Option(help='Only of this kind: "order.intent".')] = "",
    order: Annotated[str, typer.Option(help="Only of this client_order_id.")] = "",
    call: Annotated[str, typer.Option(help="Only with this correlation id.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
) -> None:
    """Events of the record, newest first."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        request = pb.QueryAuditEventsRequest(kind=kind, client_order_id=order, correlation_id=call)
        set_span(request, since, until)
        events: list[pb.AuditEvent] = []
        with gateway(options) as connected:
            while len(events) < limit:
                request.page_size = min(limit - len(events), MAX_PAGE)
                answer = connected.audit.QueryAuditEvents(request)
                events += answer.events
                request.page_token = answer.next_page_token
                if not request.page_token:
                    break
        if options.as_json:
            for event in events:
                print_json(event)
        else:
            from ibkr_gateway_cli.render import audit_table

            console().print(audit_table(events))


@audit.command()
def export(
    context: typer.Context,
    symbol: Annotated[str, typer.Option(help="Only this symbol.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file to write; without it: stdout.")
    ] = None,
) -> None:
    """All orders as CSV, one row for each leg, oldest first."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        request = pb.ExportOrdersRequest(symbol=symbol)
        set_span(request, since, until)
        with gateway(options) as connected, _target(output) as file:
            for piece in connected.audit.ExportOrders(request):
                file.write(piece.data)


@audit.command()
def verify(context: typer.Context) -> None:
    """Check that no event of the record was changed, removed or slipped in. Exit code 1 when one was."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            found = connected.audit.VerifyAuditChain(pb.VerifyAuditChainRequest())
        is_whole = found.watermark_sequence <= found.checked_count
        if options.as_json:
            print_json(found)
        elif not found.is_valid:
            console().print(f"Event {found.first_bad_sequence} was changed, removed or slipped in.")
        elif not is_whole:
            lost = f"it ends at {found.checked_count} and once had {found.watermark_sequence} events"
            console().print(f"The end of the record is missing: {lost}.")
        else:
            console().print(f"All {found.checked_count} events are as they were written.")
        if not found.is_valid or not is_whole:
            raise typer.Exit(ERROR)


@audit.command("accept-rollback")
def accept_rollback(
    context: typer.Context,
    comment: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a record whose end is missing as it is, so that orders are sent again. Compare with IBKR first."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json), gateway(options) as connected:
        found = connected.audit.VerifyAuditChain(pb.VerifyAuditChainRequest())
        if not found.is_valid:
            bad = f"Event {found.first_bad_sequence} is not as it was written"
            console(to_stderr=True).print(f"{bad}; nothing was done.")
            raise typer.Exit(ERROR)
        if not yes:
            ended = f"The record ends at {found.checked_count} and once had {found.watermark_sequence} events"
            confirm(f"{ended}. Take it as it is?", "Nothing was done")
        request = pb.AcceptAuditRollbackRequest(head_sequence=found.checked_count, comment=comment)
        answer = connected.audit.AcceptAuditRollback(request)
        if options.as_json:
            print_json(answer)
        else:
            console().print(f"The record is taken as it is; {answer.lost_count} events are lost.")


@contextmanager
def _target(output: Path | None) -> Iterator[BinaryIO]:
    """Where the file goes; one that is there is not overwritten. Raises ValueError."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        made = output.open("xb")
    except OSError as error:
        raise ValueError(f"{output} cannot be written: {error.strerror}") from None
    with made:
        yield made
