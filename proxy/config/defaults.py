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
# Where models come from; where something is wrong there, one that is not found may be that one.
_LISTS: tuple[Path, ...] = (
    ("modelConfiguration", "providerOverrides"),
    ("modelConfiguration", "modelOverrides"),
    ("modelConfiguration", "modelOverridesRecommendedSettings"),
    ("modelConfiguration", "selfHostedModels"),
)


class _Slot(msgspec.Struct, frozen=True):
    """One of the default models: what it is called, and what fits."""

    key: str
    title: str  # in the original's words, where nothing fits
    name: str
    capability: str
    categories: tuple[str, str]

    def fits(self, model: ModelConfig) -> bool:
        # A model of no category fits everywhere: the smallest file has one model and says little.
        category = model.settings.category
        category_fits = not category or category in self.categories
        return category_fits and self.capability in model.settings.capabilities


_CHAT = _Slot("chat", "Chat", "chat", "chat", ("accuracy", "balanced"))
_FAST_CHAT = _Slot("fastChat", "FastChat", "fast chat", "chat", ("speed", "balanced"))
_CODE = _Slot(
    *("codeCompletion", "CodeCompletion", "code completion"), "autocomplete", ("speed", "balanced")
)


def defaults_of(
    given: DefaultModels,
    models: Mapping[ModelRef, ModelConfig],
    problems: Problems,
    *,
    are_all: bool = True,
) -> Defaults:
    """The default models. One that does not exist is replaced, and told of (B-08).

    One that is named and cannot be replaced is a problem, as in the original; unless the file
    counts on models that the original has and penstock has not: then these are not all.
    """
    search = _Search(models, problems, are_all)
    return Defaults(
        chat=search.default(_CHAT, given.chat),
        fast_chat=search.default(_FAST_CHAT, given.fast_chat),
        code_completion=search.default(_CODE, given.code_completion),
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


class _Search(msgspec.Struct, frozen=True):
    """Looks for default models among those of a file."""

    models: Mapping[ModelRef, ModelConfig]
    problems: Problems
    are_all: bool

    def default(self, slot: _Slot, given: str | None) -> ModelRef | None:
        """The model that is given, else the first that fits."""
        path = (*_BLOCK, slot.key)
        try:
            ref = ModelRef.parse(given) if given else None
        except BadModelRef as error:
            self.problems.add(path, f"default {slot.name} model: {error}")
            return None
        if ref is None or ref not in self.models:
            return self._first_that_fits(slot, ref)
        if slot.capability not in self.models[ref].settings.capabilities:
            text = f'default {slot.name} model: {quoted(str(ref))} cannot "{slot.capability}"'
            self.problems.warn(path, text)
        return ref

    def _first_that_fits(self, slot: _Slot, unknown: ModelRef | None) -> ModelRef | None:
        path = (*_BLOCK, slot.key)
        what = "" if unknown is None else f"unknown {slot.name} model {quoted(str(unknown))}; "
        fitting = next((model.ref for model in self.models.values() if slot.fits(model)), None)
        if fitting is not None:
            if what:
                self.problems.warn(path, f"{what}using {quoted(str(fitting))}")
            return fitting
        fits = f'"{slot.capability}" and category {" or ".join(map(quoted, slot.categories))}'
        text = f"no suitable model found for {slot.title} ({len(self.models)} candidates)"
        # A server for other work is one too, which the original refuses.
        tell = self.problems.add if what and self._knows_all() else self.problems.warn
        tell(path, f"{what}{text}; it needs {fits}")
        return None

    def _knows_all(self) -> bool:
        """Whether there can be no other models; one that could not be read is there, too."""
        return self.are_all and not any(map(self.problems.is_reported_in, _LISTS))
