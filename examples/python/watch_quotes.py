"""Watches quotes for as long as it is let: over lost brokers and restarts of the gateway, and says what is missing."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import aclosing, suppress

import options
from ibkr_gateway import QuoteUpdate, connect, follow_quotes


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("instruments", nargs="+", metavar="INSTRUMENT", help="AAPL, MES:FUT, EUR.USD, or a contract id")
    parser.add_argument("--interval", type=float, default=0.0, metavar="SECONDS", help="least time between two quotes")
    parser.add_argument("--count", type=int, default=0, help="end after so many updates; 0: never")
    parser.add_argument("--json", action="store_true", help="one object a line")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(watch(arguments))


async def watch(arguments: argparse.Namespace) -> None:
    async with (
        connect(arguments.target, token_file=arguments.token_file) as gateway,
        aclosing(follow_quotes(gateway, arguments.instruments, min_interval_s=arguments.interval)) as updates,
    ):
        seen = 0
        async for update in updates:
            print(json.dumps(row(update)) if arguments.json else line(update), flush=True)
            seen += 1
            if seen == arguments.count:
                return


def row(update: QuoteUpdate) -> dict[str, object]:
    quote = update.quote
    return {
        "symbol": update.instrument.symbol or update.instrument.con_id,
        "state": update.state,
        "reason": update.reason,
        "bid": quote.bid_price if quote is not None and quote.HasField("bid_price") else None,
        "ask": quote.ask_price if quote is not None and quote.HasField("ask_price") else None,
        "last": quote.last_price if quote is not None and quote.HasField("last_price") else None,
    }


def line(update: QuoteUpdate) -> str:
    shown = row(update)
    prices = "  ".join("-" if shown[name] is None else str(shown[name]) for name in ("bid", "ask", "last"))
    return f"{shown['symbol']:<8} {shown['state']:<7} {prices}  {shown['reason']}".rstrip()


if __name__ == "__main__":
    main()
