"""What the gateway speaks of: instruments, quotes, bars, accounts, orders. Frozen dataclasses and pure rules only."""
