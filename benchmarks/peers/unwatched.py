"""The gateway itself, built of the same parts, with metrics that count nothing; logs are turned off by LOG_LEVEL."""

from __future__ import annotations

import sys
from unittest.mock import patch

from ibkr_gateway_server import __main__, app
from ibkr_gateway_server.domain.tallies import Tallies
from ibkr_gateway_server.metrics import Metrics
from prometheus_client.metrics import MetricWrapperBase


class _Nothing:
    """Stands in for any metric."""

    def labels(self, *_values: object, **_named: object) -> _Nothing:
        return self

    def _ignore(self, *_values: object, **_named: object) -> None:
        return None

    inc = dec = set = observe = remove = _ignore


class _NoMetrics(Metrics):
    def __init__(self, tallies: Tallies | None = None) -> None:
        super().__init__(tallies)
        for name, value in list(vars(self).items()):
            if isinstance(value, MetricWrapperBase):
                setattr(self, name, _Nothing())


class _NoTallies(Tallies):
    def add(self, *_values: object, **_named: object) -> None:
        return None


if __name__ == "__main__":
    with patch.object(app, "Metrics", _NoMetrics), patch.object(app, "Tallies", _NoTallies):
        sys.exit(__main__.main())
