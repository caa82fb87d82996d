"""OpenAI text completions, for their clients and their servers, and TGI's form of them."""

from __future__ import annotations

from typing import Any

import msgspec
import openai.types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.chat import ChatRequest, CompletionRequest, Operation, Sampling
from parsers.dialects.base import (
    ClientDialect,
    Identity,
    Members,
    RequestHead,
    Untranslatable,
    UpstreamDialect,
)
from parsers.dialects.completions import OPENAI_COMPLETIONS, TGI_COMPLETIONS
from parsers.errors import BadPayload, FrameTooLarge
from parsers.events import (
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    Refusal,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)
from parsers.sse import SSEParser

IDENTITY = Identity(id="cmpl-1", created=7, model="m")


def test_both_dialects_are_one_to_a_client() -> None:
    clients: list[ClientDialect] = [OPENAI_COMPLETIONS, TGI_COMPLETIONS]
    upstreams: list[UpstreamDialect] = [OPENAI_COMPLETIONS, TGI_COMPLETIONS]

    assert {dialect.name for dialect in clients} == {"openai-completions"}
    assert {dialect.name for dialect in upstreams} == {"openai-completions"}
    assert {dialect.operation for dialect in clients} == {Operation.COMPLETION}
    assert OPENAI_COMPLETIONS.keepalive == b": keep-alive\n\n"


# Reading a request


def test_the_head_of_a_request_is_model_stream_and_usage() -> None:
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"prompt":[1]}'

    head = msgspec.structs.replace(OPENAI_COMPLETIONS.peek(body), members=None)
    assert head == RequestHead("m", stream=True, include_usage=True)


def test_every_member_that_the_hub_knows_is_read() -> None:
    request = OPENAI_COMPLETIONS.decode_request(
        b'{"model":"m","prompt":"Hi","stream":true,"stream_options":{"include_usage":true},'
        b'"max_tokens":5,"temperature":0.5,"top_p":0.9,"top_k":7,"typical_p":0.8,'
        b'"repetition_penalty":1.1,"stop":["a","b"],"seed":-3,"n":2,"best_of":2,'
        b'"presence_penalty":0.1,"frequency_penalty":0.2,"logprobs":0,"suffix":"}","echo":true,'
        b'"user":"u","logit_bias":{"50256":-100},"new_member":1}'
    )

    assert request == CompletionRequest(
        model="m",
        prompt="Hi",
        stream=True,
        include_usage=True,
        sampling=Sampling(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            top_k=7,
            typical_p=0.8,
            stop=("a", "b"),
            seed=-3,
            choices=2,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            repetition_penalty=1.1,
            logprobs=0,
        ),
        suffix="}",
        echo=True,
        user="u",
        passed_over=("logit_bias", "other"),
    )


