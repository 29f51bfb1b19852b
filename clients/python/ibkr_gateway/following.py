"""What a stream that is kept for good remembers, asks and says, without a connection: `streams` has both of those.

A lost gateway is told in the contract's own words, as the gateway tells a lost broker: a gap, then resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ibkr_gateway.errors import Exhausted, GatewayError, Unavailable
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb

Told = TypeVar("Told")

FIRST_BACKOFF_S, BACKOFF_LIMIT_S = 0.2, 10.0
# Heartbeats that may be missing before a connection counts as dead, as the contract has it.
MISSED_HEARTBEATS = 2

GATEWAY_LOST = "GATEWAY_DISCONNECTED"
SLOW_CONSUMER = "SLOW_CONSUMER"


class MarketState(StrEnum):
    """How far a quote may be believed."""

    WAITING = "WAITING"
    """Nothing has arrived yet."""
    LIVE = "LIVE"
    """It has just arrived."""
    QUIET = "QUIET"
    """The feed lives and had nothing new to say."""
    STALE = "STALE"
    """It is so old that the feed may be dead; `reason` says why."""
    GAP = "GAP"
    """Quotes are missing: the gateway, the broker or its data is away; `reason` says which."""
    ENDED = "ENDED"
    """There will be none any more; `reason` is the error's."""


@dataclass(frozen=True, slots=True)
class QuoteUpdate:
    """The newest quote of one instrument, and how far it may be believed."""

    instrument: common_pb2.Instrument
    """As it was asked for."""
    state: MarketState = MarketState.WAITING
    reason: str = ""
    """Why it is STALE, GAP or ENDED."""
    quote: market_pb.Quote | None = None
    """The last one, also while the state says that it is old. None: there was none yet."""
    conflated_count: int = 0
    """Quotes that this one has overtaken."""


class Following(ABC, Generic[Told]):
    """What following anything has in common: when to try again, how long to wait, and what a loss is."""

    def __init__(self, heartbeat_s: float) -> None:
        self.heartbeat = Duration()
        self.heartbeat.FromMilliseconds(round(heartbeat_s * 1000))
        self.silence_s = heartbeat_s * (MISSED_HEARTBEATS + 0.5)
        self._failures = 0
        self.gap_since: datetime | None = None

    def reached(self) -> None:
        """Something has come: the next loss is a new one."""
        self._failures = 0

    def backoff_s(self) -> float:
        """How long to wait before the next try."""
        self._failures += 1
        return min(FIRST_BACKOFF_S * 2.0 ** (self._failures - 1), BACKOFF_LIMIT_S)

    @abstractmethod
    def take(self, response: Any) -> list[Told]:
        """What a message of the stream has to tell."""

    def lost(self, error: GatewayError | None) -> list[Told]:
        """What to tell when a stream ended, None: without an error. Raises the error when trying again is no help."""
        if error is not None and not is_passing(error):
            raise error
        if self.gap_since is not None:
            return []
        self.gap_since = datetime.now(UTC)
        return self._gap(error)

    @abstractmethod
    def _gap(self, error: GatewayError | None) -> list[Told]:
        """The gap that begins now, told."""


def is_passing(error: GatewayError) -> bool:
    """Whether a stream that ended so is to be opened again."""
    return isinstance(error, Unavailable) or (isinstance(error, Exhausted) and error.reason == SLOW_CONSUMER)


class OrderFollowing(Following[orders_pb.OrderEvent]):
    """The place in the record, kept over connections."""

    def __init__(self, after: int | None, client_order_id: str, heartbeat_s: float) -> None:
        super().__init__(heartbeat_s)
        self._client_order_id = client_order_id
        self._is_begun = after is not None
        self.cursor = after

    def request(self) -> orders_pb.StreamOrderEventsRequest:
        """The next connection's: open orders at first where no cursor was given, and from the cursor ever after."""
        return orders_pb.StreamOrderEventsRequest(
            resume_after_sequence=self.cursor if self._is_begun else None,
            client_order_id=self._client_order_id,
            heartbeat_interval=self.heartbeat,
        )

    def take(self, response: orders_pb.StreamOrderEventsResponse) -> list[orders_pb.OrderEvent]:
        """The events to tell."""
        self.reached()
        told = []
        if self.gap_since is not None:
            told.append(orders_pb.OrderEvent(resumed=_resumed(self.gap_since, recovered=True)))
            self.gap_since = None
        for event in response.events:
            self.cursor = max(self.cursor or 0, event.sequence)
            # A snapshot that broke off is begun again; once it is whole, events after it are all there is to ask for.
            self._is_begun = self._is_begun or event.HasField("snapshot_end")
            told.append(event)
        return told

    def _gap(self, error: GatewayError | None) -> list[orders_pb.OrderEvent]:
        reason = error.reason if error is not None and error.reason == SLOW_CONSUMER else GATEWAY_LOST
        return [orders_pb.OrderEvent(gap=common_pb2.Gap(reason=reason, start_time=_stamp(self.gap_since)))]


