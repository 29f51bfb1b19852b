"""What happens to a gateway as a whole: its link to IBKR, its data farms, its clients' connections, another session.

Each function is one incident, told to every client as a live gateway tells it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ibkr_gateway_server.simulator import link
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.link import Farm
from ibkr_gateway_server.simulator.requests import depth, market_data
from ibkr_gateway_server.simulator.session import Session

# Source: IBKR's message codes.
PORT_CHANGED = (
    1300,
    "TWS socket port has been reset and this connection is being dropped. Please reconnect on the new port - 4001",
)


def notify(gateway: Gateway, code: int, text: str) -> None:
    """A notice that belongs to no request, and nothing behind it."""
    for session in _sessions(gateway):
        session.notify(code, text)


def lose_link(gateway: Gateway, *, to_server: bool = False, tells_orders: bool = False) -> None:
    """The gateway loses IBKR: 1100, or 2110. No ticks come, nothing that IBKR would answer is answered, orders are lost
    on the way; what happens to working ones is told when the link is back, or at once with `tells_orders`."""
    gateway.link.is_up, gateway.link.tells_orders = False, tells_orders
    notify(gateway, *(link.LOST_TO_SERVER if to_server else link.LOST))


def restore_link(gateway: Gateway, *, data_lost: bool) -> None:
    """IBKR is back: 1101, and subscriptions of market data are gone, or 1102, and they go on."""
    gateway.link.is_up = True
    notify(gateway, *(link.RESTORED_WITHOUT_DATA if data_lost else link.RESTORED))
    for session in _sessions(gateway):
        if data_lost:
            session.feeds.drop_market_data()
        session.tell_waiting()


def lose_farm(gateway: Gateway, farm: Farm) -> None:
    """A data farm is lost: its ticks stop, or its requests are not answered."""
    gateway.link.lost_farms.add(farm)
    notify(gateway, *farm.lost())


def restore_farm(gateway: Gateway, farm: Farm) -> None:
    """A data farm is back."""
    gateway.link.lost_farms.discard(farm)
    notify(gateway, *farm.found())


def rest_farm(gateway: Gateway, farm: Farm) -> None:
    """A data farm rests until it is needed: a notice only."""
    notify(gateway, *farm.idle())


def compete(gateway: Gateway) -> None:
    """The same login trades elsewhere: 10197 for every live line, and no more ticks of it."""
    for session in _sessions(gateway):
        market_data.revoke(session)


def take_back_trades(gateway: Gateway) -> None:
    """Trades are taken back: 10225 ends bars that go on."""
    for session in _sessions(gateway):
        market_data.bust(session)


def reset_books(gateway: Gateway) -> None:
    """Every book begins anew: 317."""
    for session in _sessions(gateway):
        depth.reset(session)


def break_connections(gateway: Gateway) -> None:
    """Every connection breaks, as in a crash: what was on its way is lost."""
    for session in _sessions(gateway):
        session.abort()


def close_connections(gateway: Gateway) -> None:
    """Every connection ends in good order: what was said before still arrives."""
    for session in _sessions(gateway):
        session.close()


def freeze_connections(gateway: Gateway, seconds: float) -> None:
    """No connection is read or written for so long, as behind a cable that has been pulled."""
    for session in _sessions(gateway):
        session.freeze(seconds)


def change_port(gateway: Gateway) -> None:
    """The port is changed by hand: 1300, and every connection ends."""
    notify(gateway, *PORT_CHANGED)
    close_connections(gateway)


def _sessions(gateway: Gateway) -> Iterator[Session]:
    for listener in list(gateway.sessions):
        if isinstance(listener, Session):
            yield listener