@pytest.mark.parametrize("prompt", [b'"Hi"', b'["Hi"]'])
def test_one_prompt_is_one_with_or_without_an_array(prompt: bytes) -> None:
    request = OPENAI_COMPLETIONS.decode_request(b'{"prompt":%b,"stop":"\\n"}' % prompt)

    assert request == CompletionRequest(model="", prompt="Hi", sampling=Sampling(stop=("\n",)))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the request body is not valid JSON"),
        (b'{"prompt":7}', "prompt: expected `str | array | null`, got `int`"),
        (b"{}", "prompt: missing"),
        (
            b'{"prompt":["a","b"]}',
            "prompt: this model takes one text, not several and not token ids",
        ),
        (b'{"prompt":[]}', "prompt: this model takes one text, not several and not token ids"),
        (b'{"prompt":[1]}', "prompt: this model takes one text, not several and not token ids"),
        (b'{"prompt":[[1]]}', "prompt: this model takes one text, not several and not token ids"),
        (b'{"prompt":"Hi","best_of":2}', "best_of: not supported for this model"),
        (b'{"prompt":"Hi","guided_json":{}}', "guided_json: not supported for this model"),
        (b'{"prompt":"Hi","response_format":{}}', "response_format: not supported for this model"),
        (b'{"prompt":"Hi","stop_token_ids":[1]}', "stop_token_ids: not supported for this model"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_a_text(body: bytes, complaint: str) -> None:
    with pytest.raises(BadPayload) as refused:
        OPENAI_COMPLETIONS.decode_request(body)

    assert str(refused.value) == complaint


# Passing a request on


def test_several_prompts_are_passed_on_untouched() -> None:
    body = b'{"model":"ours","prompt":["a", "\\u0062"],"temperature":1e0}'

    assert OPENAI_COMPLETIONS.forward(
        body, "theirs", usage=True, amend=OPENAI_COMPLETIONS.amend
    ) == (b'{"model":"theirs","prompt":["a", "\\u0062"],"temperature":1e0}')


def test_usage_is_asked_for_where_the_answer_is_streamed() -> None:
    forwarded = OPENAI_COMPLETIONS.forward(
        b'{"model":"m","prompt":"a","stream":true}', "m", usage=True, amend=lambda members: None
    )

    assert forwarded == (
        b'{"model":"m","prompt":"a","stream":true,"stream_options":{"include_usage":true}}'
    )


def test_the_usage_frame_can_be_taken_out_and_a_chunk_with_usage_cannot() -> None:
    text = b'data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":1}}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'

    assert OPENAI_COMPLETIONS.without_usage(text + usage) == text


def amended(body: bytes) -> bytes:
    return TGI_COMPLETIONS.forward(body, "tgi", usage=False, amend=TGI_COMPLETIONS.amend)


def test_what_tgi_reads_differently_is_rewritten() -> None:
    body = (
        b'{"model":"m","prompt":"a","top_p":1.0,"stop":"\\u000a","n":1,"best_of":1,"echo":false,'
        b'"logprobs":null,"suffix":"","stream_options":null,"temperature":0.0}'
    )

    assert amended(body) == b'{"model":"tgi","prompt":"a","stop":["\\u000a"],"temperature":0.0}'


def test_what_tgi_reads_alike_keeps_its_bytes() -> None:
    body = b'{"model":"tgi","prompt":"a","top_p":0.90,"stop":[ "a" ]}'

    assert amended(body) == body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", b"2"),
        ("best_of", b"2"),
        ("echo", b"true"),
        ("logprobs", b"0"),
        ("suffix", b'"}"'),
    ],
)
def test_what_tgi_would_ignore_and_must_not_is_refused_by_name(field: str, value: bytes) -> None:
    body = b'{"model":"m","prompt":"a","%b":%b}' % (field.encode(), value)

    with pytest.raises(BadPayload) as refused:
        amended(body)

    assert isinstance(refused.value, Untranslatable)
    assert refused.value.field == field


def test_a_top_p_that_is_no_number_is_the_clients_fault() -> None:
    with pytest.raises(BadPayload):
        amended(b'{"prompt":"a","top_p":"much"}')


# Asking a server


def test_a_plain_request_says_no_more_than_it_has_to() -> None:
    request = CompletionRequest(model="ours", prompt="Hi")

    assert OPENAI_COMPLETIONS.encode_request(request, "theirs") == (
        b'{"model":"theirs","prompt":"Hi"}'
    )


def test_usage_is_asked_for_only_in_a_stream() -> None:
    request = CompletionRequest(model="", prompt="Hi", stream=True, include_usage=True)
    whole = msgspec.structs.replace(request, stream=False)

    assert OPENAI_COMPLETIONS.encode_request(request, "m") == (
        b'{"model":"m","prompt":"Hi","stream":true,"stream_options":{"include_usage":true}}'
    )
    assert OPENAI_COMPLETIONS.encode_request(whole, "m") == b'{"model":"m","prompt":"Hi"}'


def test_a_request_for_tgi_is_rewritten_too() -> None:
    request = CompletionRequest(
        model="", prompt="Hi", sampling=Sampling(top_p=1.0, stop=("a",), temperature=0.0)
    )

    assert TGI_COMPLETIONS.encode_request(request, "tgi") == (
        b'{"model":"tgi","prompt":"Hi","temperature":0.0,"stop":["a"]}'
    )


def test_a_conversation_is_refused() -> None:
    with pytest.raises(Untranslatable) as refused:
        OPENAI_COMPLETIONS.encode_request(ChatRequest("m", ()), "m")

    assert refused.value.field == "messages"


