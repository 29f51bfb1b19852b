"""The only way to an order:

the desk (write path), its guard (limits), the ledger (states from evidence), reconciliation.
"""
