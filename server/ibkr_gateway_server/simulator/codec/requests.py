"""Clients' requests that carry a contract or an order: the layouts in which every client sends them.

Layouts follow the server version. Spellings differ from client to client and are read leniently. Source: the fields
that ib_insync 0.9.86, ib_async 2.1 and ibapi 10.50 send.
"""

from __future__ import annotations

from collections.abc import Sequence

from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.simulator.wire import Fields

# What placeOrder carries, by name, in the order of the wire; what depends on something is read in between.
_HEAD = (
    *("sec_id_type", "sec_id", "action", "total_quantity", "order_type", "lmt_price", "aux_price", "tif", "oca_group"),
    *("account", "open_close", "origin", "order_ref", "transmit", "parent_id", "block_order", "sweep_to_fill"),
    *("display_size", "trigger_method", "outside_rth", "hidden"),
)
_ALLOCATION = (
    *("shares_allocation", "discretionary_amt", "good_after_time", "good_till_date"),
    *("fa_group", "fa_method", "fa_percentage"),
)
_CLEARING = (
    *("model_code", "short_sale_slot", "designated_location", "exempt_code", "oca_type", "rule_80a"),
    *("settling_firm", "all_or_none", "min_qty", "percent_offset", "e_trade_only", "firm_quote_only", "nbbo_price_cap"),
    *("auction_strategy", "starting_price", "stock_ref_price", "delta", "stock_range_lower", "stock_range_upper"),
    *("override_percentage_constraints", "volatility", "volatility_type"),
    *("delta_neutral_order_type", "delta_neutral_aux_price"),
)
_TRAILING = (
    *("continuous_update", "reference_price_type", "trail_stop_price", "trailing_percent"),
    *("scale_init_level_size", "scale_subs_level_size", "scale_price_increment"),
)
_ROUTING = ("opt_out_smart_routing", "clearing_account", "clearing_intent", "not_held")
_PREVIEW = ("algo_id", "what_if", "order_misc_options", "solicited", "randomize_size", "randomize_price")
_ADJUSTED = (
    *("adjusted_order_type", "trigger_price", "lmt_price_offset", "adjusted_stop_price", "adjusted_stop_limit_price"),
    *("adjusted_trailing_amount", "adjustable_trailing_unit", "ext_operator", "soft_dollar_name", "soft_dollar_value"),
    *("cash_qty", "mifid2_decision_maker", "mifid2_decision_algo", "mifid2_execution_trader"),
    *("mifid2_execution_algo", "dont_use_auto_price_for_hedge", "is_oms_container"),
    *("discretionary_up_to_limit_price", "use_price_mgmt_algo"),
)
# Fields that came one by one, with the server version each came in.
_LATER = (
    (158, ("duration",)),
    (160, ("post_to_ats",)),
    (162, ("auto_cancel_parent",)),
    (166, ("advanced_error_override",)),
    (169, ("manual_order_time",)),
)
_LATEST = (
    (183, ("customer_account",)),
    (184, ("professional_customer",)),
    (189, ("include_overnight",)),
    (192, ("manual_order_indicator",)),
    (199, ("imbalance_only",)),
)
_NO_FA_PROFILE = 177
_PEG_BEST_FIELDS = 170
_RFQ_FIELDS = range(187, 190)
_CANCEL_WITHOUT_VERSION = 192

# Fields of a condition after its type and conjunction: price, time, margin, execution, volume, percent change.
_CONDITION_FIELDS = {1: 5, 3: 2, 4: 2, 5: 3, 6: 4, 7: 4}

# Parts of an order that this gateway does not act upon, by the field that asks for them. An order with one is refused
# by name: working it without would be something else than the client ordered.
_UNSIMULATED = {
    "algo_strategy": "algorithms",
    "hedge_type": "hedging orders",
    "delta_neutral_order_type": "delta neutral orders",
    "adjusted_order_type": "adjusted stops",
    "conditions": "conditions",
    "scale_price_increment": "scale orders",
    "discretionary_amt": "discretionary amounts",
    "cash_qty": "cash quantities",
    "min_qty": "minimum quantities",
    "fa_group": "allocations to groups",
    "percent_offset": "percentage offsets",
}

# Types that some clients spell in one word.
_ORDER_TYPES = {"PEGMKT": "PEG MKT", "PEGMID": "PEG MID", "TRAILLIMIT": "TRAIL LIMIT"}

# As clients spell that a field is not used.
_UNSET = ("", "None", "0", "0.0", "2147483647", "1.7976931348623157e+308", "1.7976931348623157E308")