NUMBERS = st.none() | st.floats(0, 2)
SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(0, 10_000),
    temperature=NUMBERS,
    top_p=NUMBERS,
    top_k=st.none() | st.integers(-1, 100),
    typical_p=NUMBERS,
    stop=st.lists(st.text(), max_size=4).map(tuple),
    seed=st.none() | st.integers(-(2**70), 2**70),
    choices=st.none() | st.integers(1, 8),
    presence_penalty=NUMBERS,
    frequency_penalty=NUMBERS,
    repetition_penalty=NUMBERS,
    logprobs=st.none() | st.integers(0, 5),
)
REQUESTS = st.builds(
    CompletionRequest,
    model=st.text(),
    prompt=st.text(),
    stream=st.just(value=True),
    include_usage=st.booleans(),
    sampling=SAMPLINGS,
    suffix=st.none() | st.text(),
    echo=st.booleans(),
    user=st.none() | st.text(),
)


@given(request_=REQUESTS)
def test_a_request_there_and_back_is_the_same(request_: CompletionRequest) -> None:
    body = OPENAI_COMPLETIONS.encode_request(request_, request_.model)

    assert OPENAI_COMPLETIONS.decode_request(body) == request_


# Reading an answer


def read(*pieces: bytes) -> list[StreamEvent]:
    decoder = OPENAI_COMPLETIONS.stream_decoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


FIRST = b'data: {"id":"x","created":7,"model":"m","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}\n\n'  # noqa: E501 - one line on the wire
LAST = b'data: {"choices":[{"index":0,"text":"b","finish_reason":"stop","stop_reason":"\\n"}]}\n\n'
DONE = b"data: [DONE]\n\n"
SAID: list[StreamEvent] = [
    Started("x", "m", 7),
    Text("a"),
    Text("b"),
    Finished(FinishReason.STOP, raw="stop", stop="\n"),
]


def test_a_stream_is_its_texts_its_finish_and_its_end_mark() -> None:
    assert read(FIRST + LAST + DONE) == [*SAID, Ended()]


@given(cuts=st.lists(st.integers(0, len(FIRST + LAST + DONE)), max_size=9).map(sorted))
def test_the_cuts_between_reads_do_not_matter(cuts: list[int]) -> None:
    body = FIRST + LAST + DONE
    ends = zip([0, *cuts], [*cuts, len(body)], strict=True)

    assert read(*(body[start:end] for start, end in ends)) == [*SAID, Ended()]


def test_a_finish_without_an_end_mark_is_an_end() -> None:
    assert read(FIRST + LAST) == [*SAID, Ended(marked=False)]


@pytest.mark.parametrize("tail", [b"", b'data: {"choices":[{"text":"b', b": ping\n\n"])
def test_an_end_without_either_is_truncation(tail: bytes) -> None:
    *said, last = read(FIRST + tail)

    assert said == [Started("x", "m", 7), Text("a")]
    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.TRUNCATED


def test_a_choice_still_open_at_the_end_is_truncation() -> None:
    other = b'data: {"choices":[{"index":1,"text":"c"}]}\n\n'

    assert isinstance(read(FIRST + other + LAST)[-1], Failed)


def test_nothing_is_heard_after_the_end() -> None:
    decoder = OPENAI_COMPLETIONS.stream_decoder()

    assert decoder.feed(FIRST + LAST + DONE + FIRST)[-1] == Ended()
    assert decoder.feed(FIRST) == []
    assert decoder.close() == []
    assert decoder.pending_bytes == 0


def test_an_empty_finish_reason_is_none() -> None:
    assert read(FIRST.replace(b'"finish_reason":null', b'"finish_reason":""') + DONE) == [
        Started("x", "m", 7),
        Text("a"),
        Ended(proven=False),
    ]


def test_logprobs_keep_their_bytes_also_beside_a_text_that_is_not_yet_there() -> None:
    chunk = b'data: {"choices":[{"text":"","logprobs":{"tokens": ["\\u0061"]}}]}\n\n'

    assert read(chunk + DONE) == [
        Started(),
        Text("", logprobs=msgspec.Raw(b'{"tokens": ["\\u0061"]}')),
        Ended(proven=False),
    ]


