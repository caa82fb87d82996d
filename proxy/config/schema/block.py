"""What every JSON object of the file is made of, and the kinds of value that several have."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from proxy.config.modelref import MODEL_REF_PATTERN

MAX_DISPLAY_NAME_BYTES = 128  # spec 1.10


class Block(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename="camel",
    kw_only=True,
    omit_defaults=True,
):
    """A JSON object of the file.

    `LATER` names keys of the Sourcegraph format that this version ignores with a warning; any
    other unknown key is an error. Where a member is its default the file says nothing of it, so
    a number that may be zero has None for its default.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()


# Checked by `merge`, in the words of spec 1.10; the schema is for editors.
ModelRefText: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": MODEL_REF_PATTERN})]
DisplayName: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"maxLength": MAX_DISPLAY_NAME_BYTES})
]
