"""Replies gone wrong: what is put on the wire in place of a message."""

from __future__ import annotations

import struct

from ibkr_gateway_server.simulator.faults.rules import OnReply, OnRequest, Rule
from ibkr_gateway_server.simulator.wire import frame

# Where the bars of historicalData begin, and how many fields each has; the server version decides the former.
_BARS = "17"
_BAR_FIELDS = 8
_SPAN_UNTIL = 196


def spoiled(fields: list[str], rule: Rule, version: int) -> bytes:
    """The bytes that are sent in place of a message."""
    effect = rule.effect
    if effect is OnReply.DUPLICATE:
        return frame(fields) * 2
    if effect is OnReply.REPLACE:
        return frame(rule.text if place == rule.field else field for place, field in enumerate(fields))
    if effect is OnReply.INSERT:
        return frame(rule.text.split("|")) + frame(fields)
    if effect is OnReply.BAD_LENGTH:
        return struct.pack(">i", rule.code) + frame(fields)[4:]
    if effect is OnReply.CUT:
        whole = frame(fields)
        return whole[: len(whole) // 2]
    if effect in (OnReply.REPEAT_ROWS, OnReply.REVERSE_ROWS) and fields[0] == _BARS:
        return frame(_rows_changed(fields, effect, version))
    return frame(fields)


def _rows_changed(fields: list[str], effect: OnReply | OnRequest, version: int) -> list[str]:
    first = 3 if version >= _SPAN_UNTIL else 5
    head, body = fields[: first - 1], fields[first:]
    rows = [body[place : place + _BAR_FIELDS] for place in range(0, len(body), _BAR_FIELDS)]
    rows = rows[::-1] if effect is OnReply.REVERSE_ROWS else [row for row in rows for _ in range(2)]
    return [*head, str(len(rows)), *(field for row in rows for field in row)]
