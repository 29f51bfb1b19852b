"""What is to go wrong with which messages: rules, each for one kind of message, for so many of them, with some chance.

Requests are clients' messages (3: placeOrder), replies the gateway's (3: orderStatus). The handshake is message 0 of
either. Chance is the seed's: the same messages meet the same faults in every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ibkr_gateway_server.simulator.market import uniform

HANDSHAKE = 0


class OnRequest(StrEnum):
    """What can happen to a request on its way in."""

    LOSE = "lose"
    """It is as if it had not been written: no effect, no reply."""
    DELAY = "delay"
    """It takes effect `delay_s` later: after the client has looked for it in vain."""
    REFUSE = "refuse"
    """It is answered by the error `code` and `text` and has no effect. On message 71 the connection ends."""
    DISCONNECT_BEFORE = "disconnect_before"
    """The connection breaks before it takes effect."""
    DISCONNECT_AFTER = "disconnect_after"
    """It takes effect, and the connection breaks before any reply."""
    FREEZE = "freeze"
    """From now on the gateway neither reads nor writes on this connection, for `delay_s` or for ever (0)."""


class OnReply(StrEnum):
    """What can happen to a reply on its way out."""

    LOSE = "lose"
    """It is not sent."""
    DELAY = "delay"
    """It is sent `delay_s` later."""
    DUPLICATE = "duplicate"
    """It is sent twice."""
    REORDER = "reorder"
    """The message after it goes first; alone, it is sent `delay_s` later (0: half a second)."""
    REPLACE = "replace"
    """Field number `field` (0 is the message id) is `text`: a sentinel, something that cannot be decoded."""
    INSERT = "insert"
    """A message of the fields in `text`, separated by "|", goes before it."""
    BAD_LENGTH = "bad_length"
    """Its length prefix is `code`, as a signed number."""
    CUT = "cut"
    """Its first half is sent, and the connection breaks."""
    CLOSE = "close"
    """It is sent, and the connection ends in good order behind it."""
    REPEAT_ROWS = "repeat_rows"
    """Bars: each one twice."""
    REVERSE_ROWS = "reverse_rows"
    """Bars: the latest first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that goes wrong. Made by `Faults.on_request` and `Faults.on_reply`, where the fields are explained."""

    effect: OnRequest | OnReply
    message_id: int | None
    client_id: int | None
    probability: float
    until: float
    delay_s: float
    code: int
    text: str
    field: int
    number: int


class Faults:
    """The rules in force, the oldest first: the first one that a message meets is the one that happens."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._rules: list[Rule] = []
        # By rule: how often it may still happen, None for ever; and how many messages it has been asked about.
        self._left: dict[int, int | None] = {}
        self._asked: dict[int, int] = {}
        self._number = 0
        self.counts: dict[tuple[str, str], int] = {}
        """How often each effect has happened, by "request" or "reply" and its name."""

    def on_request(
        self,
        message_id: int | None,
        effect: OnRequest,
        *,
        times: int | None = 1,
        probability: float = 1.0,
        until: float = float("inf"),
        delay_s: float = 0.0,
        code: int = 0,
        text: str = "",
        client_id: int | None = None,
    ) -> None:
        """Requests of this kind (None: of every kind), the next `times` of them (None: all) with this probability, meet
        this effect, until a time. Raises ValueError for what makes no sense."""
        self._add(OnRequest(effect), message_id, times, probability, until, delay_s, code, text, 0, client_id)

    def on_reply(
        self,
        message_id: int | None,
        effect: OnReply,
        *,
        times: int | None = 1,
        probability: float = 1.0,
        until: float = float("inf"),
        delay_s: float = 0.0,
        code: int = 0,
        text: str = "",
        field: int = 0,
        client_id: int | None = None,
    ) -> None:
        """The same for replies. Raises ValueError for what makes no sense."""
        self._add(OnReply(effect), message_id, times, probability, until, delay_s, code, text, field, client_id)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._rules.clear()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What may still go wrong."""
        return tuple(self._rules)

    def request(self, message_id: int, client_id: int, now: float) -> Rule | None:
        """The rule that a request which has just arrived meets."""
        return self._met(OnRequest, message_id, client_id, now)

    def reply(self, message_id: int, client_id: int, now: float) -> Rule | None:
        """The rule that a reply which is about to be sent meets."""
        return self._met(OnReply, message_id, client_id, now) if self._rules else None

    def _add(
        self,
        effect: OnRequest | OnReply,
        message_id: int | None,
        times: int | None,
        probability: float,
        until: float,
        delay_s: float,
        code: int,
        text: str,
        field: int,
        client_id: int | None,
    ) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times is {times}: it must be at least 1")
        if not 0 < probability <= 1:
            raise ValueError(f"probability is {probability:g}: it must be above 0 and at most 1")
        if delay_s < 0:
            raise ValueError(f"delay_s is {delay_s:g}: it must not be below 0")
        self._number += 1
        self._left[self._number] = times
        rule = Rule(effect, message_id, client_id, probability, until, delay_s, code, text, field, self._number)
        self._rules.append(rule)

    def _met(self, kind: type[OnRequest | OnReply], message_id: int, client_id: int, now: float) -> Rule | None:
        for rule in self._rules:
            if (
                isinstance(rule.effect, kind)
                and rule.message_id in (None, message_id)
                and rule.client_id in (None, client_id)
                and now < rule.until
                and self._is_chosen(rule)
            ):
                return self._happens(rule)
        return None

    def _is_chosen(self, rule: Rule) -> bool:
        asked = self._asked[rule.number] = self._asked.get(rule.number, 0) + 1
        return rule.probability == 1.0 or uniform(self._seed, rule.number, asked) < rule.probability

    def _happens(self, rule: Rule) -> Rule:
        left = self._left[rule.number]
        if left is not None:
            self._left[rule.number] = left = left - 1
            if not left:
                self._rules.remove(rule)
        key = ("request" if isinstance(rule.effect, OnRequest) else "reply", rule.effect.value)
        self.counts[key] = self.counts.get(key, 0) + 1
        return rule


# Refusals as live gateways word them, by name: the code and the text. Source: IBKR's message codes and users' reports.
REFUSALS: Mapping[str, tuple[int, str]] = {
    "read_only_api": (
        321,
        "Error validating request.-'bF' : cause - The API interface is currently in Read-Only mode.",
    ),
    "client_id_in_use": (
        326,
        "Unable to connect as the client id is already in use. Retry with a unique client id.",
    ),
    "duplicate_order_id": (103, "Duplicate order id"),
    "historical_pacing": (
        162,
        "Historical Market Data Service error message:Historical data request pacing violation",
    ),
    "no_historical_permission": (
        162,
        "Historical Market Data Service error message:No market data permissions for NYSE STK",
    ),
    "not_subscribed": (
        354,
        "Requested market data is not subscribed. Check API status by selecting the Account menu then under Management "
        "choose Market Data Subscription Manager and/or availability of delayed data.",
    ),
    "not_subscribed_for_api": (
        10089,
        "Requested market data requires additional subscription for API. See link in 'Market Data Connections' dialog "
        "for more details.",
    ),
    "delayed_not_enabled": (
        10168,
        "Requested market data is not subscribed. Delayed market data is not enabled.",
    ),
    "too_many_lines": (101, "Max number of tickers has been reached"),
    "no_security_definition": (200, "No security definition has been found for the request"),
    "order_rejected": (201, "Order rejected - reason:The order was refused by the exchange."),
    "off_the_step": (110, "The price does not conform to the minimum price variation for this contract."),
}
