"""What faults do to the gateway's messages, one connection's worth of it.

Every function takes and gives fields as they are on the wire, so that no encoder knows of faults.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ibkr_gateway_server.simulator.codec.messages import HISTORY_END_APART
from ibkr_gateway_server.simulator.faults.rules import SENTINELS, Fault, Rule
from ibkr_gateway_server.simulator.wire import frame

# No client knows this one: ids end near 110, those of protobuf messages begin at 201.
UNKNOWN_MESSAGE = 199
# A message that waits to be overtaken waits no longer than this.
OVERTAKEN_S = 1.0

_HISTORICAL_DATA = "17"
_BAR_FIELDS = 8
# Where figures stand, by message id. Source: the public clients' decoders.
_FIGURES = {
    "1": (4, 5),
    "2": (4,),
    "21": tuple(range(4, 12)),
    "45": (4,),
    "46": (4,),
    "50": tuple(range(4, 11)),
    "94": (2, 3, 4),
    "95": (2, 3, 4, 5, 6),
    "12": (6, 7),
    "13": (7, 8),
}

Later = Callable[[float, Callable[[], None]], None]


class Broken(Exception):
    """Half a message has been said; the connection breaks. `half` is what was said."""

    def __init__(self, half: bytes) -> None:
        super().__init__()
        self.half = half


class Troubled:
    """The way out of one connection: messages in, frames out, through what goes wrong with them."""

    def __init__(self, later: Later, say: Callable[[bytes], None]) -> None:
        self._later = later
        self._say = say
        self._overtaken: list[bytes] = []

    @property
    def is_waiting(self) -> bool:
        """Whether a message waits to be overtaken."""
        return bool(self._overtaken)

    def pass_on(self, fields: list[str], rule: Rule | None, version: int) -> Iterator[bytes]:
        """Frames to be sent now. Raises Broken when the connection breaks in the middle."""
        fault = rule.fault if rule is not None else None
        if rule is None or fault is None:
            yield frame(fields)
        elif fault is Fault.LOSE_REPLY:
            return
        elif fault is Fault.DELAY_REPLY:
            self._later(rule.delay_s, _saying(self._say, frame(fields)))
            return
        elif fault is Fault.REORDER_REPLY:
            self._overtaken.append(frame(fields))
            self._later(OVERTAKEN_S, self._give_up)
            return
        elif fault is Fault.DUPLICATE_REPLY:
            yield frame(fields)
            yield frame(fields)
        elif fault is Fault.PRECEDE_UNKNOWN:
            yield frame([str(UNKNOWN_MESSAGE), "1", "unknown"])
            yield frame(fields)
        elif fault is Fault.BAD_LENGTH:
            yield struct.pack(">I", rule.number & 0xFFFFFFFF) + frame(fields)[4:]
        elif fault is Fault.RESET_MID_FRAME:
            whole = frame(fields)
            raise Broken(whole[: len(whole) // 2])
        else:
            yield frame(changed(fields, rule, version))
        yield from self._overtaken
        self._overtaken.clear()

    def _give_up(self) -> None:
        """Nothing has overtaken it: it goes out all the same."""
        waiting, self._overtaken = self._overtaken, []
        for each in waiting:
            self._say(each)


def _saying(say: Callable[[bytes], None], data: bytes) -> Callable[[], None]:
    return lambda: say(data)


def changed(fields: list[str], rule: Rule, version: int) -> list[str]:
    """A message with other contents."""
    changed = list(fields)
    if rule.fault is Fault.CORRUPT_FIELD and rule.field is not None and rule.field < len(fields):
        changed[rule.field] = rule.value
    elif rule.fault is Fault.SENTINEL:
        places = _FIGURES.get(fields[0], ()) if rule.field is None else (rule.field,)
        for place in places:
            if place < len(changed):
                changed[place] = SENTINELS[rule.value]
    elif rule.fault in (Fault.ORDER_ID, Fault.ACCOUNTS):
        changed[-1] = str(rule.number) if rule.fault is Fault.ORDER_ID else rule.value
    elif fields[0] == _HISTORICAL_DATA:
        changed = _with_bars(fields, rule.fault, version)
    return changed


def _with_bars(fields: list[str], fault: Fault, version: int) -> list[str]:
    """historicalData whose rows are not as they should be."""
    begin = 3 if version >= HISTORY_END_APART else 5
    rows = [fields[at : at + _BAR_FIELDS] for at in range(begin, len(fields), _BAR_FIELDS)]
    if fault is Fault.DUPLICATE_BARS:
        rows = [row for each in rows for row in (each, each)]
    elif fault is Fault.UNORDERED_BARS:
        rows.reverse()
    elif fault is Fault.BAD_DATE and rows:
        rows[0] = ["20261399 99:99:99 Nowhere/None", *rows[0][1:]]
    return [*fields[: begin - 1], str(len(rows)), *(field for row in rows for field in row)]


def skewed(fields: list[str], skew_s: float) -> list[str]:
    """currentTime from a clock that is off; other messages as they are."""
    if fields[0] == "49":
        return [*fields[:-1], str(int(int(fields[-1]) + skew_s))]
    if fields[0] == "109":
        return [*fields[:-1], str(int(int(fields[-1]) + skew_s * 1000))]
    return fields
