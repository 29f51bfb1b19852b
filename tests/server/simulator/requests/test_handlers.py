"""The table of requests: nothing that a client can send is left without an answer."""

from __future__ import annotations

import inspect
import re

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.requests import HANDLERS

from tests.server.simulator.conftest import NOW, Talk

try:
    from ib_async import client
except ImportError:
    client = pytest.importorskip("ib_insync.client")

# What ibapi 10.50 can send as text and ib_async never does: the verification of a program's second way, and the time
# in milliseconds.
MORE = {72, 73, 105}


def test_every_request_of_the_public_clients_has_a_handler() -> None:
    sent = {int(number) for number in re.findall(r"self\.send\(\s*(\d+)[,)]", inspect.getsource(client))}
    sent |= {int(number) for number in re.findall(r"fields[^=\n]*= \[\s*(\d+),", inspect.getsource(client))}
    assert len(sent) > 75
    assert sent | MORE <= HANDLERS.keys()


@pytest.mark.parametrize("unknown", ["26", "48", "60", "106", "201", "999999999"])
def test_a_request_that_no_client_of_the_protocol_sends_ends_the_connection_with_an_error(unknown: str) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    talk.messages()
    talk.ask(unknown, "1", "2")
    assert [fields[1:3] for fields in talk.messages()] == [["-1", "507"]]
    assert talk.session.is_closed
