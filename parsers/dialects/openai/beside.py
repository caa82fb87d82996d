"""What a request may hold beside what the hub has words for: hints by name, and terms.

A hint is told by its name, which ends up in a metric's label, so the names are a closed list; one
that is not on it is told as `other`. A term is refused by name: what was asked for cannot be
answered without it (translation.md 4). The names are those of OpenAI and of the servers that
answer in its words: vLLM, SGLang, llama.cpp, Ollama, TGI, Fireworks, OpenRouter.
"""

from __future__ import annotations

from collections.abc import Set

from parsers.dialects.base import Members
from parsers.errors import BadPayload

OTHER = "other"  # a hint that nobody has heard of

HINTS = frozenset(
    {
        # OpenAI
        *("logit_bias", "metadata", "moderation", "prediction", "prompt_cache_key"),
        *("prompt_cache_retention", "safety_identifier", "service_tier", "store", "verbosity"),
        # drawing tokens
        *("dry_multiplier", "ignore_eos", "length_penalty", "min_p", "min_tokens", "mirostat"),
        *("mirostat_eta", "mirostat_tau", "repeat_last_n", "repeat_penalty", "tfs_z", "top_a"),
        *("xtc_probability", "xtc_threshold"),
        # the prompt, and what is cached of it
        *("add_generation_prompt", "add_special_tokens", "cache_prompt", "cache_salt"),
        *("chat_template", "chat_template_kwargs", "context_length_exceeded_behavior", "id_slot"),
        *("keep_alive", "mm_processor_kwargs", "num_ctx", "options", "prompt_truncate_len"),
        *("tool_prompt", "truncate_prompt_tokens", "watermark"),
        # how the answer is written
        *("detokenize", "include_reasoning", "include_stop_str_in_output", "reasoning_format"),
        *("return_progress", "return_token_ids", "return_tokens_as_token_ids"),
        *("separate_reasoning", "skip_special_tokens", "spaces_between_special_tokens"),
        *("stream_reasoning", "timings_per_token", "t_max_predict_ms"),
        # who serves it
        *("kv_transfer_params", "lora_path", "models", "perf_metrics_in_response", "plugins"),
        *("priority", "provider", "request_id", "rid", "route", "session_params", "transforms"),
        "vllm_xargs",
    }
)

TERMS = frozenset(
    {
        *("audio", "function_call", "functions", "web_search_options"),
        # the form of the answer
        *("ebnf", "grammar", "guided_choice", "guided_grammar", "guided_regex", "json_schema"),
        *("regex", "structural_tag", "structured_outputs"),
        # what it is made of, where it ends, what comes with it
        *("continue_final_message", "documents", "input_extra", "n_probs", "prompt_embeds"),
        *("prompt_logprobs", "stop_token_ids", "use_beam_search"),
    }
)

# What says no more than leaving the member out, and what of a hint is not worth telling.
_NOTHING = frozenset({b"null", b"false"})
_EMPTY = frozenset({b"{}", b"[]", b'""'})


def passed_over(members: Members, known: Set[str], terms: Set[str] = TERMS) -> tuple[str, ...]:
    """The hints that were given, by name, each once; `known` are the members that are read.

    Raises BadPayload for a term.
    """
    given = {
        name: bytes(value)
        for name, value in members.items()
        if name not in known and bytes(value) not in _NOTHING
    }
    for name in terms & given.keys():
        raise BadPayload(f"{name}: not supported for this model")
    names = (name for name, value in given.items() if value not in _EMPTY)
    return tuple(dict.fromkeys(name if name in HINTS else OTHER for name in names))
