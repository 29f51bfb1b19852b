"""The core client: one supervised session with TWS or IB Gateway. The only code that knows the TWS API library."""
