"""Executions: what a trade does to its order, to the account and to who is listening."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ibkr_gateway_server.simulator.commissions import commission
from ibkr_gateway_server.simulator.floor import Floor
from ibkr_gateway_server.simulator.market import QUOTES_PER_S
from ibkr_gateway_server.simulator.matching import Trade
from ibkr_gateway_server.simulator.orders import Execution, Order

# Captured fills that took what was shown say 2, "removed liquidity"; the other code is documented.
_ADDED, _REMOVED = 1, 2


class Fills:
    """Books executions."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    def book(self, order: Order, taken: Trade) -> Execution:
        """Trade this much of an order. Its status is the exchange's to change, and telling is `tell`'s."""
        floor, listing = self._floor, order.listing
        total = order.filled + taken.size
        average = (order.average_price * order.filled + taken.price * taken.size) / total
        # A minimum counts once for an order: captured partial fills after the first report the rest alone.
        fee = round(max(commission(listing, total, average) - order.charged, 0.0), 6)
        signed = taken.size if order.is_buy else -taken.size
        gain = floor.ledgers[order.terms.account].fill(listing, signed, taken.price, fee)
        order.filled, order.average_price, order.last_price = total, average, taken.price
        order.first_price = order.first_price or taken.price
        order.last_quote = int(floor.agenda.now * QUOTES_PER_S)
        order.charged += fee
        execution = Execution(
            order=order,
            execution_id=floor.blotter.next_execution_id(),
            time=floor.agenda.now,
            exchange=taken.venue,
            quantity=taken.size,
            price=taken.price,
            cumulative=total,
            average_price=average,
            last_liquidity=_ADDED if order.is_resting else _REMOVED,
            commission=fee,
            realized_pnl=gain,
        )
        floor.blotter.executions.append(execution)
        return execution

    def tell(self, execution: Execution) -> None:
        """Say it: the execution, the order's state, and a little later its commission."""
        order, audience = execution.order, self._floor.audience
        if order.became_market:
            # Captured: the status of an order that was changed from a limit to a market order overtakes its fill.
            audience.status_changed(order)
            audience.tell(order, lambda session: session.executed(execution))
        else:
            audience.tell(order, lambda session: session.executed(execution))
            audience.order_changed(order)
        self._floor.agenda.later(self._floor.behaviour.acknowledge_s, partial(self._report_commission, execution))
        audience.position_changed(order.terms.account, order.listing)

    def correct(self, execution_id: str, price: float) -> Execution:
        """The exchange corrects a fill's price: the same execution again, its id one higher in the last part.

        Raises LookupError when there is no such execution. Source: TWS API, "Execution corrections"; that an
        orderStatus with the new average follows, and that a later list of executions has both, are guesses.
        """
        floor = self._floor
        base = execution_id.rpartition(".")[0]
        versions = [one for one in floor.blotter.executions if one.execution_id.rpartition(".")[0] == base]
        if not versions or all(one.execution_id != execution_id for one in versions):
            raise LookupError(f"there is no execution {execution_id}")
        wrong = versions[-1]
        order = wrong.order
        ledger = floor.ledgers[order.terms.account]
        signed = wrong.quantity if order.is_buy else -wrong.quantity
        gain = ledger.correct(order.listing, signed, wrong.price, price, wrong.realized_pnl)
        order.average_price += (price - wrong.price) * wrong.quantity / order.filled
        right = replace(
            wrong,
            execution_id=f"{base}.{len(versions) + 1:02d}",
            price=price,
            average_price=order.average_price,
            realized_pnl=gain,
        )
        floor.blotter.executions.append(right)
        floor.audience.tell(order, lambda session: session.executed(right))
        floor.audience.status_changed(order)
        report = partial(floor.audience.tell, order, lambda session: session.commission_reported(right))
        floor.agenda.later(floor.behaviour.acknowledge_s, report)
        floor.audience.position_changed(order.terms.account, order.listing)
        return right

    def _report_commission(self, execution: Execution) -> None:
        """The commission: in the order first, as live gateways repeat it, then on its own."""
        order, audience = execution.order, self._floor.audience
        order.commission = (order.commission or 0.0) + execution.commission
        if order.status in ("Submitted", "Filled"):
            audience.order_changed(order)
        audience.tell(order, lambda session: session.commission_reported(execution))
