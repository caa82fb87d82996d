"""The models for requests that name none: those of the file, or the first that fit (spec 1.7)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.config.modelconfig import ModelConfig
from proxy.config.modelref import BadModelRef, Defaults, ModelRef
from proxy.config.problems import Path, Problems
from proxy.config.schema import DefaultModels
from proxy.config.wording import quoted

_BLOCK: Path = ("modelConfiguration", "defaultModels")


class _Slot(msgspec.Struct, frozen=True):
    """One of the default models: what it is called, and what fits."""

    key: str
    name: str
    capability: str
    categories: tuple[str, str]

    def fits(self, model: ModelConfig) -> bool:
        # A model of no category fits everywhere: the smallest file has one model and says little.
        category = model.settings.category
        category_fits = not category or category in self.categories
        return category_fits and self.capability in model.settings.capabilities


_CHAT = _Slot("chat", "chat", "chat", ("accuracy", "balanced"))
_FAST_CHAT = _Slot("fastChat", "fast chat", "chat", ("speed", "balanced"))
_CODE = _Slot("codeCompletion", "code completion", "autocomplete", ("speed", "balanced"))


def defaults_of(
    given: DefaultModels, models: Mapping[ModelRef, ModelConfig], problems: Problems
) -> Defaults:
    """The default models. One that does not exist is replaced, and told of (B-08)."""
    return Defaults(
        chat=_default(_CHAT, given.chat, models, problems),
        fast_chat=_default(_FAST_CHAT, given.fast_chat, models, problems),
        code_completion=_default(_CODE, given.code_completion, models, problems),
    )


def written(defaults: Defaults) -> DefaultModels:
    """The same, as a file says it."""
    return DefaultModels(
        chat=_text(defaults.chat),
        fast_chat=_text(defaults.fast_chat),
        code_completion=_text(defaults.code_completion),
    )


def _text(ref: ModelRef | None) -> str | None:
    return None if ref is None else str(ref)


def _default(
    slot: _Slot, given: str | None, models: Mapping[ModelRef, ModelConfig], problems: Problems
) -> ModelRef | None:
    path = (*_BLOCK, slot.key)
    try:
        ref = ModelRef.parse(given) if given else None
    except BadModelRef as error:
        problems.add(path, f"default {slot.name} model: {error}")
        return None
    if ref is not None and ref in models:
        if slot.capability not in models[ref].settings.capabilities:
            text = f'default {slot.name} model: {quoted(str(ref))} cannot "{slot.capability}"'
            problems.warn(path, text)
        return ref
    return _first_that_fits(slot, ref, models, problems)


def _first_that_fits(
    slot: _Slot,
    unknown: ModelRef | None,
    models: Mapping[ModelRef, ModelConfig],
    problems: Problems,
) -> ModelRef | None:
    path = (*_BLOCK, slot.key)
    fitting = next((model.ref for model in models.values() if slot.fits(model)), None)
    if unknown is not None:
        instead = "" if fitting is None else f"; using {quoted(str(fitting))}"
        problems.warn(path, f"unknown {slot.name} model {quoted(str(unknown))}{instead}")
    if fitting is None:
        fits = f'"{slot.capability}" and category {" or ".join(map(quoted, slot.categories))}'
        text = f"no suitable model found for {slot.name} ({len(models)} candidates)"
        problems.warn(path, f"{text}; it needs {fits}")
    return fitting
