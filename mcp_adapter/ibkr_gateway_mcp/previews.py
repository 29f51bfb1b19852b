"""Previews that were shown and may become orders: each is good for one order, once, for a short time."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb

from ibkr_gateway_mcp.refusals import Refusal

PREFIX = "mcp-"
LIFE = timedelta(seconds=60)
"""How long a preview is good for, when the gateway has not set an end."""
LONGEST_LIFE = timedelta(minutes=10)
KEPT = 200


@dataclass(slots=True)
class Preview:
    """A preview, and what has come of it."""

    preview_id: str
    spec: pb.OrderSpec
    shown: pb.OrderPreview
    instrument: common_pb2.Instrument
    """The contract that its terms name."""
    account_id: str
    """The account that its terms name, or the only one."""
    status: gateway_pb.TradingStatus
    """As it was at the preview."""
    expire_time: datetime
    is_approved: bool = False
    is_attempted: bool = False
    """True once it may have been sent."""
    void_because: str = ""
    """Why it can never become an order any more; empty: it can."""

    @property
    def client_order_id(self) -> str:
        """The order's id, derived from the preview's: a repeated call is the same order."""
        return client_order_id(self.preview_id)

    def check(self, now: datetime) -> None:
        """Raises Refusal when it cannot become an order any more."""
        if self.void_because:
            raise Refusal("PREVIEW_EXPIRED", f"the preview is void: {self.void_because}; nothing was sent")
        if now >= self.expire_time:
            raise Refusal("PREVIEW_EXPIRED", f"the preview ended at {self.expire_time:%H:%M:%SZ}; nothing was sent")


class Previews:
    """The previews of one adapter, the newest of them."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept: OrderedDict[str, Preview] = OrderedDict()

    def keep(
        self,
        spec: pb.OrderSpec,
        shown: pb.OrderPreview,
        instrument: common_pb2.Instrument,
        account_id: str,
        status: gateway_pb.TradingStatus,
    ) -> Preview:
        """A new preview of these terms."""
        now = self._now()
        expires = now + LIFE
        if shown.HasField("expire_time"):
            # The gateway's clock may be another; it is the gateway that decides, this only spares a question too late.
            expires = min(max(shown.expire_time.ToDatetime(now.tzinfo), now), now + LONGEST_LIFE)
        made = Preview(secrets.token_hex(16), spec, shown, instrument, account_id, status, expires)
        self._kept[made.preview_id] = made
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made

    def find(self, preview_id: str) -> Preview | None:
        """A preview of this process; None: it is of an earlier one, or none."""
        return self._kept.get(preview_id)


def client_order_id(preview_id: str) -> str:
    """The id of the order that a preview can become."""
    return PREFIX + preview_id