def test_usage_of_several_choices_is_added_up_and_a_final_report_replaces_it() -> None:
    def chunk(choices: bytes, usage: bytes) -> bytes:
        return b'data: {"choices":[%b],"usage":{%b}}\n\n' % (choices, usage)

    one = chunk(b'{"index":0,"text":"a"}', b'"prompt_tokens":3,"completion_tokens":1')
    more = chunk(b'{"index":0,"text":"b"}', b'"prompt_tokens":3,"completion_tokens":2')
    other = chunk(
        b'{"index":1,"text":"c"}',
        b'"prompt_tokens":4,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2}',
    )
    final = chunk(b"", b'"prompt_tokens":7,"completion_tokens":9')

    reports = [event for event in read(one + more + other + final + DONE) if type(event) is Usage]

    assert reports == [Usage(3, 1), Usage(3, 2), Usage(7, 7, cached=2), Usage(7, 9)]


def test_an_error_for_a_reason_comes_after_all_that_its_chunk_says() -> None:
    chunk = (
        b'data: {"choices":[{"index":0,"text":"a","finish_reason":"error"},'
        b'{"index":1,"text":"b"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    )

    *said, last = read(chunk + DONE)

    assert said == [Started(), Text("a"), Text("b", 1), Usage(3, 1)]
    assert isinstance(last, Failed)


@pytest.mark.parametrize("size", [1, 1000])
def test_an_error_line_ends_the_stream_where_it_stands(size: int) -> None:
    body = FIRST + b'error: {"message":"gone","code":500}\n\n' + LAST + DONE

    *said, last = read(*(body[at : at + size] for at in range(0, len(body), size)))

    assert said == [Started("x", "m", 7), Text("a")]
    assert isinstance(last, Failed)
    assert last.fault.message == "gone"


def test_an_error_event_ends_the_stream() -> None:
    error = b'data: {"error":{"message":"no","type":"server_error","param":null,"code":null}}\n\n'

    (last,) = read(error + FIRST + DONE)

    assert isinstance(last, Failed)
    assert last.fault.message == "no"
    assert last.fault.type == "server_error"


@pytest.mark.parametrize(
    "chunk", [b"data: nonsense\n\n", b'data: {"choices":7}\n\n', b'data: "text"\n\n']
)
def test_an_event_that_is_no_chunk_breaks_the_stream(chunk: bytes) -> None:
    *said, last = read(FIRST + chunk + LAST + DONE)

    assert said == [Started("x", "m", 7), Text("a")]
    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.PROTOCOL


def test_more_choices_than_any_answer_has_break_the_stream() -> None:
    chunks = b"".join(
        b'data: {"choices":[{"index":%d,"text":"a"}]}\n\n' % index for index in range(200)
    )

    assert isinstance(read(chunks)[-1], Failed)


def test_an_event_over_the_limit_is_an_error_that_tells_what_came_before() -> None:
    decoder = OPENAI_COMPLETIONS.stream_decoder(max_event_bytes=150)

    with pytest.raises(FrameTooLarge) as refused:
        decoder.feed(FIRST + b"data: " + b"x" * 200)

    assert refused.value.events == [Started("x", "m", 7), Text("a")]


BODY = (
    b'{"id":"x","object":"text_completion","created":7,"model":"m","choices":[{"text":"ab",'
    b'"index":0,"logprobs":null,"finish_reason":"length"},{"text":"","index":1,"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)
BODY_EVENTS: list[StreamEvent] = [
    Started("x", "m", 7),
    Text("ab"),
    Finished(FinishReason.LENGTH, raw="length"),
    Finished(FinishReason.STOP, choice=1, raw="stop"),
    Usage(3, 2),
    Ended(),
]


def test_a_whole_answer_is_the_same_events() -> None:
    assert OPENAI_COMPLETIONS.decode_body(BODY) == BODY_EVENTS


def test_a_whole_answer_in_place_of_a_stream_is_read_as_one() -> None:
    assert read(BODY) == BODY_EVENTS


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FaultKind.PROTOCOL),
        (b"<html>", FaultKind.PROTOCOL),
        (b'{"choices":[]}', FaultKind.PROTOCOL),
        (b'{"error":{"message":"Model is overloaded"}}', FaultKind.OVERLOADED),
        (b'{"choices":[{"index":0,"finish_reason":"error"}]}', FaultKind.UPSTREAM),
        (
            b'{"choices":[%b]}' % b",".join(b'{"index":%d}' % index for index in range(200)),
            FaultKind.PROTOCOL,
        ),
    ],
)
def test_a_body_that_is_no_answer_is_a_fault(body: bytes, kind: FaultKind) -> None:
    last = OPENAI_COMPLETIONS.decode_body(body)[-1]

    assert isinstance(last, Failed)
    assert last.fault.kind is kind


