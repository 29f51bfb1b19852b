"""What each client request does: one function a message, and the table of them by message id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.requests import accounts, connection, contracts, history, market_data, orders
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

HANDLERS: dict[int, Callable[[Session, Fields], None]] = {
    1: market_data.subscribe,
    2: market_data.cancel,
    3: orders.place,
    4: orders.cancel,
    5: orders.list_own,
    6: accounts.subscribe_updates,
    7: orders.list_executions,
    8: connection.reserve_ids,
    9: contracts.details,
    12: connection.accept,
    13: connection.accept,
    14: connection.accept,
    15: orders.bind_automatically,
    16: orders.list_all,
    17: connection.managed_accounts,
    20: history.bars,
    25: history.cancel_bars,
    49: connection.current_time,
    50: market_data.subscribe_real_time_bars,
    51: market_data.cancel_real_time_bars,
    58: orders.cancel_all,
    59: market_data.choose_type,
    61: accounts.subscribe_positions,
    62: accounts.subscribe_summary,
    63: accounts.cancel_summary,
    64: accounts.cancel_positions,
    74: accounts.subscribe_positions_multi,
    75: accounts.cancel_positions_multi,
    76: accounts.subscribe_updates_multi,
    77: accounts.cancel_updates_multi,
    78: contracts.option_chain,
    79: connection.soft_dollar_tiers,
    80: connection.family_codes,
    81: contracts.matching_symbols,
    85: connection.news_providers,
    87: history.head_timestamp,
    90: connection.accept,
    91: contracts.market_rule,
    92: accounts.subscribe_pnl,
    93: accounts.cancel_pnl,
    94: accounts.subscribe_pnl_single,
    95: accounts.cancel_pnl,
    99: orders.list_completed,
    104: connection.user_info,
    105: connection.current_time_in_millis,
    # Not simulated yet, and their cancels, which have nothing to cancel.
    **dict.fromkeys((10, 18, 19, 21, 22, 24, 54, 56, 82, 83, 84, 86, 88, 96, 97), connection.refuse),
    **dict.fromkeys((11, 23, 55, 57, 89, 98), connection.accept),
}
