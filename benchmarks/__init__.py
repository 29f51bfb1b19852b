"""Measurements, each side by side with its peers in one run: `make bench`, or `make bench QUICK=1`."""
