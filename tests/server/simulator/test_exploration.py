"""Random programs with random faults are the same to the byte in every process, and end with books that add up."""

from __future__ import annotations

from tests.server.simulator.exploration import replayed

# The whole ten thousand orders are run in CI by `make explore-simulator`.
ORDERS = 1200


def test_a_seed_gives_the_same_bytes_in_every_process_and_another_seed_others() -> None:
    one, other = replayed(1, ORDERS)
    assert one == other
    another, _ = replayed(2, ORDERS // 10)
    assert another["digest"] != one["digest"]
    assert one["orders"] >= ORDERS
    assert one["fills"] > ORDERS // 10
    # Most kinds of faults have been met, and connections have ended and come back.
    assert len(one["faults"]) > 20
    assert one["connections"] > 10
