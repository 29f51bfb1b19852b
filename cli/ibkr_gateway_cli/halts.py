"""The switch that stops trading."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from ibkr_gateway_cli.session import USAGE, Options, console, errors_as_exit_codes, gateway, print_json

CommentOption = Annotated[str, typer.Option("--comment", help="Why, for the record; at most 256 characters.")]


class Level(StrEnum):
    """How hard to stop."""

    BLOCK_NEW = "block-new"
    CANCEL_OWN = "cancel-own"
    GLOBAL = "global"


_LEVELS = {
    Level.BLOCK_NEW: pb.HALT_LEVEL_BLOCK_NEW,
    Level.CANCEL_OWN: pb.HALT_LEVEL_CANCEL_OWN,
    Level.GLOBAL: pb.HALT_LEVEL_GLOBAL_CANCEL,
}

LevelOption = Annotated[
    Level,
    typer.Option(
        "--level",
        help="block-new: no new orders. cancel-own: and cancel this gateway's. global: and cancel every order of the "
        "login, also those placed in TWS (needs the scope admin).",
    ),
]


def halt(context: typer.Context, level: LevelOption = Level.BLOCK_NEW, comment: CommentOption = "") -> None:
    """Stop trading at once, also over restarts, until resume. Cancels go on."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.gateway.HaltTrading(pb.HaltTradingRequest(level=_LEVELS[level], comment=comment))
        if options.as_json:
            print_json(answer)
            return
        stands = pb.HaltLevel.Name(answer.status.halt_level).removeprefix("HALT_LEVEL_")
        since = answer.status.halt_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")
        console().print(f"halted: {stands} since {since}; cancels requested: {answer.cancel_requested_count}")


def resume(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    comment: CommentOption = "",
) -> None:
    """Release the halt, so that orders are sent again. Needs the scope admin."""
    options: Options = context.obj
    if not yes:
        console(to_stderr=True).print("orders will be sent again; say so by --yes", markup=False)
        raise typer.Exit(USAGE)
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.gateway.ResumeTrading(pb.ResumeTradingRequest(comment=comment))
        if options.as_json:
            print_json(answer)
            return
        console().print("resumed; orders are sent" if answer.status.can_send_orders else "resumed; orders still wait:")
        for blocker in answer.status.blockers:
            console().print(f"  {blocker.reason}: {blocker.message}", markup=False)
