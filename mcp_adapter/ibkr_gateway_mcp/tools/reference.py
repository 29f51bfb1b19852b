"""Contracts: found by name, described, and their options."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from ibkr_gateway.v1 import reference_data_service_pb2 as pb
from mcp.server.mcpserver import MCPServer
from pydantic import Field

from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.answers.market import (
    ContractDetails,
    ContractDetailsList,
    OptionChain,
    OptionChains,
    SymbolMatch,
    SymbolMatches,
)
from ibkr_gateway_mcp.inputs import DATE, NAME, PRINTABLE, DecimalText, Rows, flat
from ibkr_gateway_mcp.reads import first
from ibkr_gateway_mcp.terms import InstrumentFields
from ibkr_gateway_mcp.tools import READ

SESSIONS_SHOWN = 5
"""Trading sessions of a contract that are answered: a working week."""


def register(server: MCPServer, adapter: Adapter) -> None:
    """Offer the tools of ReferenceDataService."""
    reference = adapter.gateway.reference_data

    @server.tool(title="Search symbols", annotations=READ)
    async def search_symbols(
        pattern: Annotated[
            str, Field(pattern=PRINTABLE, description="Beginning of a symbol, or words of a name: AAP, apple")
        ],
        max_rows: Rows = 20,
    ) -> SymbolMatches:
        """Contracts whose symbol or name begins with a pattern, best first. IBKR takes one search a second."""
        matches = (await reference.SearchSymbols(pb.SearchSymbolsRequest(pattern=pattern))).matches
        shown, note = first(matches, max_rows, "matches", "raise max_rows, or give a longer pattern")
        return SymbolMatches(matches=[SymbolMatch.of(match) for match in shown], note=note)

    @server.tool(title="Contract details", annotations=READ)
    @flat
    async def get_contract_details(instrument: InstrumentFields, max_rows: Rows = 10) -> ContractDetailsList:
        """What IBKR knows of every contract that matches: ids, price steps, order types, exchanges, sessions."""
        request = pb.GetContractDetailsRequest(instrument=instrument.instrument())
        found = (await reference.GetContractDetails(request)).details
        shown, note = first(found, max_rows, "contracts", "raise max_rows, or name the contract more closely")
        for details in shown:
            del details.trading_sessions[SESSIONS_SHOWN:]
            del details.regular_sessions[SESSIONS_SHOWN:]
        return ContractDetailsList(details=[ContractDetails.of(details) for details in shown], note=note)

    @server.tool(title="Option chain", annotations=READ)
    @flat
    async def get_option_chain(
        underlying: InstrumentFields,
        option_exchange: Annotated[
            str, Field(pattern=NAME, description="Exchange of the options; ALL for each of them")
        ] = "SMART",
        expiry_from: Annotated[str | None, Field(pattern=DATE, description="Only from this day or month on")] = None,
        expiry_to: Annotated[str | None, Field(pattern=DATE, description="Only until this day or month")] = None,
        strike_from: DecimalText | None = None,
        strike_to: DecimalText | None = None,
        max_rows: Annotated[Rows, Field(description="Most expiries, and most strikes, of each chain")] = 50,
    ) -> OptionChains:
        """Expiries and strikes of the options on an underlying: a stock, an index, a future."""
        exchange = "" if option_exchange == "ALL" else option_exchange
        # A future's options are listed at its own exchange only.
        exchange = "" if underlying.security_type == "FUT" and exchange == "SMART" else exchange
        request = pb.GetOptionChainRequest(underlying=underlying.instrument(), exchange=exchange)
        chains = (await reference.GetOptionChain(request)).chains
        cut, last = False, expiry_to or "9"
        for chain in chains:
            # A month ends with its last day.
            expiries = [each for each in chain.expiries if each >= (expiry_from or "") and each[: len(last)] <= last]
            strikes = [each for each in chain.strikes if _between(each, strike_from, strike_to)]
            cut = cut or max(len(expiries), len(strikes)) > max_rows
            chain.expiries[:], chain.strikes[:] = expiries[:max_rows], strikes[:max_rows]
        shown, note = first(chains, max_rows, "chains", "name one exchange by option_exchange")
        if cut:
            note = f"Showing {max_rows} expiries and strikes of a chain at most. For the rest: raise max_rows."
        return OptionChains(chains=[OptionChain.of(chain) for chain in shown], note=note)


def _between(strike: str, lowest: str | None, highest: str | None) -> bool:
    value = Decimal(strike)
    return (lowest is None or value >= Decimal(lowest)) and (highest is None or value <= Decimal(highest))
