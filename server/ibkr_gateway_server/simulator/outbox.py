"""What one connection has to say: messages as frames, in the pieces in which they go out, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable

from ibkr_gateway_server.simulator.faults import Faults, OnReply, Rule, spoiled
from ibkr_gateway_server.simulator.wire import frame

# How long a message that is to be overtaken waits for another one.
_OVERTAKEN_S = 0.5


class Outbox:
    """Frames on their way out. `later(delay_s, act)` does something after so many seconds."""

    def __init__(self, faults: Faults, later: Callable[[float, Callable[[], None]], None]) -> None:
        self._faults = faults
        self._later = later
        self._pieces: list[bytes] = []
        self._piece: list[bytes] = []
        self._overtaken: list[bytes] = []
        self.client_id = -1
        self.version = 0
        self.breaks = False
        """True: the connection breaks behind what is in here."""
        self.ends = False
        """True: it ends in good order behind what is in here."""

    def put(self, fields: list[str], message_id: int, now: float) -> None:
        """Say something; all that is said until the next cut goes out in one piece."""
        if self.breaks or self.ends:
            return
        rule = self._faults.reply(message_id, self.client_id, now)
        if rule is None:
            self._add(frame(fields))
        else:
            self._put_wrongly(fields, rule)

    def cut(self) -> None:
        """What is said from here on goes out by itself."""
        if self._piece:
            self._pieces.append(b"".join(self._piece))
            self._piece = []

    def take(self, chunk_bytes: int = 0) -> list[bytes]:
        """What is to be sent; each piece by itself. With `chunk_bytes` none is longer."""
        self.cut()
        pieces, self._pieces = self._pieces, []
        if not chunk_bytes:
            return pieces
        whole = b"".join(pieces)
        return [whole[begin : begin + chunk_bytes] for begin in range(0, len(whole), chunk_bytes)]

    def clear(self) -> None:
        """Nothing of it goes out."""
        self._pieces, self._piece, self._overtaken = [], [], []

    def _add(self, data: bytes) -> None:
        self._piece.append(data)
        if self._overtaken:
            self._piece += self._overtaken
            self._overtaken = []

    def _put_wrongly(self, fields: list[str], rule: Rule) -> None:
        effect = rule.effect
        if effect is OnReply.LOSE:
            return
        data = spoiled(fields, rule, self.version)
        if effect is OnReply.DELAY:
            self._later(rule.delay_s, lambda: self._add(data))
        elif effect is OnReply.REORDER:
            self._overtaken.append(data)
            self._later(rule.delay_s or _OVERTAKEN_S, self._overtake_no_more)
        else:
            self._add(data)
            self.breaks = effect is OnReply.CUT
            self.ends = effect is OnReply.CLOSE

    def _overtake_no_more(self) -> None:
        self._piece += self._overtaken
        self._overtaken = []
