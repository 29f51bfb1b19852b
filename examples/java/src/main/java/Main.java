import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import ibkr_gateway.v1.Common.Instrument;
import ibkr_gateway.v1.Common.SecurityType;
import ibkr_gateway.v1.Common.Side;
import ibkr_gateway.v1.MarketDataServiceGrpc;
import ibkr_gateway.v1.MarketDataServiceGrpc.MarketDataServiceBlockingStub;
import ibkr_gateway.v1.MarketDataServiceOuterClass.GetQuoteRequest;
import ibkr_gateway.v1.MarketDataServiceOuterClass.Quote;
import ibkr_gateway.v1.MarketDataServiceOuterClass.QuoteEvent;
import ibkr_gateway.v1.MarketDataServiceOuterClass.StreamQuotesRequest;
import ibkr_gateway.v1.MarketDataServiceOuterClass.StreamQuotesResponse;
import ibkr_gateway.v1.OrdersServiceGrpc;
import ibkr_gateway.v1.OrdersServiceGrpc.OrdersServiceBlockingStub;
import ibkr_gateway.v1.OrdersServiceOuterClass.CancelOrderRequest;
import ibkr_gateway.v1.OrdersServiceOuterClass.OrderEvent;
import ibkr_gateway.v1.OrdersServiceOuterClass.OrderKey;
import ibkr_gateway.v1.OrdersServiceOuterClass.OrderSpec;
import ibkr_gateway.v1.OrdersServiceOuterClass.OrderType;
import ibkr_gateway.v1.OrdersServiceOuterClass.PlaceOrderRequest;
import ibkr_gateway.v1.OrdersServiceOuterClass.PreviewOrderRequest;
import ibkr_gateway.v1.OrdersServiceOuterClass.StreamOrderEventsRequest;
import ibkr_gateway.v1.OrdersServiceOuterClass.StreamOrderEventsResponse;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** Quotes, an error by its reason, and the story of one order. Usage: mvn -q compile exec:java -Dexec.args=ADDRESS */
public final class Main {
    private static final int DEADLINE_S = 30;
    private static final String ERROR_DOMAIN = "ibkr-gateway";

    // Reads alone are tried again; an order is repeated by its client_order_id, and by who gave it.
    private static final Map<String, ?> SERVICE_CONFIG = Map.of("methodConfig", List.of(Map.of(
            "name", List.of(Map.of("service", "ibkr_gateway.v1.MarketDataService", "method", "GetQuote")),
            "retryPolicy", Map.of("maxAttempts", 3.0, "initialBackoff", "0.1s", "maxBackoff", "1s",
                    "backoffMultiplier", 2.0, "retryableStatusCodes", List.of("UNAVAILABLE")))));

    private final MarketDataServiceBlockingStub marketData;
    private final OrdersServiceBlockingStub orders;

    private Main(Channel channel) {
        marketData = MarketDataServiceGrpc.newBlockingStub(channel);
        orders = OrdersServiceGrpc.newBlockingStub(channel);
    }

