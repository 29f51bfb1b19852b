"""ReferenceDataService."""

from __future__ import annotations

import asyncio

from ibkr_gateway.v1 import reference_data_service_pb2 as pb

from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.listings import Listings
from ibkr_gateway_server.domain.errors import DomainError, Violations
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.rpc import listed, parse, present
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.status import gateway_error

MAX_PATTERN = 100
MAX_WORD = 40
DEFAULT_DAYS = 7
MAX_DAYS = 30


class ReferenceDataServicer:
    """Contracts."""

    def __init__(self, contracts: Contracts, listings: Listings) -> None:
        self._contracts = contracts
        self._listings = listings

    async def ResolveContract(self, request: pb.ResolveContractRequest, _call: Call) -> pb.ResolveContractResponse:
        named = await self._contracts.resolve(parse.one_instrument(request))
        return pb.ResolveContractResponse(instrument=present.instrument(named))

    async def ResolveContracts(self, request: pb.ResolveContractsRequest, call: Call) -> pb.ResolveContractsResponse:
        wanted = parse.instruments(request.instruments)
        results = await asyncio.gather(*(self._result(named, call) for named in wanted))
        return pb.ResolveContractsResponse(results=results)

    async def GetContractDetails(
        self, request: pb.GetContractDetailsRequest, _call: Call
    ) -> pb.GetContractDetailsResponse:
        details = await self._contracts.details(parse.one_instrument(request))
        return pb.GetContractDetailsResponse(details=[listed.contract_details(known) for known in details])

    async def SearchSymbols(self, request: pb.SearchSymbolsRequest, _call: Call) -> pb.SearchSymbolsResponse:
        matches = await self._listings.search(_pattern(request))
        return pb.SearchSymbolsResponse(matches=[listed.symbol_match(match) for match in matches])

    async def ListFutures(self, request: pb.ListFuturesRequest, _call: Call) -> pb.ListFuturesResponse:
        if not request.symbol:
            found = Violations()
            found.add("symbol", "is needed: ES, MES, CL, …")
            found.raise_if_any()
        _check_words(symbol=request.symbol, exchange=request.exchange, currency=request.currency)
        expiries, front, following = await self._contracts.futures(request.symbol, request.exchange, request.currency)
        return pb.ListFuturesResponse(
            contracts=[present.instrument(named) for named in expiries],
            front_month=present.instrument(front),
            next_month=present.instrument(following) if following else None,
        )

    async def GetOptionChain(self, request: pb.GetOptionChainRequest, _call: Call) -> pb.GetOptionChainResponse:
        underlying = parse.one_instrument(request, "underlying")
        _check_words(exchange=request.exchange)
        chains = await self._listings.option_chain(underlying, request.exchange)
        return pb.GetOptionChainResponse(chains=[listed.option_chain(chain) for chain in chains])

    async def GetTradingSchedule(
        self, request: pb.GetTradingScheduleRequest, _call: Call
    ) -> pb.GetTradingScheduleResponse:
        if not 0 <= request.day_count <= MAX_DAYS:
            found = Violations()
            found.add("day_count", f"{request.day_count} is not 1 to {MAX_DAYS}, or 0 for {DEFAULT_DAYS}")
            found.raise_if_any()
        named = parse.one_instrument(request)
        return listed.trading_schedule(await self._contracts.schedule(named, request.day_count or DEFAULT_DAYS))

    async def GetMarketRule(self, request: pb.GetMarketRuleRequest, _call: Call) -> pb.GetMarketRuleResponse:
        if request.market_rule_id <= 0:
            found = Violations()
            found.add("market_rule_id", "must be positive; ContractDetails.market_rule_ids has those of a contract")
            found.raise_if_any()
        return listed.market_rule(await self._contracts.rules.ladder(request.market_rule_id))

    async def _result(self, named: Instrument, call: Call) -> pb.ResolveResult:
        """One bad symbol spoils nothing: its result is its error."""
        try:
            return pb.ResolveResult(instrument=present.instrument(await self._contracts.resolve(named)))
        except DomainError as error:
            return pb.ResolveResult(error=gateway_error(error, call.correlation_id))


def _check_words(**words: str) -> None:
    """Fields of one word, which go to IBKR as they are. Raises FieldsInvalid."""
    found = Violations()
    for name, word in words.items():
        if len(word) > MAX_WORD or not word.isascii() or not word.isprintable():
            found.add(name, f"must be at most {MAX_WORD} printable ASCII characters")
    found.raise_if_any()


def _pattern(request: pb.SearchSymbolsRequest) -> str:
    """What is searched for. Raises FieldsInvalid."""
    pattern = request.pattern.strip()
    if not 1 <= len(pattern) <= MAX_PATTERN or not pattern.isprintable():
        found = Violations()
        found.add("pattern", f"must have 1 to {MAX_PATTERN} printable characters: AAP, apple")
        found.raise_if_any()
    return pattern
