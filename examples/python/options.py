"""What the examples share: which gateway, and times as people write them."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway import SyncGateway, connect_sync
from ibkr_gateway.connection import DEFAULT_TARGET


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every example has."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--target", default=DEFAULT_TARGET, help="address of the gateway")
    made.add_argument("--token-file", help="file with the token to show, readable by its owner alone")
    return made


def add_span(made: argparse.ArgumentParser) -> None:
    """Options for a span of time."""
    made.add_argument("--since", type=moment, help="only from this time on: 2026-11-23, or 2026-11-23T14:30; UTC")
    made.add_argument("--until", type=moment, help="only before this time")


def connected(arguments: argparse.Namespace) -> SyncGateway:
    """The gateway that the options name."""
    return connect_sync(arguments.target, token_file=arguments.token_file)


def moment(text: str) -> Timestamp:
    """A time; without a zone it is UTC."""
    time = datetime.fromisoformat(text)
    made = Timestamp()
    made.FromDatetime(time if time.tzinfo else time.replace(tzinfo=UTC))
    return made


def time_text(time: Any) -> str:
    """A timestamp as ISO 8601."""
    return str(time.ToDatetime(UTC).isoformat(timespec="milliseconds"))
