// Quotes, an error by its reason, and the story of one order. Usage: npm start [ADDRESS]
import { randomUUID } from "node:crypto";

import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { type Instrument, InstrumentSchema, SecurityType, SessionState, Side } from "../gen/ibkr_gateway/v1/common_pb.js";
import { MarketDataService } from "../gen/ibkr_gateway/v1/market_data_service_pb.js";
import { OrderSpecSchema, OrderState, OrderType, OrdersService } from "../gen/ibkr_gateway/v1/orders_service_pb.js";

const DEADLINE_MS = 30_000;
const ERROR_DOMAIN = "ibkr-gateway";
const FINAL = [OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.SIMULATED];

const address = process.argv[2] ?? "127.0.0.1:50051";
const transport = createGrpcTransport({
  baseUrl: `http://${address}`,
  defaultTimeoutMs: DEADLINE_MS, // of a call that names none of its own; streams below name theirs
  pingIntervalMs: 30_000, // the server allows one every 10 s
});
const marketData = createClient(MarketDataService, transport);
const orders = createClient(OrdersService, transport);

const aapl = stock("AAPL");
const bid = await watchQuotes(marketData, aapl, 5);
await askForWhatIsNotThere(marketData);
await tradeAndCancel(orders, aapl, bid);

function stock(symbol: string): Instrument {
  return create(InstrumentSchema, { symbol, securityType: SecurityType.STK });
}

/** Prints quotes until there are `count`; returns the last bid. A gap, a stale price and a quiet market are told apart. */
async function watchQuotes(client: Client<typeof MarketDataService>, instrument: Instrument, count: number): Promise<number> {
  let bid = 0;
  const request = { instruments: [instrument], heartbeatInterval: { seconds: 5n, nanos: 0 } };
  // 0: no deadline. Leaving the loop cancels the call.
  for await (const { events } of client.streamQuotes(request, { timeoutMs: 0 })) {
    for (const { event } of events) {
      switch (event.case) {
        case "quote":
          // Absent is unknown: never zero.
          console.log(`quote ${event.value.bidPrice ?? "-"} / ${event.value.askPrice ?? "-"}`);
          bid = event.value.bidPrice ?? bid;
          count -= event.value.bidPrice === undefined ? 0 : 1;
          break;
        case "gap":
          console.log(`gap: no quotes from here on, ${event.value.reason}`);
          break;
        case "resumed":
          console.log("resumed: quotes flow again");
          break;
        case "stale":
          console.log(`stale: the last quote is old, ${event.value.reason}`);
          break;
        case "heartbeat":
          // The stream lives: a market that says nothing now is quiet, as long as the session is READY.
          console.log(`quiet, session ${SessionState[event.value.sessionState]}`);
          break;
        case "error":
          throw new Error(`${event.value.errorCode}: ${event.value.message}`);
      }
    }
    if (count <= 0) {
      return bid;
    }
  }
  throw new Error("the stream ended: connect again");
}

async function askForWhatIsNotThere(client: Client<typeof MarketDataService>): Promise<void> {
  try {
    await client.getQuote({ instrument: stock("NOSUCH") });
  } catch (error) {
    const info = ConnectError.from(error).findDetails(ErrorInfoSchema).find(({ domain }) => domain === ERROR_DOMAIN);
    if (info?.reason !== "CONTRACT_NOT_FOUND") {
      throw error;
    }
    console.log(`error ${info.reason} for ${info.metadata["symbol"]}`);
    return;
  }
  throw new Error("NOSUCH has a quote");
}

async function tradeAndCancel(client: Client<typeof OrdersService>, instrument: Instrument, bid: number): Promise<void> {
  // Decimals are text: a double cannot hold most prices. Half the bid will not fill.
  const order = create(OrderSpecSchema, {
    instrument,
    side: Side.BUY,
    quantity: "1",
    orderType: OrderType.LMT,
    limitPrice: Math.floor(bid / 2).toFixed(2),
  });
  const { preview } = await client.previewOrder({ order });
  console.log(`preview ${preview?.totalNotional?.amount} ${preview?.totalNotional?.currencyCode}, blockers: ${preview?.blockers.length}`);

  // Made and kept before the first try: whatever happens to the call, the same id is the same order.
  const clientOrderId = randomUUID();
  const first = await client.placeOrder({ clientOrderId, order });
  const again = await client.placeOrder({ clientOrderId, order });
  if (first.result?.orderId !== again.result?.orderId) {
    throw new Error("one client_order_id became two orders");
  }
  console.log(`placed ${first.result?.orderId}; the same id again: the same order`);

  // From the beginning of the record, of this order alone; with the last sequence seen a stream goes on after a break.
  for await (const { events } of client.streamOrderEvents({ clientOrderId, resumeAfterSequence: 0n }, { timeoutMs: 0 })) {
    for (const { sequence, occurredTime, event } of events) {
      if (event.case !== "status") {
        continue;
      }
      const state = event.value.state;
      console.log(`event ${sequence} ${occurredTime && timestampDate(occurredTime).toISOString()} ${OrderState[state]}`);
      if (state === OrderState.WORKING) {
        await client.cancelOrder({ order: { key: { case: "clientOrderId", value: clientOrderId } } });
      } else if (state === OrderState.CANCELLED) {
        return;
      } else if (FINAL.includes(state)) {
        throw new Error(`the order ended ${OrderState[state]}`);
      }
    }
  }
  throw new Error("the stream ended: connect again, with the last sequence");
}
