"""Files that must be private, the server's certificate, and who may call it.

Everything here is looked at once, before any socket opens; the override file of live trading before every order.
"""