class QuoteFollowing(Following[QuoteUpdate]):
    """The state of every instrument, kept over connections."""

    def __init__(self, instruments: Sequence[common_pb2.Instrument], min_interval_s: float, heartbeat_s: float) -> None:
        super().__init__(heartbeat_s)
        self._min_interval = Duration()
        self._min_interval.FromMilliseconds(round(min_interval_s * 1000))
        self._updates = [QuoteUpdate(instrument) for instrument in instruments]
        self._spoken: set[int] = set()
        """Those that a quote came of since the last heartbeat."""

    def request(self) -> market_pb.StreamQuotesRequest:
        """The next connection's."""
        return market_pb.StreamQuotesRequest(
            instruments=[update.instrument for update in self._updates],
            min_interval=self._min_interval if self._min_interval.ToNanoseconds() else None,
            heartbeat_interval=self.heartbeat,
        )

    def take(self, response: market_pb.StreamQuotesResponse) -> list[QuoteUpdate]:
        """The updates to tell."""
        self.reached()
        self.gap_since = None
        return [update for event in response.events for update in self._read(event)]

    def _gap(self, error: GatewayError | None) -> list[QuoteUpdate]:
        return self._say(-1, MarketState.GAP, GATEWAY_LOST)

    def _read(self, event: market_pb.QuoteEvent) -> list[QuoteUpdate]:
        index = event.instrument_index
        match event.WhichOneof("event"):
            case "quote":
                return self._quote(index, event)
            case "gap":
                return self._say(index, MarketState.GAP, event.gap.reason)
            case "resumed":
                return self._say(index, MarketState.QUIET)
            case "stale":
                return self._say(index, MarketState.STALE, event.stale.reason)
            case "error":
                return self._say(index, MarketState.ENDED, event.error.error_code)
            case "heartbeat":
                return self._heartbeat()
            case _:
                return []

    def _quote(self, index: int, event: market_pb.QuoteEvent) -> list[QuoteUpdate]:
        self._spoken.add(index)
        self._updates[index] = replace(
            self._updates[index],
            state=MarketState.STALE if event.quote.is_stale else MarketState.LIVE,
            reason="",
            quote=event.quote,
            conflated_count=event.conflated_count,
        )
        return [self._updates[index]]

    def _heartbeat(self) -> list[QuoteUpdate]:
        silent = [
            index
            for index, update in enumerate(self._updates)
            if update.state is MarketState.LIVE and index not in self._spoken
        ]
        self._spoken.clear()
        return [update for index in silent for update in self._say(index, MarketState.QUIET)]

    def _say(self, index: int, state: MarketState, reason: str = "") -> list[QuoteUpdate]:
        """A new state of one instrument, or of all (-1) that have not ended."""
        told = []
        for place in range(len(self._updates)) if index < 0 else (index,):
            update = self._updates[place]
            if update.state is not MarketState.ENDED and (update.state, update.reason) != (state, reason):
                self._updates[place] = replace(update, state=state, reason=reason, conflated_count=0)
                told.append(self._updates[place])
        return told


def _stamp(time: datetime | None) -> Timestamp:
    made = Timestamp()
    if time is not None:
        made.FromDatetime(time)
    return made


def _resumed(since: datetime, *, recovered: bool) -> common_pb2.Resumed:
    return common_pb2.Resumed(recovered=recovered, gap_start_time=_stamp(since))
