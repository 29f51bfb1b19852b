"""Generated from proto/ibkr_gateway/v1; `make proto` writes it again."""
