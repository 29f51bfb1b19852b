"""One conversation of many steps, held by unmodified TWS API clients with the simulator: `make compat`."""
