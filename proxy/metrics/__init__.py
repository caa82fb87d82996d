"""Every Prometheus series that penstock shows."""

from __future__ import annotations

from proxy.metrics.collector import Metrics
from proxy.metrics.gauges import Sources

__all__ = ["Metrics", "Sources"]
