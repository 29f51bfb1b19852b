// Quotes, an error by its reason, and the story of one order. Usage: go run . [ADDRESS]
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "ibkr-gateway-example/gen/ibkr_gateway/v1"
)

const (
	deadline    = 30 * time.Second
	errorDomain = "ibkr-gateway"
)

// Reads alone are tried again; an order is repeated by its client_order_id, and by who gave it.
const serviceConfig = `{"methodConfig": [{
	"name": [{"service": "ibkr_gateway.v1.MarketDataService", "method": "GetQuote"}],
	"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]}}]}`

func main() {
	log.SetFlags(0)
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(context.Background(), address); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address string) error {
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// The server allows a ping every 10 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	marketData, orders := pb.NewMarketDataServiceClient(connection), pb.NewOrdersServiceClient(connection)

	aapl := stock("AAPL")
	bid, err := watchQuotes(ctx, marketData, aapl, 5)
	if err != nil {
		return err
	}
	if err := askForWhatIsNotThere(ctx, marketData); err != nil {
		return err
	}
	return tradeAndCancel(ctx, orders, aapl, bid)
}

func stock(symbol string) *pb.Instrument {
	return &pb.Instrument{Symbol: symbol, SecurityType: pb.SecurityType_SECURITY_TYPE_STK}
}

// watchQuotes prints quotes until there are count, and returns the last bid. A gap, a stale price and a quiet market are
// told apart.
func watchQuotes(ctx context.Context, client pb.MarketDataServiceClient, instrument *pb.Instrument, count int) (float64, error) {
	ctx, cancel := context.WithCancel(ctx) // a stream has no deadline; it ends with its context
	defer cancel()
	stream, err := client.StreamQuotes(ctx, &pb.StreamQuotesRequest{
		Instruments:       []*pb.Instrument{instrument},
		HeartbeatInterval: durationpb.New(5 * time.Second),
	})
	if err != nil {
		return 0, err
	}
	bid := 0.0
	for count > 0 {
		response, err := stream.Recv()
		if err != nil {
			return 0, fmt.Errorf("the stream ended, connect again: %w", err)
		}
		for _, event := range response.Events {
			switch told := event.Event.(type) {
			case *pb.QuoteEvent_Quote:
				fmt.Println("quote", price(told.Quote.BidPrice), "/", price(told.Quote.AskPrice))
				if told.Quote.BidPrice != nil { // absent is unknown: never zero
					bid = *told.Quote.BidPrice
					count--
				}
			case *pb.QuoteEvent_Gap:
				fmt.Println("gap: no quotes from here on,", told.Gap.Reason)
			case *pb.QuoteEvent_Resumed:
				fmt.Println("resumed: quotes flow again")
			case *pb.QuoteEvent_Stale:
				fmt.Println("stale: the last quote is old,", told.Stale.Reason)
			case *pb.QuoteEvent_Heartbeat:
				// The stream lives: a market that says nothing now is quiet, as long as the session is READY.
				fmt.Println("quiet, session", told.Heartbeat.SessionState)
			case *pb.QuoteEvent_Error:
				return 0, fmt.Errorf("%s: %s", told.Error.ErrorCode, told.Error.Message)
			}
		}
	}
	return bid, nil
}

func price(value *float64) string {
	if value == nil {
		return "-"
	}
	return strconv.FormatFloat(*value, 'f', -1, 64)
}

func askForWhatIsNotThere(ctx context.Context, client pb.MarketDataServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	_, err := client.GetQuote(ctx, &pb.GetQuoteRequest{Instrument: stock("NOSUCH")})
	info := errorInfo(err)
	if info.GetReason() != "CONTRACT_NOT_FOUND" {
		return fmt.Errorf("NOSUCH is answered by %v", err)
	}
	fmt.Println("error", info.Reason, "for", info.Metadata["symbol"])
	return nil
}

// errorInfo is what the gateway said; nil when the status is not the gateway's, and so says nothing about an order.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == errorDomain {
			return info
		}
	}
	return nil
}

func tradeAndCancel(ctx context.Context, client pb.OrdersServiceClient, instrument *pb.Instrument, bid float64) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	// Decimals are text: a float64 cannot hold most prices. Half the bid will not fill.
	order := &pb.OrderSpec{
		Instrument: instrument,
		Side:       pb.Side_SIDE_BUY,
		Quantity:   "1",
		OrderType:  pb.OrderType_ORDER_TYPE_LMT,
		LimitPrice: proto.String(strconv.Itoa(int(math.Floor(bid / 2)))),
	}
	previewed, err := client.PreviewOrder(ctx, &pb.PreviewOrderRequest{Order: order})
	if err != nil {
		return err
	}
	value := previewed.Preview.TotalNotional
	fmt.Println("preview", value.GetAmount(), value.GetCurrencyCode(), "blockers:", len(previewed.Preview.Blockers))

	// Made and kept before the first try: whatever happens to the call, the same id is the same order.
	id := uuid.NewString()
	first, err := client.PlaceOrder(ctx, &pb.PlaceOrderRequest{ClientOrderId: id, Order: order})
	if err != nil {
		return err
	}
	again, err := client.PlaceOrder(ctx, &pb.PlaceOrderRequest{ClientOrderId: id, Order: order})
	if err != nil {
		return err
	}
	if first.Result.OrderId != again.Result.OrderId {
		return fmt.Errorf("one client_order_id became orders %d and %d", first.Result.OrderId, again.Result.OrderId)
	}
	fmt.Printf("placed %d; the same id again: the same order\n", first.Result.OrderId)
	return followUntilCancelled(ctx, client, id)
}

// followUntilCancelled cancels the order once it works, and prints what happens to it.
func followUntilCancelled(ctx context.Context, client pb.OrdersServiceClient, id string) error {
	// From the beginning of the record, of this order alone; with the last sequence seen a stream goes on after a break.
	stream, err := client.StreamOrderEvents(ctx, &pb.StreamOrderEventsRequest{
		ClientOrderId:       id,
		ResumeAfterSequence: proto.Int64(0),
	})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("the stream ended, connect again with the last sequence: %w", err)
		}
		for _, event := range response.Events {
			told := event.GetStatus()
			if told == nil {
				continue
			}
			fmt.Println("event", event.Sequence, event.OccurredTime.AsTime().Format(time.RFC3339Nano), told.State)
			switch told.State {
			case pb.OrderState_ORDER_STATE_WORKING:
				key := &pb.OrderKey{Key: &pb.OrderKey_ClientOrderId{ClientOrderId: id}}
				if _, err := client.CancelOrder(ctx, &pb.CancelOrderRequest{Order: key}); err != nil {
					return err
				}
			case pb.OrderState_ORDER_STATE_CANCELLED:
				return nil
			case pb.OrderState_ORDER_STATE_FILLED, pb.OrderState_ORDER_STATE_REJECTED, pb.OrderState_ORDER_STATE_SIMULATED:
				return fmt.Errorf("the order ended %s", told.State)
			}
		}
	}
}