def test_a_failed_call_says_what_it_was_about() -> None:
    body = b'{"error":"suffix not supported","error_type":"suffix not supported"}'

    assert TGI_COMPLETIONS.decode_error(422, body).kind is FaultKind.INVALID_REQUEST


# Answering a client


def write(events: list[StreamEvent], *, usage: bool = False) -> bytes:
    encoder = OPENAI_COMPLETIONS.stream_encoder(IDENTITY, include_usage=usage)
    return b"".join(encoder.encode(event) for event in events)


def test_a_stream_has_a_chunk_for_each_piece_a_finish_and_the_end_mark() -> None:
    head = b'data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":'

    said: list[StreamEvent] = [
        Started("y"),
        Text("a"),
        Finished(FinishReason.LENGTH),
        Usage(1, 1),
        Ended(),
    ]
    assert write(said) == (
        head + b'[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}\n\n'
        + head + b'[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}\n\n'
        + b"data: [DONE]\n\n"
    )  # fmt: skip


CHAT_LOGPROBS = msgspec.Raw(
    b'{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":'
    b'[{"token":"a","logprob":-0.5},{"token":"b","logprob":-1.5}]},{"token":"c","logprob":-2.0}]}'
)
IN_LISTS = (
    b'"logprobs":{"tokens":["a","c"],"token_logprobs":[-0.5,-2.0],'
    b'"top_logprobs":[{"a":-0.5,"b":-1.5},{}]}'
)


def test_logprobs_of_a_chat_are_told_in_lists() -> None:
    text = Text("ac", logprobs=CHAT_LOGPROBS)
    identity = Identity("i", 0, "m")

    encoder = OPENAI_COMPLETIONS.stream_encoder(identity, include_usage=False)
    assert IN_LISTS in encoder.encode(text)
    assert IN_LISTS in OPENAI_COMPLETIONS.encode_body([text, Ended()], identity)


def test_usage_comes_before_the_end_mark_and_is_null_until_then() -> None:
    frames = write([Text("a"), Finished(FinishReason.STOP), Usage(3, 2), Ended()], usage=True)

    assert frames.count(b'"usage":null}\n\n') == 2
    assert frames.endswith(
        b'"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
        b"data: [DONE]\n\n"
    )


def test_what_our_words_cannot_say_stays_readable_beside_them() -> None:
    frames = write([Finished(FinishReason.STOP, raw="eos_token", stop="\n")])

    assert frames.endswith(
        b'"finish_reason":"stop","native_finish_reason":"eos_token","stop_reason":"\\n"}]}\n\n'
    )


def test_no_finish_reason_is_made_up() -> None:
    frames = write([Text("a"), Refusal("b", choice=1), Finished(FinishReason.LENGTH), Ended()])

    assert frames.count(b'"finish_reason":"length"') == 1
    assert frames.count(b'"finish_reason":"') == 1
    assert frames.endswith(DONE)


def test_an_answer_without_a_word_is_the_end_mark_and_whole_one_empty_choice() -> None:
    assert write([Ended()]) == DONE
    assert b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":null}]' in (
        OPENAI_COMPLETIONS.encode_body([Ended()], IDENTITY)
    )


def test_thinking_and_tool_calls_have_no_place_in_raw_text() -> None:
    said: list[StreamEvent] = [Thinking("hm"), ToolCall(0, "a", "f"), ToolArguments(0, "{}")]

    assert write(said) == b""


