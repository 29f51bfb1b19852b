"""Connections that fail, break, stall and lie."""

from __future__ import annotations

from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import inject, virtual_broker, virtually


def test_C13_a_link_that_is_lost_and_restored_keeps_its_subscriptions() -> None:
    """1100, then 1102.

    LINK_DOWN and READY again; nothing is asked for again, and the epoch stays.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            epoch = broker.session.epoch
            inject(broker.simulator, Fault.LINK_LOST, duration_s=30.0)
            states = []
            async for status in broker.session.changes():
                states.append(status.state)
                if SessionState.LINK_DOWN in states and status.state is SessionState.READY:
                    break
            assert broker.session.epoch == epoch

    virtually(main)
