"""What happens in a scenario: each kind of event, and the timeline of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.faults import Rule
from ibkr_gateway_server.simulator.faults.acts import inject, notify
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.simulator.scenario.table import WrongScenario

Jump = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What kind of gateway a scenario begins with. None: as it is."""

    seed: int | None = None
    accounts: tuple[str, ...] = ()
    start: float | None = None
    """Its time, in epoch seconds."""
    behaviour: tuple[tuple[str, Any], ...] = ()

    def applied_to(self, behaviour: Behaviour) -> Behaviour:
        """The habits of the gateway."""
        return replace(behaviour, **dict(self.behaviour))


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """Something goes wrong."""

    rule: Rule

    def act(self, gateway: Gateway, _jump: Jump) -> None:
        inject(gateway, self.rule)


@dataclass(frozen=True, slots=True)
class NoticeEvent:
    """A notice to every client, with no other effect."""

    code: int
    text: str

    def act(self, gateway: Gateway, _jump: Jump) -> None:
        notify(gateway, self.code, self.text)


@dataclass(frozen=True, slots=True)
class QuoteEvent:
    """An instrument's prices are moved."""

    contract: ContractQuery
    bid: float | None
    ask: float | None
    last: float | None

    def act(self, gateway: Gateway, _jump: Jump) -> None:
        (listing, *_) = gateway.catalogue.match(self.contract)
        gateway.market.set_quote(listing, gateway.now, bid=self.bid, ask=self.ask, last=self.last)
        gateway.look_again()


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order is placed by hand in TWS."""

    contract: ContractQuery
    terms: Terms

    def act(self, gateway: Gateway, _jump: Jump) -> None:
        try:
            gateway.place_manually(self.contract, replace(self.terms))
        except OrderRefused:
            # TWS shows a window to whoever sits before it; API clients hear nothing.
            return


@dataclass(frozen=True, slots=True)
class JumpEvent:
    """Time passes at once."""

    seconds: float

    def act(self, _gateway: Gateway, jump: Jump) -> None:
        jump(self.seconds)


@dataclass(frozen=True, slots=True)
class ClearEvent:
    """Nothing that waits goes wrong any more."""

    def act(self, gateway: Gateway, _jump: Jump) -> None:
        gateway.faults.clear()


Happening = FaultEvent | NoticeEvent | QuoteEvent | OrderEvent | JumpEvent | ClearEvent


@dataclass(frozen=True, slots=True)
class Event:
    """What happens, and when."""

    at_s: float
    happening: Happening
    place: str
    """Where it stands in the file."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario."""

    name: str
    gateway: GatewaySettings | None
    events: tuple[Event, ...]

    @property
    def length_s(self) -> float:
        """Seconds until its last event has begun."""
        return max((event.at_s for event in self.events), default=0.0)

    def check(self, gateway: Gateway) -> None:
        """Whether this gateway lists what the events name. Raises WrongScenario."""
        for event in self.events:
            contract = getattr(event.happening, "contract", None)
            if contract is not None and not gateway.catalogue.match(contract):
                raise WrongScenario(f"{event.place}: {contract.symbol} {contract.sec_type} is not listed")

    def begin(self, gateway: Gateway, jump: Jump) -> None:
        """Let the events happen, from the gateway's time on. `jump` moves the clock."""
        for event in self.events:
            gateway.later(event.at_s, _acting(event.happening, gateway, jump))


def _acting(happening: Happening, gateway: Gateway, jump: Jump) -> Callable[[], None]:
    return lambda: happening.act(gateway, jump)