def test_a_failure_is_one_error_frame_without_an_end_mark() -> None:
    fault = Fault(FaultKind.TRUNCATED, "upstream", "cut")

    frame = OPENAI_COMPLETIONS.error_frame(fault, 502)

    assert frame == b"data: " + OPENAI_COMPLETIONS.encode_error(fault, 502) + b"\n\n"
    assert frame == (
        b'data: {"error":{"message":"cut","type":"server_error","param":null,'
        b'"code":"truncated"}}\n\n'
    )
    assert write([Failed(fault)]) == frame


def test_a_whole_answer_folds_its_choices_and_their_logprobs() -> None:
    events: list[StreamEvent] = [
        Text("c", choice=1, logprobs=msgspec.Raw(b'{"content":[1]}')),  # chat's form: left out
        Text("a", logprobs=msgspec.Raw(b'{"tokens":["a"],"token_logprobs":[-1e0]}')),
        Refusal("x"),
        Text("b", logprobs=msgspec.Raw(b'{"tokens":["b"],"token_logprobs":[-2e0]}')),
        Text("d", logprobs=msgspec.Raw(b"[]")),
        Finished(FinishReason.LENGTH, raw="length"),
        Usage(3, 2),
        Ended(),
    ]

    assert OPENAI_COMPLETIONS.encode_body(events, IDENTITY) == (
        b'{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":['
        b'{"index":0,"text":"axbd","logprobs":{"tokens":["a","b"],"token_logprobs":[-1e0,-2e0]},'
        b'"finish_reason":"length"},'
        b'{"index":1,"text":"c","logprobs":null,"finish_reason":null}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
    )


FINISHES = st.sampled_from(
    [
        Finished(FinishReason.STOP, raw="stop"),
        Finished(FinishReason.LENGTH, raw="length"),
        Finished(FinishReason.CONTENT_FILTER, raw="content_filter"),
    ]
)
LOGPROBS = st.none() | st.just(msgspec.Raw(b'{"tokens":["a"]}'))


@given(
    texts=st.lists(st.builds(Text, st.text(min_size=1), st.integers(0, 2), LOGPROBS)),
    finish=FINISHES,
    usage=st.none()
    | st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.none() | st.just(1)),
)
def test_what_is_written_reads_back_as_it_was_said(
    texts: list[Text], finish: Finished, usage: Usage | None
) -> None:
    choices = sorted({text.choice for text in texts}) or [0]
    events: list[StreamEvent] = [
        Started("cmpl-1", "m", 7),
        *texts,
        *(msgspec.structs.replace(finish, choice=choice) for choice in choices),
        *([usage] if usage else []),
        Ended(),
    ]

    assert read(write(events, usage=True)) == events


@given(texts=st.dictionaries(st.integers(0, 3), st.text(min_size=1), min_size=1), finish=FINISHES)
def test_a_body_that_is_written_reads_back_as_it_was_said(
    texts: dict[int, str], finish: Finished
) -> None:
    events: list[StreamEvent] = [Started("cmpl-1", "m", 7)]
    for choice in sorted(texts):
        events += [Text(texts[choice], choice), msgspec.structs.replace(finish, choice=choice)]
    events += [Usage(1, 2), Ended()]

    body = OPENAI_COMPLETIONS.encode_body(events, IDENTITY)

    assert OPENAI_COMPLETIONS.decode_body(body) == events


# The official client's types


def payloads(frames: bytes) -> list[Any]:  # whatever JSON the client would read
    events = SSEParser().feed(frames)
    return [msgspec.json.decode(event.data) for event in events if event.data != b"[DONE]"]


def test_the_openai_client_takes_our_chunks_and_our_body() -> None:
    events: list[StreamEvent] = [Text("a"), Finished(FinishReason.STOP), Usage(3, 2), Ended()]
    client = openai.types.Completion

    # As the client does: OpenAI's own chunks have `finish_reason: null`, which its type forbids.
    chunks = [client.construct(**value) for value in payloads(write(events, usage=True))]
    whole = client.model_validate_json(OPENAI_COMPLETIONS.encode_body(events, IDENTITY))

    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "a"
    assert whole.choices[0].text == "a"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 5


def test_amend_is_nothing_for_a_server_that_speaks_its_dialect() -> None:
    members: Members = {"n": msgspec.Raw(b"2")}

    OPENAI_COMPLETIONS.amend(members)

    assert members == {"n": msgspec.Raw(b"2")}
