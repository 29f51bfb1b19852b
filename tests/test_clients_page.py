"""docs/clients.md: what it says of the client and the server is what they do, and what it names is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ibkr_gateway import connection
from ibkr_gateway.v1 import market_data_service_pb2, orders_service_pb2
from ibkr_gateway_server.rpc import server

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "clients.md").read_text()


def test_the_service_config_is_the_python_clients() -> None:
    (found,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(found) == json.loads(dict(connection.OPTIONS)["grpc.service_config"])


def test_the_keepalive_of_both_sides_is_what_they_have() -> None:
    rows = {
        (side, key): int(seconds)
        for side, key, seconds in re.findall(r"^\| (\w+) .*`(grpc\.\S+)`.*?(\d+) s", PAGE, re.M)
    }
    for side, options in (("client", dict(connection.OPTIONS)), ("server", dict(server.OPTIONS))):
        told = {key: seconds * 1000 for (whose, key), seconds in rows.items() if whose == side}
        assert len(told) == 2
        assert told.items() <= options.items()
    assert f"lets go after {dict(server.OPTIONS)['grpc.keepalive_timeout_ms'] // 1000} s" in PAGE
    assert dict(connection.OPTIONS)["grpc.max_receive_message_length"] == 64 * 1024 * 1024


def test_every_event_of_the_table_is_one_of_a_stream() -> None:
    table = PAGE.partition("## Streams")[2].partition("## Numbers")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    streams = (market_data_service_pb2.QuoteEvent, orders_service_pb2.OrderEvent)
    assert named <= {field.name for stream in streams for field in stream.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert len(named) == 9


def test_files_that_are_named_are_there() -> None:
    for path in re.findall(r"`((?:examples|proto)/[\w./-]*)`", PAGE):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path
