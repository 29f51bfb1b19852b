"""The tap between a program and the broker: it sees order frames, and is where a program dies before or after one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibkr_gateway_server.simulator.in_memory import Pipe
from ibkr_gateway_server.simulator.virtual_time import VirtualTimeLoop

from tests.reliability.life import OWNER, Life

if TYPE_CHECKING:
    from tests.reliability.world import World

PLACE, CANCEL = b"3", b"4"


class TappedLoop(VirtualTimeLoop):
    """A virtual-time loop whose programs' connections are tapped."""

    world: World

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        pipe, protocol = await super().create_connection(protocol_factory, host, port, **options)
        life = OWNER.get()
        if life is not None:
            life.pipes.append(_Tap(self.world, life, pipe))
            if life.is_dead:
                pipe.abort()
        return pipe, protocol


class _Tap:
    """Stands in a program's socket: sees order frames, and is where a program dies before or after a write."""

    def __init__(self, world: World, life: Life, pipe: Pipe) -> None:
        self._world = world
        self._life = life
        self._pipe = pipe
        self._write = pipe.write
        pipe.write = self._tapped  # type: ignore[method-assign]  # the very instance that the program writes to

    def _tapped(self, data: bytes | bytearray | memoryview) -> None:
        if self._life.is_dead:
            return
        fields = bytes(data)[4:].split(b"\0")
        is_order = fields[0] in (PLACE, CANCEL)
        if is_order:
            self._life.pass_by("before_write")
        if fields[0] == PLACE and self._life.write_fails is not None:
            has_left, self._life.write_fails = self._life.write_fails, None
            self._world.write_failed(has_left=has_left)
            if has_left:
                self._world.saw_written(self._life, fields, bytes(data), is_lost=self._pipe.is_closing())
                self._write(data)
            raise OSError(105, "No buffer space available")
        self._world.saw_written(self._life, fields, bytes(data), is_lost=self._pipe.is_closing())
        self._write(data)
        if is_order:
            self._life.pass_by("after_write")

    def die(self, *, loses_what_it_wrote: bool) -> None:
        """The process is gone: the kernel ends its connection, in one of two ways."""
        if loses_what_it_wrote:
            self._pipe.abort()
        else:
            self._pipe.close()
