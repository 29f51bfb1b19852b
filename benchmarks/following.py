"""What is counted of a server whose readers follow ticks: how many of them were told, how old, and at what cost."""

from __future__ import annotations

from benchmarks.processes import Server, watched

UNITS = {
    "delivered": "% of ticks × readers",
    "told": "% with those conflated",
    "server CPU": "µs per update",
    "server core": "% busy",
    "clients' core": "% busy",
    "p50": "ms old",
    "p99": "ms old",
}


def followed(
    kind: str, broker: Server, server: Server, readers: int, seconds: float, *options: object
) -> dict[str, float]:
    """One run of so many readers of one kind of stream.

    An update is a tick that reached a reader; one that was replaced by a newer one before it could be sent counts as
    told when the server says so. What is still under way when counting ends is neither. Where the clients' core is busy
    all the time, it is the clients that were measured.
    """

    def meter() -> dict[str, float]:
        return {"sent": broker.sent(), "cpu": server.cpu_s(), "broker": broker.cpu_s()}

    found = watched("readers", kind, server.port, "--readers", readers, "--seconds", seconds, *options, meter=meter)
    due = found["sent"] * readers
    updates = found["updates"]
    return {
        "delivered": updates / due * 100,
        "told": (updates + found["conflated"]) / due * 100,
        "server CPU": found["cpu"] / max(updates, 1) * 1e6,
        "server core": found["cpu"] / seconds * 100,
        "clients' core": (found["client"] + found["broker"]) / seconds * 100,
        "p50": found["p50"],
        "p99": found["p99"],
    }
