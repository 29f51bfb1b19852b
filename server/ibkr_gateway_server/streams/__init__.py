"""Streams to subscribers:

the latest value of each quote, and every event of each order, with heartbeats and gaps told.
"""