def read_contract(fields: Fields) -> ContractQuery:
    """The twelve fields of a request's contract."""
    return ContractQuery(
        con_id=fields.integer(),
        symbol=fields.text(),
        sec_type=fields.text(),
        expiry=fields.text(),
        strike=fields.number(),
        right=fields.text(),
        multiplier=fields.text(),
        exchange=fields.text(),
        primary_exchange=fields.text(),
        currency=fields.text(),
        local_symbol=fields.text(),
        trading_class=fields.text(),
    )


def read_cancel(version: int, fields: Fields) -> int:
    """cancelOrder's order id."""
    fields.skip(1 if version < _CANCEL_WITHOUT_VERSION else 0)
    return fields.integer()


def skip_legs(fields: Fields, contract: ContractQuery) -> None:
    """The legs of a combination in a data request."""
    if contract.sec_type == "BAG":
        fields.skip(4 * fields.count())


def read_order(version: int, fields: Fields, contract: ContractQuery) -> Terms:
    """placeOrder's fields after its contract, to the last."""
    raw = _read_raw(version, fields, contract)

    def number(name: str) -> float | None:
        return Fields([raw[name]]).number_or_none()

    def integer(name: str, default: int = 0) -> int:
        return Fields([raw[name]]).integer(default) or default

    def flag(name: str) -> bool:
        return Fields([raw[name]]).flag()

    return Terms(
        action=raw["action"].upper(),
        quantity=number("total_quantity") or 0.0,
        order_type=_ORDER_TYPES.get(raw["order_type"].upper(), raw["order_type"].upper()),
        limit_price=number("lmt_price"),
        aux_price=number("aux_price"),
        tif=raw["tif"].upper(),
        oca_group=raw["oca_group"],
        account=raw["account"],
        order_ref=raw["order_ref"],
        transmit=flag("transmit"),
        parent_id=integer("parent_id"),
        outside_rth=flag("outside_rth"),
        hidden=flag("hidden"),
        display_size=integer("display_size"),
        all_or_none=flag("all_or_none"),
        good_after_time=raw["good_after_time"],
        good_till_date=raw["good_till_date"],
        oca_type=integer("oca_type", 3),
        trail_stop_price=number("trail_stop_price"),
        trailing_percent=number("trailing_percent"),
        limit_price_offset=number("lmt_price_offset"),
        what_if=flag("what_if"),
        model_code=raw["model_code"],
        unsimulated=tuple(meant for name, meant in _UNSIMULATED.items() if raw[name] not in _UNSET),
    )


def _read_raw(version: int, fields: Fields, contract: ContractQuery) -> dict[str, str]:
    """Every field of an order by its name."""
    raw: dict[str, str] = {}

    def take(names: Sequence[str]) -> None:
        raw.update((name, fields.text()) for name in names)

    take(_HEAD)
    if contract.sec_type == "BAG":
        fields.skip(8 * fields.count())
        fields.skip(fields.count())
        fields.pairs()
    take(_ALLOCATION)
    take(("fa_profile",) if version < _NO_FA_PROFILE else ())
    take(_CLEARING)
    fields.skip(8 if raw["delta_neutral_order_type"] else 0)
    take(_TRAILING)
    fields.skip(7 if Fields([raw["scale_price_increment"]]).number() > 0 else 0)
    take(("scale_table", "active_start_time", "active_stop_time", "hedge_type"))
    fields.skip(1 if raw["hedge_type"] else 0)
    take(_ROUTING)
    fields.skip(3 if fields.flag() else 0)
    take(("algo_strategy",))
    if raw["algo_strategy"]:
        fields.pairs()
    take(_PREVIEW)
    order_type = raw["order_type"].upper().replace(" ", "")
    fields.skip(5 if order_type == "PEGBENCH" else 0)
    raw["conditions"] = str(_skip_conditions(fields))
    take(_ADJUSTED)
    for since, names in _LATER:
        take(names if version >= since else ())
    if version >= _PEG_BEST_FIELDS:
        _skip_peg_fields(fields, order_type, contract)
    fields.skip(2 if version in _RFQ_FIELDS else 0)
    for since, names in _LATEST:
        take(names if version >= since else ())
    return raw


def _skip_conditions(fields: Fields) -> int:
    """How many conditions there are."""
    count = fields.count()
    for _ in range(count):
        kind = fields.integer()
        fields.skip(1 + _CONDITION_FIELDS.get(kind, 0))
    fields.skip(2 if count else 0)
    return count


def _skip_peg_fields(fields: Fields, order_type: str, contract: ContractQuery) -> None:
    fields.skip(1 if contract.exchange == "IBKRATS" else 0)
    if order_type == "PEGBEST":
        fields.skip()
        fields.skip(2 if fields.number() == float("inf") else 0)
    elif order_type == "PEGMID":
        fields.skip(2)
