"""The durable record:

hash-chained events, idempotency, orders and executions. The only code that imports SQLAlchemy.
"""
