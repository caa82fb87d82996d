"""The sampling parameters that TGI reads, and the rules that it checks them against."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from proxy.demo.failures import invalid

MAX_TOTAL_TOKENS = 131_072  # the context of the models in common use
MAX_INPUT_TOKENS = MAX_TOTAL_TOKENS - 1
MAX_BEST_OF = 2
MAX_STOP_SEQUENCES = 4
MAX_TOP_N_TOKENS = 5

Unsigned = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Seed = Annotated[int, Meta(ge=0)]  # u64 in TGI; msgspec has no bound beyond int64


class Grammar(Struct, frozen=True):
    """A constraint on the answer: read and checked for its form, then not obeyed."""

    type: Annotated[str, Meta(pattern="^(json|json_object|json_schema|regex)$")]
    value: Raw


class Parameters(Struct, frozen=True):
    """`parameters` of the native route, to which the OpenAI routes are brought too."""

    best_of: Unsigned | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: Unsigned | None = None
    return_full_text: bool | None = None
    stop: list[str] = []
    truncate: Unsigned | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: Seed | None = None
    top_n_tokens: Unsigned | None = None
    grammar: Grammar | None = None
    adapter_id: str | None = None


def check(parameters: Parameters, input_tokens: int, *, stream: bool) -> None:
    """Raise `InferError` for the first rule that is broken; the texts are TGI's own."""
    rules = (
        *_counts(parameters, input_tokens, stream=stream),
        *_ranges(parameters),
        *_lengths(parameters, input_tokens),
    )
    for broken, text in rules:
        if broken:
            raise invalid(text)


def _counts(p: Parameters, input_tokens: int, *, stream: bool) -> tuple[tuple[bool, str], ...]:
    best_of = 1 if p.best_of is None else p.best_of
    top_n_tokens = p.top_n_tokens or 0
    return (
        (input_tokens == 0, "`inputs` cannot be empty"),
        (
            not 0 < best_of <= MAX_BEST_OF,
            f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {best_of}",
        ),
        (
            stream and best_of != 1,
            "`best_of` != 1 is not supported when streaming tokens",
        ),
        (
            stream and p.decoder_input_details,
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
        (
            len(p.stop) > MAX_STOP_SEQUENCES,
            f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {len(p.stop)}",
        ),
        (
            top_n_tokens > MAX_TOP_N_TOKENS,
            f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N_TOKENS}. Given: {top_n_tokens}",
        ),
    )


def _ranges(p: Parameters) -> tuple[tuple[bool, str], ...]:
    return (
        (_not_positive(p.temperature), "`temperature` must be strictly positive"),
        (_not_positive(p.repetition_penalty), "`repetition_penalty` must be strictly positive"),
        (
            p.frequency_penalty is not None and not -2.0 <= p.frequency_penalty <= 2.0,
            "`frequency_penalty` must be >= -2.0 and <= 2.0",
        ),
        (_not_open_unit(p.top_p), "`top_p` must be > 0.0 and < 1.0"),
        (_not_open_unit(p.typical_p), "`typical_p` must be > 0.0 and < 1.0"),
        (_not_positive(p.top_k), "`top_k` must be strictly positive"),
        (_not_positive(p.max_new_tokens), "`max_new_tokens` must be strictly positive"),
    )


def _lengths(p: Parameters, input_tokens: int) -> tuple[tuple[bool, str], ...]:
    wanted = p.max_new_tokens or 0
    return (
        (
            input_tokens + wanted > MAX_TOTAL_TOKENS,
            f"`inputs` tokens + `max_new_tokens` must be <= {MAX_TOTAL_TOKENS}. "
            f"Given: {input_tokens} `inputs` tokens and {wanted} `max_new_tokens`",
        ),
        (
            input_tokens > MAX_INPUT_TOKENS,
            f"`inputs` must have less than {MAX_INPUT_TOKENS} tokens. Given: {input_tokens}",
        ),
    )


def _not_positive(value: float | None) -> bool:
    return value is not None and value <= 0


def _not_open_unit(value: float | None) -> bool:
    return value is not None and not 0.0 < value < 1.0
