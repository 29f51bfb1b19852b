"""What strikes at once: the link and the farms, notices to everyone, ends of connections and of subscriptions."""

from __future__ import annotations

from collections.abc import Callable

from ibkr_gateway_server.simulator.faults import outage
from ibkr_gateway_server.simulator.faults.requests import LIVE_UPDATES_LOST, text_of
from ibkr_gateway_server.simulator.faults.rules import AT_ONCE, Fault, Rule
from ibkr_gateway_server.simulator.feeds.bars import LiveBars, RealTimeBars
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.requests import depth, market_data
from ibkr_gateway_server.simulator.session import Session


def inject(gateway: Gateway, rule: Rule) -> None:
    """Let this go wrong: at once, or when what it is about comes."""
    if rule.fault not in AT_ONCE:
        gateway.faults.add(rule, gateway.now)
        return
    _strike(gateway, rule)
    end = _END.get(rule.fault)
    if rule.duration_s is not None and end is not None:
        gateway.later(rule.duration_s, lambda: end(gateway, rule))


def sessions_of(gateway: Gateway) -> list[Session]:
    """The connections that are on."""
    return [session for session in gateway.sessions if isinstance(session, Session)]


def notify(gateway: Gateway, code: int, text: str) -> None:
    """A notice to every client."""
    for session in sessions_of(gateway):
        session.notify(code, text)


def _strike(gateway: Gateway, rule: Rule) -> None:
    lost, fault = gateway.faults.outage, rule.fault
    if fault is Fault.DISCONNECT:
        for session in sessions_of(gateway):
            session.abort()
    elif fault is Fault.CLOSE:
        for session in sessions_of(gateway):
            session.close()
    elif fault in (Fault.LINK_LOST, Fault.SERVER_LINK_BROKEN):
        lost.link_is_lost = True
        notify(gateway, *(outage.LOST if fault is Fault.LINK_LOST else outage.SERVER_BROKEN))
    elif fault in (Fault.LINK_RESTORED, Fault.LINK_RESTORED_DATA_LOST):
        _restore_link(gateway, loses_data=fault is Fault.LINK_RESTORED_DATA_LOST)
    elif fault is Fault.FARM_BROKEN:
        notify(gateway, *lost.break_farm(rule.value))
    elif fault is Fault.FARM_INACTIVE:
        notify(gateway, *lost.rest_farm(rule.value))
    elif fault is Fault.FARM_CONNECTING:
        notify(gateway, *lost.connect_farm())
    elif fault is Fault.FARM_OK:
        notify(gateway, *lost.mend_farm(rule.value))
    elif fault is Fault.CLOCK_SKEW:
        lost.skew_s = rule.seconds
    elif fault is Fault.PORT_CHANGED:
        text = "TWS socket port has been reset and this connection is being dropped. Please reconnect on the new port"
        for session in sessions_of(gateway):
            session.notify(1300, f"{text} - {rule.number}")
            session.close()
    elif fault is Fault.COMPETING_SESSION:
        lost.live_is_elsewhere = rule.duration_s is not None
        _strike_subscriptions(gateway, lambda session: market_data.revoke(session, rule.times or 1))
    elif fault is Fault.LINE_ERROR:
        text = text_of(rule.code, rule.text)
        _strike_subscriptions(gateway, lambda session: market_data.tell_lines(session, rule.code, text))
    else:
        _strike_subscriptions(gateway, _OF_SUBSCRIPTIONS[fault])


def _strike_subscriptions(gateway: Gateway, act: Callable[[Session], object]) -> None:
    for session in sessions_of(gateway):
        act(session)


def _lose_live_updates(session: Session) -> None:
    for kind in (LiveBars, RealTimeBars):
        for feed in session.feeds.of(kind):
            session.error(feed.req_id, 10182, LIVE_UPDATES_LOST)
            session.feeds.stop(kind, feed.req_id)


_OF_SUBSCRIPTIONS: dict[Fault, Callable[[Session], object]] = {
    Fault.DEPTH_RESET: depth.reset,
    Fault.BUST: market_data.bust,
    Fault.LIVE_UPDATES_LOST: _lose_live_updates,
}


def _restore_link(gateway: Gateway, *, loses_data: bool) -> None:
    """Back: the notice, then what has happened meanwhile."""
    gateway.faults.outage.link_is_lost = False
    notify(gateway, *(outage.DATA_LOST if loses_data else outage.DATA_KEPT))
    for session in sessions_of(gateway):
        if loses_data:
            for kind in outage.MARKET_DATA:
                for feed in session.feeds.of(kind):
                    session.feeds.stop(kind, feed.req_id)
        session.say_held()


def _end_of_link_loss(gateway: Gateway, rule: Rule) -> None:
    if gateway.faults.outage.link_is_lost:
        _restore_link(gateway, loses_data=rule.value == "data_lost")


def _end_of_farm_trouble(gateway: Gateway, rule: Rule) -> None:
    # One that is connecting is the market data farm, whatever value came with it.
    farm = "market" if rule.fault is Fault.FARM_CONNECTING else rule.value
    notify(gateway, *gateway.faults.outage.mend_farm(farm))


def _end_of_competition(gateway: Gateway, _rule: Rule) -> None:
    gateway.faults.outage.live_is_elsewhere = False


def _end_of_skew(gateway: Gateway, _rule: Rule) -> None:
    gateway.faults.outage.skew_s = 0.0


_END: dict[Fault, Callable[[Gateway, Rule], None]] = {
    Fault.LINK_LOST: _end_of_link_loss,
    Fault.SERVER_LINK_BROKEN: _end_of_link_loss,
    Fault.FARM_BROKEN: _end_of_farm_trouble,
    Fault.FARM_INACTIVE: _end_of_farm_trouble,
    Fault.FARM_CONNECTING: _end_of_farm_trouble,
    Fault.COMPETING_SESSION: _end_of_competition,
    Fault.CLOCK_SKEW: _end_of_skew,
}
