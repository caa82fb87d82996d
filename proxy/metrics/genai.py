"""The same in the words of OpenTelemetry's conventions for generative AI, for boards made for them.

Names, labels and bounds are those of the conventions (docs/gen-ai/gen-ai-metrics.md, status
Development), spelt as OpenTelemetry's Prometheus exporter spells them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from prometheus_client.core import Metric

from proxy.metrics import families
from proxy.metrics.tally import Distribution
from proxy.outcome import Account, Outcome

TOKEN_BOUNDS = tuple(4**power for power in range(14))
SECONDS_BOUNDS = tuple(0.01 * 2**power for power in range(14))
FIRST_TOKEN_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
PER_TOKEN_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)

# Every other dialect of clients is for chat.
_OPERATIONS = MappingProxyType(
    {
        "openai-completions": "text_completion",
        "tgi": "text_completion",
        "tgi-compat": "text_completion",
        "openai-embeddings": "embeddings",
    }
)
# The conventions' names of services; self-hosted servers have none there and keep ours.
_PROVIDERS = MappingProxyType(
    {
        "anthropic": "anthropic",
        "awsBedrock": "aws.bedrock",
        "azureOpenAI": "azure.ai.openai",
        "google": "gcp.gen_ai",
        "openai": "openai",
    }
)


class Usage:
    """What the requests for one model, in one dialect, added up to."""

    __slots__ = (
        *("durations", "first_chunk", "first_token", "inputs", "outputs", "per_chunk"),
        "per_token",
    )

    def __init__(self) -> None:
        self.durations: dict[str, Distribution] = {}  # by what went wrong; empty for nothing
        self.first_token = Distribution(FIRST_TOKEN_BOUNDS)
        self.per_token = Distribution(PER_TOKEN_BOUNDS)
        self.first_chunk = Distribution(SECONDS_BOUNDS)
        self.per_chunk = Distribution(SECONDS_BOUNDS)
        self.inputs = Distribution(TOKEN_BOUNDS)
        self.outputs = Distribution(TOKEN_BOUNDS)

    def add(self, account: Account) -> None:
        """Add a request that has ended."""
        outcome = account.outcome or Outcome.INTERNAL_ERROR
        error = "" if outcome.is_success else str(outcome)
        if error not in self.durations:
            self.durations[error] = Distribution(SECONDS_BOUNDS)
        self.durations[error].observe(account.ended - account.started, account.trace_id)
        if account.usage is not None:
            self.inputs.observe(account.usage.prompt)
            self.outputs.observe(account.usage.completion)
        if account.stream and account.first_token is not None:
            self._add_stream(account, account.first_token, well=not error)

    def _add_stream(self, account: Account, first: float, *, well: bool) -> None:
        """The client's view is of every stream; the server's of those that ended well."""
        last, more = account.last_token or first, account.contents - 1
        self.first_chunk.observe(first - account.started, account.trace_id)
        if well:
            self.first_token.observe(first - account.started, account.trace_id)
        if more > 0:
            between = (last - first) / more
            self.per_chunk.observe(between, times=more)
            if well:
                self.per_token.observe(between)


class GenAi:
    """All that is shown under those names."""

    def __init__(self) -> None:
        self._usages: dict[tuple[str, str], Usage] = {}

    def add(self, model: str, account: Account) -> None:
        """Add a request that has ended, for a model of this label."""
        key = (_OPERATIONS.get(account.dialect, "chat"), model)
        usage = self._usages.get(key)
        if usage is None:
            usage = self._usages[key] = Usage()
        usage.add(account)

    def collect(self, kinds: Mapping[str, str], *, coarse: bool) -> Iterator[Metric]:
        """The families, as of now; `kinds` are the types of the models' providers."""
        found = [
            ((operation, _provider(kinds.get(model, "unknown")), model), usage)
            for (operation, model), usage in list(self._usages.items())
        ]
        durations = [
            ((*key, error), each)
            for key, usage in found
            for error, each in list(usage.durations.items())
        ]
        tokens = [
            ((*key, kind), each)
            for key, usage in found
            for kind, each in (("input", usage.inputs), ("output", usage.outputs))
        ]
        firsts = [(key, usage.first_token) for key, usage in found]
        betweens = [(key, usage.per_token) for key, usage in found]
        yield families.GEN_AI_TOKENS.over(tokens, coarse=coarse)
        yield families.GEN_AI_OPERATION.over(durations, coarse=coarse)
        yield families.GEN_AI_DURATION.over(durations, coarse=coarse)
        yield families.GEN_AI_FIRST_TOKEN.over(firsts, coarse=coarse)
        yield families.GEN_AI_PER_TOKEN.over(betweens, coarse=coarse)
        chunks = [(key, usage.first_chunk) for key, usage in found]
        yield families.GEN_AI_FIRST_CHUNK.over(chunks, coarse=coarse)
        chunks = [(key, usage.per_chunk) for key, usage in found]
        yield families.GEN_AI_PER_CHUNK.over(chunks, coarse=coarse)


def _provider(kind: str) -> str:
    return _PROVIDERS.get(kind, kind)