    public static void main(String[] arguments) throws InterruptedException {
        String address = arguments.length > 0 ? arguments[0] : "127.0.0.1:50051";
        // The server allows a ping every 10 s.
        ManagedChannel channel = NettyChannelBuilder.forTarget(address)
                .usePlaintext()
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS)
                .defaultServiceConfig(SERVICE_CONFIG)
                .build();
        try {
            Main main = new Main(channel);
            Instrument aapl = stock("AAPL");
            double bid = within(() -> main.watchQuotes(aapl, 5));
            main.askForWhatIsNotThere();
            String id = main.place(aapl, bid);
            within(() -> main.followUntilCancelled(id));
        } finally {
            channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
        }
    }

    private static Instrument stock(String symbol) {
        return Instrument.newBuilder().setSymbol(symbol).setSecurityType(SecurityType.SECURITY_TYPE_STK).build();
    }

    /** Streams have no deadline: the calls of `work` end with it. */
    private static <T> T within(Supplier<T> work) {
        Context.CancellableContext context = Context.current().withCancellation();
        Context before = context.attach();
        try {
            return work.get();
        } finally {
            context.detach(before);
            context.cancel(null);
        }
    }

    /** Prints quotes until there are `count`; returns the last bid. Tells a gap, a stale price and a quiet market apart. */
    private double watchQuotes(Instrument instrument, int count) {
        StreamQuotesRequest request = StreamQuotesRequest.newBuilder()
                .addInstruments(instrument)
                .setHeartbeatInterval(Duration.newBuilder().setSeconds(5))
                .build();
        Iterator<StreamQuotesResponse> stream = marketData.streamQuotes(request);
        double bid = 0;
        while (count > 0 && stream.hasNext()) {
            for (QuoteEvent event : stream.next().getEventsList()) {
                switch (event.getEventCase()) {
                    case QUOTE -> {
                        Quote quote = event.getQuote();
                        // Absent is unknown: never zero.
                        System.out.println("quote " + (quote.hasBidPrice() ? quote.getBidPrice() : "-")
                                + " / " + (quote.hasAskPrice() ? quote.getAskPrice() : "-"));
                        if (quote.hasBidPrice()) {
                            bid = quote.getBidPrice();
                            count--;
                        }
                    }
                    case GAP -> System.out.println("gap: no quotes from here on, " + event.getGap().getReason());
                    case RESUMED -> System.out.println("resumed: quotes flow again");
                    case STALE -> System.out.println("stale: the last quote is old, " + event.getStale().getReason());
                    // The stream lives: a market that says nothing now is quiet, as long as the session is READY.
                    case HEARTBEAT -> System.out.println("quiet, session " + event.getHeartbeat().getSessionState());
                    case ERROR -> throw new IllegalStateException(event.getError().getMessage());
                    default -> { }
                }
            }
        }
        if (count > 0) {
            throw new IllegalStateException("the stream ended: connect again");
        }
        return bid;
    }

    private void askForWhatIsNotThere() {
        GetQuoteRequest request = GetQuoteRequest.newBuilder().setInstrument(stock("NOSUCH")).build();
        try {
            marketData.withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS).getQuote(request);
        } catch (StatusRuntimeException error) {
            ErrorInfo info = errorInfo(error).orElseThrow(() -> error);
            if (!info.getReason().equals("CONTRACT_NOT_FOUND")) {
                throw error;
            }
            System.out.println("error " + info.getReason() + " for " + info.getMetadataOrThrow("symbol"));
            return;
        }
        throw new IllegalStateException("NOSUCH has a quote");
    }

    /** What the gateway said; empty when the status is not the gateway's, and so says nothing about an order. */
    private static Optional<ErrorInfo> errorInfo(StatusRuntimeException error) {
        Status status = StatusProto.fromThrowable(error);
        if (status == null) {
            return Optional.empty();
        }
        for (Any detail : status.getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                try {
                    ErrorInfo info = detail.unpack(ErrorInfo.class);
                    if (info.getDomain().equals(ERROR_DOMAIN)) {
                        return Optional.of(info);
                    }
                } catch (InvalidProtocolBufferException broken) {
                    throw new IllegalStateException(broken);
                }
            }
        }
        return Optional.empty();
    }

    private String place(Instrument instrument, double bid) {
        // Decimals are text: a double cannot hold most prices. Half the bid will not fill.
        BigDecimal limit = BigDecimal.valueOf(bid / 2).setScale(0, RoundingMode.FLOOR);
        OrderSpec order = OrderSpec.newBuilder()
                .setInstrument(instrument)
                .setSide(Side.SIDE_BUY)
                .setQuantity("1")
                .setOrderType(OrderType.ORDER_TYPE_LMT)
                .setLimitPrice(limit.toPlainString())
                .build();
        OrdersServiceBlockingStub client = orders.withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS);
        var preview = client.previewOrder(PreviewOrderRequest.newBuilder().setOrder(order).build()).getPreview();
        System.out.println("preview " + preview.getTotalNotional().getAmount() + " "
                + preview.getTotalNotional().getCurrencyCode() + ", blockers: " + preview.getBlockersCount());

        // Made and kept before the first try: whatever happens to the call, the same id is the same order.
        String id = UUID.randomUUID().toString();
        PlaceOrderRequest request = PlaceOrderRequest.newBuilder().setClientOrderId(id).setOrder(order).build();
        long first = client.placeOrder(request).getResult().getOrderId();
        long again = client.placeOrder(request).getResult().getOrderId();
        if (first != again) {
            throw new IllegalStateException("one client_order_id became orders " + first + " and " + again);
        }
        System.out.println("placed " + first + "; the same id again: the same order");
        return id;
    }

    /** Cancels the order once it works, and prints what happens to it; returns the last sequence. */
    private long followUntilCancelled(String id) {
        // From the beginning of the record, of this order alone; with the last sequence seen a stream goes on after a break.
        StreamOrderEventsRequest request = StreamOrderEventsRequest.newBuilder()
                .setClientOrderId(id)
                .setResumeAfterSequence(0)
                .build();
        Iterator<StreamOrderEventsResponse> stream = orders.streamOrderEvents(request);
        while (stream.hasNext()) {
            for (OrderEvent event : stream.next().getEventsList()) {
                if (!event.hasStatus()) {
                    continue;
                }
                System.out.println("event " + event.getSequence() + " " + event.getStatus().getState());
                switch (event.getStatus().getState()) {
                    case ORDER_STATE_WORKING -> orders.withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS).cancelOrder(
                            CancelOrderRequest.newBuilder().setOrder(OrderKey.newBuilder().setClientOrderId(id)).build());
                    case ORDER_STATE_CANCELLED -> {
                        return event.getSequence();
                    }
                    case ORDER_STATE_FILLED, ORDER_STATE_REJECTED, ORDER_STATE_SIMULATED ->
                        throw new IllegalStateException("the order ended " + event.getStatus().getState());
                    default -> { }
                }
            }
        }
        throw new IllegalStateException("the stream ended: connect again, with the last sequence");
    }
}
