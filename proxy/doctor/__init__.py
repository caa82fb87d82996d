"""Asks every endpoint of a configuration what would go wrong, before a client does."""

from __future__ import annotations

from proxy.doctor.examine import Examination
from proxy.doctor.findings import Examined, Finding, Level, Shown
from proxy.doctor.subject import Target, each_address, targets

__all__ = [
    "Examination",
    "Examined",
    "Finding",
    "Level",
    "Shown",
    "Target",
    "each_address",
    "targets",
]
