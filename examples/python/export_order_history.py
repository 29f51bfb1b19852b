"""Writes the orders of the gateway's record, oldest first: as CSV, a row for each leg, or as JSON, an object a line."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import options
from ibkr_gateway.v1.audit_service_pb2 import ExportOrdersRequest


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--symbol", default="", help="only of this symbol")
    options.add_span(parser)
    parser.add_argument("--json", action="store_true", help="JSON instead of CSV")
    parser.add_argument("--output", type=Path, help="file to write; without it the output of this program")
    arguments = parser.parse_args()
    request = ExportOrdersRequest(symbol=arguments.symbol, start_time=arguments.since, end_time=arguments.until)
    with options.connected(arguments) as gateway:
        # The pieces in sequence are the file; a piece may end within a character.
        text = b"".join(piece.data for piece in gateway.audit.ExportOrders(request)).decode()
    if arguments.json:
        text = "".join(json.dumps(row) + "\n" for row in csv.DictReader(io.StringIO(text)))
    # A CSV's own line ends are kept as they are.
    opened = arguments.output.open("w", newline="") if arguments.output else nullcontext(sys.stdout)
    with opened as file:
        file.write(text)


if __name__ == "__main__":
    main()
