"""The conversation in ib_async, and in ib_insync by the same names."""
