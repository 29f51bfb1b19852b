"""The import seam: the one place that knows which TWS API library is installed.

ib_async is the maintained continuation of ib_insync under the same class names. Where only ib_insync 0.9.86 is
installed the same broker runs on that. Either serves as codec and transport alone (its Client, Decoder, Contract and
Order); its caches, tickers and its opinion of an order's status are not used, since those guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ib_async as library
    from ib_async.client import Client
else:
    try:
        import ib_async as library
        from ib_async.client import Client
    except ImportError:
        import ib_insync as library
        from ib_insync.client import Client

BarData = library.BarData
CommissionReport = library.CommissionReport
Contract = library.Contract
ContractDetails = library.ContractDetails
Execution = library.Execution
ExecutionFilter = library.ExecutionFilter
Order = library.Order
OrderState = library.OrderState
TagValue = library.TagValue

UNSET_DOUBLE = 1.7976931348623157e308
UNSET_INTEGER = 2147483647

LIBRARY_NAME: str = library.__name__
LIBRARY: str = f"{LIBRARY_NAME} {library.__version__}"

__all__ = [
    "LIBRARY",
    "LIBRARY_NAME",
    "UNSET_DOUBLE",
    "UNSET_INTEGER",
    "BarData",
    "Client",
    "CommissionReport",
    "Contract",
    "ContractDetails",
    "Execution",
    "ExecutionFilter",
    "Order",
    "OrderState",
    "TagValue",
]
