"""What the file says: every key of it, each documented here and nowhere else.

These structs are plain data. Whatever needs two keys to judge is checked in `modelconfig` and
`load`; what runs is made from the result by the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from parsers.dialects.base import MAX_EVENT_BYTES
from proxy.config.modelref import MODEL_REF_PATTERN, RESOURCE_ID_PATTERN

# What a `serverSideConfig` of a provider may have as its `type`.
PROVIDER_KINDS = ("huggingface-tgi", "openaicompatible", "openai")

MAX_DISPLAY_NAME_BYTES = 128  # spec 1.10

# One picture in base64, or some 8 million tokens: more than any context window.
DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024


class Secret:
    """A text that shows itself only when asked to; everything else sees `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for a header, never for a message."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class EnvSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that stands in an environment variable."""

    env: Annotated[str, Meta(description="Name of an environment variable.")]


class FileSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that stands in a file."""

    file: Annotated[str, Meta(description="Path of a file; line breaks at its end are dropped.")]


# Gives the secret that is meant. Raises SecretUnavailable.
ReadSecret: TypeAlias = Callable[[EnvSecret | FileSecret], str]


class SecretUnavailable(ValueError):
    """There is no secret at that place; the message names the place, never a value."""


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A JSON object of the file.

    `LATER` names keys of the Sourcegraph format that this version ignores with a warning; any
    other unknown key is an error.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()


_ModelRefText: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": MODEL_REF_PATTERN})]
_DisplayName: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"maxLength": MAX_DISPLAY_NAME_BYTES})
]
# Empty means the same as absent.
_DefaultRefText: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^$|{MODEL_REF_PATTERN}"})
]
# Checked in `modelconfig`, in the words of spec 1.10.
_Tokens: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 1})]
# A day is longer than any answer takes.
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
_Port: TypeAlias = Annotated[int, Meta(ge=0, le=65_535)]


class ContextWindow(Block, frozen=True):
    """How many tokens a model takes and gives."""

    LATER: ClassVar[frozenset[str]] = frozenset({"maxUserInputTokens"})

    max_input_tokens: Annotated[
        _Tokens | None, Meta(description="Most tokens of a prompt; 4000 if not given.")
    ] = None
    max_output_tokens: Annotated[
        _Tokens | None, Meta(description="Most tokens of an answer; 4000 if not given.")
    ] = None


class ClientSideModelConfig(Block, frozen=True):
    """What clients are told about a model beyond its name."""

    openaicompatible: Annotated[
        dict[str, msgspec.Raw] | None,
        Meta(
            description="Knobs for Cody clients (stopSequences, endOfText, chatTemperature, ...);"
            " sent to them as given."
        ),
    ] = None


class ServerSideModelConfig(Block, frozen=True):
    """What the model server is told about a model; never sent to clients."""

    type: Annotated[
        str,
        Meta(
            description='The kind of these settings: "openaicompatible".',
            extra_json_schema={"enum": ["openaicompatible"]},
        ),
    ]
    api_model: Annotated[
        Secret | None,
        Meta(description="Sent upstream as the model's name, in the place of modelName."),
    ] = None


class ModelSettings(Block, frozen=True):
    """What can be said of one model, or of all models of a provider."""

    LATER: ClassVar[frozenset[str]] = frozenset({"reasoningEffort", "modelCost"})

    capabilities: Annotated[
        tuple[str, ...], Meta(description='What it can do: "chat", "autocomplete".')
    ] = ()
    category: Annotated[
        str,
        Meta(
            description='"accuracy", "balanced" or "speed"; used to choose default models'
            " that the file does not name."
        ),
    ] = ""
    status: Annotated[
        str, Meta(description='"experimental", "beta", "stable" or "deprecated"; shown to clients.')
    ] = ""
    tier: Annotated[
        str, Meta(description='Accepted for compatibility; every model is "enterprise".')
    ] = ""
    context_window: Annotated[
        ContextWindow, Meta(description="How many tokens it takes and gives.")
    ] = ContextWindow()
    client_side_config: Annotated[
        ClientSideModelConfig | None, Meta(description="What clients are told besides.")
    ] = None
    server_side_config: Annotated[
        ServerSideModelConfig | None, Meta(description="What the model server is told besides.")
    ] = None


class ModelOverride(ModelSettings, frozen=True, kw_only=True):
    """One model."""

    model_ref: Annotated[
        _ModelRefText,
        Meta(description="Its name: provider::apiVersion::model. The provider is one of this file"),
    ]
    display_name: Annotated[
        _DisplayName, Meta(description="Its name for people; the model part if not given.")
    ] = ""
    model_name: Annotated[
        str, Meta(description="Its name upstream; the model part of modelRef if not given.")
    ] = ""


class ClientSideProviderConfig(Block, frozen=True):
    """What clients are told about a provider: nothing so far."""


class ProviderOverride(Block, frozen=True):
    """One service that hosts models."""

    id: Annotated[
        str,
        Meta(
            description="The first part of the names of its models; any word.",
            extra_json_schema={"pattern": RESOURCE_ID_PATTERN},
        ),
    ]
    display_name: Annotated[
        _DisplayName, Meta(description='Its name for people; Provider "<id>" if not given.')
    ] = ""
    client_side_config: Annotated[
        ClientSideProviderConfig | None, Meta(description="What clients are told of it; empty.")
    ] = None
    server_side_config: Annotated[
        dict[str, msgspec.Raw] | None,
        Meta(
            description="How it is called: a type, and what that kind of service needs. Without it"
            " the file is refused, since nothing is sent to a host that nobody configured."
        ),
    ] = None
    default_model_config: Annotated[
        ModelSettings | None,
        Meta(description="Settings for those of its models that do not say otherwise."),
    ] = None


class DefaultModels(Block, frozen=True):
    """The models for requests that name none."""

    chat: Annotated[_DefaultRefText | None, Meta(description="For chat.")] = None
    fast_chat: Annotated[
        _DefaultRefText | None, Meta(description="For chat that asks to be fast.")
    ] = None
    code_completion: Annotated[
        _DefaultRefText | None, Meta(description="For completions of code or raw text.")
    ] = None


class ModelConfiguration(Block, frozen=True):
    """Which models there are, and who hosts them (the Sourcegraph site configuration's form)."""

    LATER: ClassVar[frozenset[str]] = frozenset({"systemPreInstruction"})

    sourcegraph: Annotated[
        dict[str, msgspec.Raw] | None,
        Meta(description="Leave it null: penstock has no built-in list of models."),
    ] = None
    provider_overrides: Annotated[
        tuple[ProviderOverride, ...], Meta(description="The services that host the models.")
    ] = ()
    model_overrides: Annotated[tuple[ModelOverride, ...], Meta(description="The models.")] = ()
    model_overrides_recommended_settings: Annotated[
        tuple[_ModelRefText, ...],
        Meta(description="Models whose settings penstock knows, by their references."),
    ] = ()
    self_hosted_models: Annotated[
        tuple[msgspec.Raw, ...],
        Meta(description="Not supported by this version; must be empty."),
    ] = ()
    default_models: Annotated[
        DefaultModels | None,
        Meta(
            description="The models for requests that name none; what is not given here is the"
            " first model that fits."
        ),
    ] = None


class ClientKey(Block, frozen=True):
    """One client that may use penstock."""

    name: Annotated[
        str, Meta(min_length=1, description="Its name in logs and metrics; not a secret.")
    ]
    key: Annotated[
        Secret, Meta(description="Its key, as sent in Authorization; a text, an env or a file.")
    ]
    models: Annotated[
        Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(description="The models it may use; all if not given."),
    ] = None


class Timeouts(Block, frozen=True):
    """How long penstock waits for a model server."""

    connect_seconds: Annotated[_Seconds, Meta(description="For a connection, TLS included.")] = 5.0
    headers_seconds: Annotated[
        _Seconds,
        Meta(
            description="From the request to the head of the answer. A busy server queues here, and"
            " an answer that is not streamed is computed here."
        ),
    ] = 300.0
    first_token_seconds: Annotated[
        _Seconds,
        Meta(description="From the head of a stream to its first event; long prompts take time."),
    ] = 300.0
    idle_seconds: Annotated[
        _Seconds, Meta(description="Between two reads of a stream that has begun.")
    ] = 60.0
    total_seconds: Annotated[
        _Seconds, Meta(description="For the whole request, retries included.")
    ] = 3600.0


class Limits(Block, frozen=True):
    """How much penstock takes at once."""

    max_body_bytes: Annotated[
        int, Meta(ge=1024, description="Largest request body; a larger one gets 413.")
    ] = DEFAULT_MAX_BODY_BYTES
    max_event_bytes: Annotated[
        int, Meta(ge=1024, description="Largest event of a stream; a larger one ends the stream.")
    ] = MAX_EVENT_BYTES
    max_concurrent_requests: Annotated[
        int, Meta(ge=1, description="Requests at the same time; one more gets 503.")
    ] = 1024


class Listen(Block, frozen=True):
    """Where penstock is reached. A change needs a restart."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address for clients. The default lets only this machine or pod in;"
            ' "0.0.0.0" lets everybody in, who then should need a key.',
        ),
    ] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="Port for clients; 0 takes a free one.")] = 8080
    admin_host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address for metrics, probes and reloads, which need no key.",
        ),
    ] = "127.0.0.1"
    admin_port: Annotated[
        _Port, Meta(description="Port for metrics, probes and reloads; 0 takes a free one.")
    ] = 9090


class Penstock(Block, frozen=True):
    """What the Sourcegraph format has no word for. Every key has a default."""

    clients: Annotated[
        Annotated[tuple[ClientKey, ...], Meta(min_length=1)] | None,
        Meta(description="Who may use penstock; everybody if not given."),
    ] = None
    timeouts: Annotated[
        Timeouts, Meta(description="How long penstock waits for a model server.")
    ] = Timeouts()
    limits: Annotated[Limits, Meta(description="How much penstock takes at once.")] = Limits()
    listen: Annotated[Listen, Meta(description="Where penstock is reached.")] = Listen()


class SiteConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The file. Keys of a site configuration that are not listed here are ignored."""

    model_configuration: Annotated[
        ModelConfiguration | None, Meta(description="Which models there are, and who hosts them.")
    ] = None
    completions: Annotated[
        msgspec.Raw | None,
        Meta(
            description="The older form of modelConfiguration: ignored beside it, and not supported"
            " without it by this version."
        ),
    ] = None
    penstock: Annotated[
        Penstock, Meta(description="What the Sourcegraph format has no word for.")
    ] = Penstock()
