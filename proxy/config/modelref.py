"""Model references: how a model is named in the file, and every spelling a client may use.

A full reference is `provider::apiVersion::model` (spec, section 2). Clients also send the older
`provider/model` and the bare `model`. Which model each spelling means is settled here once, when
a configuration is loaded, so that a request costs one dictionary look-up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from parsers.chat import Operation
from proxy.config.wording import quoted

# RFC 3986 without ":" (which separates the parts); ASCII only, and no white space.
_ALLOWED = r"A-Za-z0-9\-._~/?#\[\]@!$&'()*+,;=%"
RESOURCE_ID_PATTERN = f"^[{_ALLOWED}]+$"
MODEL_REF_PATTERN = f"^[{_ALLOWED}]+::[{_ALLOWED}]+::[{_ALLOWED}]+$"
_RESOURCE_ID = re.compile(f"[{_ALLOWED}]+")
_NOT_ALLOWED = re.compile(f"[^{_ALLOWED}]".encode())


class BadModelRef(ValueError):
    """A text is no full model reference; the message says which part is wrong."""


class ModelRef(msgspec.Struct, frozen=True):
    """The name of one model; `str()` gives `provider::api_version::model`."""

    provider: str
    api_version: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}::{self.api_version}::{self.model}"

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """The reference this text is. Raises BadModelRef in the words of spec 2.1."""
        if not text:
            raise BadModelRef("modelRef is blank")
        parts = text.split("::")
        if len(parts) != 3:
            raise BadModelRef("modelRef syntax error")
        for part, name in zip(parts, ("ProviderID", "APIVersionID", "ModelID"), strict=True):
            if not is_resource_id(part):
                raise BadModelRef(f"invalid {name}")
        return cls(*parts)

    @classmethod
    def parts_of(cls, text: str) -> ModelRef:
        """The three parts of a text that may be no reference; for display, never for look-up."""
        parts = text.split("::")
        api_version = parts[1] if len(parts) == 3 else "error-invalid-modelref"
        return cls(parts[0], api_version, parts[-1])


class LegacyRef(msgspec.Struct, frozen=True):
    """The older `provider/model`, or a bare `model` with an empty provider."""

    provider: str
    model: str

    @classmethod
    def parse(cls, text: str) -> LegacyRef:
        """Splits at the first slash, since model ids have slashes too; never fails."""
        provider, slash, model = text.partition("/")
        return cls(provider, model) if slash else cls("", text)

    @property
    def guess(self) -> ModelRef:
        """The full reference with an unknown API version; it may not be a valid one."""
        return ModelRef(self.provider, "unknown", self.model)

    def fits(self, ref: ModelRef) -> bool:
        """Whether this may mean that model; no provider means any, the API version is ignored."""
        return self.model == ref.model and self.provider in ("", ref.provider)


class Names(msgspec.Struct, frozen=True):
    """Every accepted spelling, and those that fit more than one model.

    `refs` has the first model listed for each spelling. `ambiguous` has all of them, in order.
    """

    refs: Mapping[str, ModelRef]
    ambiguous: Mapping[str, tuple[ModelRef, ...]]


class Defaults(msgspec.Struct, frozen=True):
    """The models for requests that name none; None where there is no suitable model."""

    chat: ModelRef | None = None
    fast_chat: ModelRef | None = None
    code_completion: ModelRef | None = None

    def of(self, operation: Operation) -> ModelRef | None:
        """The default for this kind of work."""
        return self.chat if operation is Operation.CHAT else self.code_completion


class UnknownModel(LookupError):
    """No model goes by this name; the message is what Cody clients are shown (spec 2.3)."""


def is_resource_id(text: str) -> bool:
    """Whether the text may be a provider, API version or model id (spec 1.10)."""
    return _RESOURCE_ID.fullmatch(text) is not None


def sanitize_resource_name(text: str) -> str:
    """The text with every byte that an id must not have replaced by `_`."""
    return _NOT_ALLOWED.sub(b"_", text.encode("utf-8", "surrogatepass")).decode("ascii")


def is_pattern(pattern: str) -> bool:
    """Whether a filter pattern is valid: not empty, and `*` only at its ends (spec 1.3)."""
    return bool(pattern) and "*" not in pattern[1:-1]


def pattern_fits(pattern: str, ref: ModelRef) -> bool:
    """Whether a valid filter pattern names this model; case counts."""
    if pattern == "*":
        return True
    text, core = str(ref), pattern.strip("*")
    if pattern.startswith("*") and pattern.endswith("*"):
        return bool(core) and core in text
    if pattern.startswith("*"):
        return text.endswith(core)
    return text.startswith(core) if pattern.endswith("*") else text == core


def spellings(refs: Sequence[ModelRef]) -> Names:
    """Every spelling clients may use for these models; the first model listed wins.

    A bare model id with a slash in it is not among them: it reads as `provider/model`.
    """
    fits: dict[str, list[ModelRef]] = {}
    for ref in refs:
        for spelling in _spellings_of(ref):
            fits.setdefault(spelling, []).append(ref)
    return Names(
        refs=MappingProxyType({spelling: found[0] for spelling, found in fits.items()}),
        ambiguous=MappingProxyType(
            {
                spelling: tuple(found)
                for spelling, found in fits.items()
                if len(found) > 1 and not spelling.startswith("/")  # said for the bare form
            }
        ),
    )


def _spellings_of(ref: ModelRef) -> tuple[str, ...]:
    # "/model" is an empty provider, which clients have sent and the original took for none.
    legacy = (f"{ref.provider}/{ref.model}", ref.model, f"/{ref.model}")
    return (str(ref), *(text for text in dict.fromkeys(legacy) if LegacyRef.parse(text).fits(ref)))


def choose(
    names: Names, defaults: Defaults, asked: str, operation: Operation, *, fast: bool = False
) -> ModelRef:
    """The model a Cody request means (spec 2.3). Raises UnknownModel.

    A fast chat always gets the fast default, whatever was asked for.
    """
    if fast and operation is Operation.CHAT:
        if defaults.fast_chat is None:
            raise UnknownModel('getModelFn("") returned invalid mref: modelRef is blank')
        return defaults.fast_chat
    default = defaults.of(operation)
    ref = names.refs.get(asked) if asked else default
    if ref is None:
        kind = "chat" if operation is Operation.CHAT else "code completion"
        shown = quoted("" if default is None else str(default))
        raise UnknownModel(f"unsupported {kind} model {quoted(asked)} (default {shown})")
    return ref
