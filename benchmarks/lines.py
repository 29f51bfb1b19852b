"""The lines that the benchmarks follow, by IBKR's contract ids: stocks first, then currencies."""

from __future__ import annotations

CON_IDS = (265598, 272093, 3691937, 76792991, 4815747, 756733, 320227571, 12087792, 12087797, 14433401)
"""AAPL, MSFT, AMZN, TSLA, NVDA, SPY, QQQ, EUR.USD, GBP.USD, AUD.USD."""
