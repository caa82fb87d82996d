"""The models that penstock knows without being told: none, and how a file would filter them.

A proxy for models one hosts oneself needs no list of other people's. The hook is here for a
distribution that has one: its providers must bring their own serverSideConfig.
"""

from __future__ import annotations

from msgspec.structs import replace

from proxy.config.decoder import items_of
from proxy.config.modelref import ModelRef, is_pattern, pattern_fits
from proxy.config.problems import Path, Problems
from proxy.config.schema import (
    ModelConfiguration,
    ModelFilters,
    ModelOverride,
    SourcegraphModels,
)
from proxy.config.wording import quoted
from proxy.origin import parse_origin

BUILT_IN = ModelConfiguration()


def remaining(base: ModelConfiguration, given: SourcegraphModels | None) -> ModelConfiguration:
    """What the file leaves of the built-in list: nothing, unless it has a `sourcegraph` object."""
    if given is None:
        return ModelConfiguration()
    filters = given.model_filters or ModelFilters()
    models = tuple(model for model in base.model_overrides if _stays(model, filters))
    return replace(base, model_overrides=models)


def check(given: SourcegraphModels, path: Path, problems: Problems) -> None:
    """Add what is wrong with a `sourcegraph` object, and what it does not do."""
    if given.endpoint and not _is_url(given.endpoint):
        problems.add((*path, "endpoint"), "sourcegraph config: invalid endpoint URL")
    filters = given.model_filters or ModelFilters()
    where = (*path, "modelFilters")
    for key, rules in (("allow", filters.allow), ("deny", filters.deny)):
        for place, rule in items_of(rules, (*where, key)):
            if not is_pattern(rule):
                text = f"sourcegraph config: invalid {key} list rule: {quoted(rule)}"
                problems.add(place, text)
    if filters.status_filter == ():
        problems.warn((*where, "statusFilter"), "an empty list leaves no built-in model at all")
    problems.warn(path, "penstock has no built-in models: only those of this file are there")


def _is_url(text: str) -> bool:
    try:
        parse_origin(text)
    except ValueError:
        return False
    return True


def _stays(model: ModelOverride, filters: ModelFilters) -> bool:
    ref = ModelRef.parse(model.model_ref)
    if model.status == "deprecated":
        return False
    if filters.status_filter is not None and model.status not in filters.status_filter:
        return False
    if filters.allow and not any(pattern_fits(rule, ref) for rule in filters.allow):
        return False
    return not any(pattern_fits(rule, ref) for rule in filters.deny)
