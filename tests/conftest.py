"""Settings for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# CI repeats itself; `make fuzz` looks further.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "20000")),  # noqa: TID251 - a test's knob
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))  # noqa: TID251 - as above


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the property tests."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.fuzz)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int
) -> object:  # pytest's own hook gives nothing that we read
    """Where every program is installed a skipped test is a failure."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PENSTOCK_NO_SKIPS") and reporter and reporter.stats.get("skipped"):  # noqa: TID251 - as above
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result
