"""Embeddings, reranking, tokens: passed through, and judged."""

from __future__ import annotations

import msgspec
import pytest

from parsers.chat import CompletionRequest
from parsers.dialects.base import Identity, RequestHead, Untranslatable
from parsers.dialects.passthrough import DETOKENIZE, EMBEDDINGS, RERANK, TOKENIZE, Passthrough
from parsers.errors import BadPayload
from parsers.events import Ended, Failed, FaultKind, StreamEvent, Usage

ALL = pytest.mark.parametrize("dialect", [EMBEDDINGS, RERANK, TOKENIZE, DETOKENIZE])


def forwarded(dialect: Passthrough, body: bytes) -> bytes:
    return dialect.forward(body, "up", usage=True, amend=dialect.amend)


def test_the_head_of_a_request_is_its_model_and_never_a_stream() -> None:
    head = EMBEDDINGS.peek(b'{"input":["a"],"model":"m","stream":true}')

    assert msgspec.structs.replace(head, members=None) == RequestHead("m")
    assert EMBEDDINGS.peek(b'{"model":null}').model == ""


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the request body is not valid JSON"),
        (b"[]", "the request body: expected `object`, got `array`"),
        (b'{"model":7}', "model: expected `str | null`, got `int`"),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_a_text(body: bytes, complaint: str) -> None:
    with pytest.raises(BadPayload) as refused:
        EMBEDDINGS.peek(body)

    assert str(refused.value) == complaint


@pytest.mark.parametrize(
    "input_", [b'"a"', b'["a", "\\u0062"]', b"[1,2]", b"[[1],[2.50e1]]", b'[{"text":"a"}]']
)
def test_only_the_model_is_renamed(input_: bytes) -> None:
    body = b'{"input":%b,"model":"m","encoding_format":"base64","dimensions":1e1}' % input_

    assert forwarded(EMBEDDINGS, body) == body.replace(b'"m"', b'"up"')


def test_what_peek_read_need_not_be_read_again() -> None:
    body = b'{"query":"q","documents":["a"],"model":"m"}'

    again = RERANK.forward(
        b"", "up", usage=False, amend=RERANK.amend, members=RERANK.peek(body).members
    )

    assert again == forwarded(RERANK, body)


@pytest.mark.parametrize("body", [b'{ "inputs":"a" }', b'{"model":null, "prompt":"a"}'])
def test_who_names_no_model_to_a_tokenizer_names_none(body: bytes) -> None:
    assert forwarded(TOKENIZE, body) == body
    assert forwarded(TOKENIZE, b'{"model":"m"}') == b'{"model":"up"}'


@pytest.mark.parametrize(
    ("dialect", "body", "events"),
    [
        (
            EMBEDDINGS,
            b'{"object":"list","data":[{"embedding":[0.1]}],"model":"m",'
            b'"usage":{"prompt_tokens":5,"total_tokens":5}}',
            [Usage(5, 0), Ended()],
        ),
        (EMBEDDINGS, b'{"data":[]}', [Ended()]),
        (EMBEDDINGS, b'{"data":[],"usage":{"prompt_tokens":-1}}', [Ended()]),
        (EMBEDDINGS, b'{"data":[],"usage":{"prompt_tokens":"5"}}', [Ended()]),
        (RERANK, b'{"results":[],"usage":{"total_tokens":7}}', [Usage(7, 0), Ended()]),
        (RERANK, b'[{"index":0,"score":0.5}]', [Ended()]),
        (TOKENIZE, b'{"count":1,"max_model_len":9,"tokens":[1]}', [Ended()]),
        (TOKENIZE, b'[{"id":1,"text":"a","start":0,"stop":1}]', [Ended()]),
        (DETOKENIZE, b'{"prompt":"a"}', [Ended()]),
        (DETOKENIZE, b'{"content":""}', [Ended()]),
    ],
)
def test_an_answer_is_judged_by_what_it_must_have(
    dialect: Passthrough, body: bytes, events: list[StreamEvent]
) -> None:
    assert dialect.judge_body(body) == events


@pytest.mark.parametrize(
    ("dialect", "body", "kind"),
    [
        (EMBEDDINGS, b"", FaultKind.PROTOCOL),
        (EMBEDDINGS, b"<html>", FaultKind.PROTOCOL),
        (EMBEDDINGS, b"[]", FaultKind.PROTOCOL),
        (EMBEDDINGS, b"{}", FaultKind.PROTOCOL),
        (EMBEDDINGS, b'{"data":[1,}', FaultKind.PROTOCOL),
        (EMBEDDINGS, b'{"data":[],"error":{"message":"no","code":400}}', FaultKind.INVALID_REQUEST),
        (RERANK, b'{"object":"error","message":"busy","code":503}', FaultKind.OVERLOADED),
    ],
)
def test_what_is_no_answer_is_a_fault(dialect: Passthrough, body: bytes, kind: FaultKind) -> None:
    (event,) = dialect.decode_body(body)

    assert isinstance(event, Failed)
    assert event.fault.kind is kind


def test_a_failed_call_is_told_by_status_and_body() -> None:
    fault = EMBEDDINGS.decode_error(404, b'{"error":{"message":"no such model"}}')

    assert (fault.kind, fault.message) == (FaultKind.UNKNOWN_MODEL, "no such model")
    assert EMBEDDINGS.encode_error(fault, 404).startswith(b'{"error":{"message":"no such model"')
    assert EMBEDDINGS.error_frame(fault, 404).startswith(b'data: {"error":')
    assert EMBEDDINGS.error_status(fault, 404, streaming=False) == 404
    assert EMBEDDINGS.without_usage(b"x") == b"x"


@ALL
def test_nothing_is_translated_and_nothing_streamed(dialect: Passthrough) -> None:
    with pytest.raises(BadPayload, match="not supported for this model"):
        dialect.decode_request(b"{}")
    with pytest.raises(Untranslatable):
        dialect.encode_request(CompletionRequest("m", "p"), "m")
    with pytest.raises(Untranslatable):
        dialect.encode_body([], Identity("", 0, ""))
    with pytest.raises(Untranslatable):
        dialect.stream_encoder(Identity("", 0, ""), include_usage=True)
    with pytest.raises(Untranslatable):
        dialect.stream_decoder()
    assert not dialect.words
