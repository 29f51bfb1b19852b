"""The ibkr-gateway server: typed RPCs in, one supervised TWS session out."""

__version__ = "0.1.0"
