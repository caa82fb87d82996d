"""TGI's own protocol, for its clients and its servers."""

from __future__ import annotations

from typing import Any

import huggingface_hub
import msgspec
import pytest
import text_generation.types
from huggingface_hub.inference import _common as hub_client
from hypothesis import given
from hypothesis import strategies as st
from text_generation.errors import (
    GenerationError,
    IncompleteGenerationError,
    NotFoundError,
    OverloadedError,
    ValidationError,
    parse_error,
)

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    Message,
    Operation,
    OutputSchema,
    Sampling,
    TextPart,
    Tool,
)
from parsers.dialects.base import (
    ClientDialect,
    Identity,
    Members,
    RequestHead,
    Untranslatable,
    UpstreamDialect,
)
from parsers.dialects.tgi import TGI, TGI_COMPAT
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

IDENTITY = Identity(id="cmpl-1", created=1, model="m")


def test_both_dialects_are_client_and_upstream() -> None:
    clients: list[ClientDialect] = [TGI, TGI_COMPAT]
    upstreams: list[UpstreamDialect] = [TGI, TGI_COMPAT]

    assert [dialect.name for dialect in clients] == ["tgi", "tgi-compat"]
    assert [dialect.name for dialect in upstreams] == ["tgi", "tgi-compat"]
    assert {dialect.operation for dialect in clients} == {Operation.COMPLETION}
    assert {dialect.keepalive for dialect in clients} == {b":\n\n"}


# Reading a request


def test_the_head_of_a_native_request_is_whether_details_were_asked() -> None:
    assert TGI.peek(b'{"inputs":"Hi"}') == RequestHead()
    assert TGI.peek(b'{"inputs":"Hi","parameters":null}') == RequestHead()
    assert TGI.peek(b'{"inputs":"Hi","parameters":{"details":true}}') == RequestHead(
        include_usage=True
    )


def test_only_the_compat_route_reads_the_stream_flag() -> None:
    body = b'{"inputs":"Hi","stream":true}'

    assert TGI.peek(body).stream is False
    assert TGI.decode_request(body).stream is False
    assert TGI_COMPAT.peek(body).stream is True
    assert TGI_COMPAT.decode_request(body).stream is True


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the request body is not valid JSON"),
        (b"nonsense", "the request body is not valid JSON"),
        (b'{"x":' + b"[" * 100_000, "the request body is not valid JSON"),
        (b"[]", "the request body: expected `object`, got `array`"),
        (b"{}", "the request body: object missing required field `inputs`"),
        (b'{"inputs":["a"]}', "inputs: expected `str`, got `array`"),
        (b'{"inputs":"Hi","parameters":[]}', "parameters: expected `object | null`, got `array`"),
        (
            b'{"inputs":"Hi","parameters":{"details":"yes"}}',
            "parameters.details: expected `bool | null`, got `str`",
        ),
    ],
)
def test_what_is_no_generate_request_is_refused_with_a_text(body: bytes, complaint: str) -> None:
    for read_request in (TGI.peek, TGI.decode_request):
        with pytest.raises(BadPayload) as refused:
            read_request(body)

        assert str(refused.value) == complaint


def test_a_stop_that_is_a_string_is_refused_as_tgi_does() -> None:
    with pytest.raises(BadPayload, match=r"^parameters.stop: expected `array \| null`, got `str`$"):
        TGI.decode_request(b'{"inputs":"Hi","parameters":{"stop":"x"}}')


def test_every_parameter_that_the_hub_knows_is_read() -> None:
    request = TGI.decode_request(
        b'{"inputs":"Hi","parameters":{"do_sample":true,"temperature":0.5,"top_p":0.9,"top_k":7,'
        b'"typical_p":0.8,"max_new_tokens":20,"stop":["a","b"],"seed":1729382256910270464,'
        b'"frequency_penalty":0.1,"repetition_penalty":1.2,"return_full_text":true,'
        b'"details":true,"watermark":true,"truncate":5,"new_in_tgi_4":1}}'
    )

    assert request == CompletionRequest(
        model="",
        prompt="Hi",
        include_usage=True,
        sampling=Sampling(
            max_tokens=20,
            temperature=0.5,
            top_p=0.9,
            top_k=7,
            typical_p=0.8,
            stop=("a", "b"),
            seed=1729382256910270464,
            frequency_penalty=0.1,
            repetition_penalty=1.2,
        ),
        echo=True,
        details=True,
    )


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [
        (b"null", None),  # without the object TGI samples
        (b"{}", 0.0),  # with an empty one it does not
        (b'{"do_sample":false}', 0.0),
        (b'{"do_sample":null}', 0.0),
        (b'{"temperature":1.0}', 0.0),
        (b'{"do_sample":true}', None),
        (b'{"do_sample":false,"temperature":0.7}', 0.7),  # a warper switches sampling on
        (b'{"do_sample":false,"top_p":0.5}', None),
        (b'{"do_sample":false,"top_k":5}', None),
        (b'{"do_sample":false,"typical_p":0.5}', None),
    ],
)
def test_greedy_where_tgi_would_be(parameters: bytes, temperature: float | None) -> None:
    request = TGI.decode_request(b'{"inputs":"Hi","parameters":%b}' % parameters)

    assert request.sampling.temperature == temperature


@pytest.mark.parametrize(
    ("parameters", "echo"),
    [
        (b"{}", False),
        (b'{"return_full_text":null}', False),
        (b'{"return_full_text":false}', False),
        (b'{"return_full_text":true}', True),
    ],
)
def test_a_compat_answer_repeats_the_prompt_only_when_told_to(
    parameters: bytes, echo: bool
) -> None:
    assert TGI_COMPAT.decode_request(b'{"inputs":"Hi","parameters":%b}' % parameters).echo is echo


def test_a_compat_stream_does_not_repeat_the_prompt_unasked() -> None:
    assert TGI_COMPAT.decode_request(b'{"inputs":"Hi","stream":true}').echo is False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("adapter_id", b'"lora"'),
        ("best_of", b"2"),
        ("decoder_input_details", b"true"),
        ("grammar", b'{"type":"regex","value":"a+"}'),
        ("top_n_tokens", b"3"),
    ],
)
def test_what_would_change_the_answer_and_has_no_word_is_refused_by_name(
    field: str, value: bytes
) -> None:
    with pytest.raises(BadPayload, match=f"^parameters.{field}: not supported"):
        TGI.decode_request(b'{"inputs":"Hi","parameters":{"%b":%b}}' % (field.encode(), value))


def test_what_the_official_client_sends_by_default_is_accepted() -> None:
    body = text_generation.types.Request(
        inputs="Hi",
        stream=True,
        parameters=text_generation.types.Parameters(details=True, max_new_tokens=20),
    )

    request = TGI_COMPAT.decode_request(body.model_dump_json().encode())

    assert request == CompletionRequest(
        model="",
        prompt="Hi",
        stream=True,
        include_usage=True,
        sampling=Sampling(max_tokens=20, temperature=0.0),
        details=True,
    )


# Passing a request on


def test_a_forwarded_request_keeps_every_byte() -> None:
    body = b' {"inputs": "\\u0048i",\n "parameters":{"seed": 1e2} , "inputs2":[1.0]}\n'

    assert TGI.forward(body, "ignored", usage=True, amend=TGI.amend) is body


def test_an_amended_request_keeps_the_bytes_of_the_other_values() -> None:
    def amend(members: Members) -> None:
        members["extra"] = msgspec.Raw(b"1")

    body = TGI.forward(b'{"inputs": "\\u0048i"}', "", usage=False, amend=amend)

    assert body == b'{"inputs":"\\u0048i","extra":1}'


def test_no_frame_is_taken_out_of_an_answer() -> None:
    frames = b'data: {"generated_text":"","details":{}}\n\n'

    assert TGI.without_usage(frames) == frames


# Asking a server


def completion(**sampling: Any) -> CompletionRequest:  # the parameters of Sampling
    return CompletionRequest(model="m", prompt="Hi", sampling=Sampling(**sampling))


def test_a_plain_request_asks_for_details_and_samples() -> None:
    assert TGI.encode_request(completion(), "m") == (
        b'{"inputs":"Hi","parameters":{"details":true,"do_sample":true,"return_full_text":false}}'
    )


def test_every_parameter_that_the_hub_has_is_asked() -> None:
    request = completion(
        max_tokens=20,
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        typical_p=0.8,
        stop=("a",),
        seed=7,
        choices=1,
        presence_penalty=0.0,
        frequency_penalty=0.1,
        repetition_penalty=1.2,
    )

    assert TGI.encode_request(request, "m") == (
        b'{"inputs":"Hi","parameters":{"details":true,"do_sample":true,"frequency_penalty":0.1,'
        b'"max_new_tokens":20,"repetition_penalty":1.2,"return_full_text":false,"seed":7,'
        b'"stop":["a"],"temperature":0.5,"top_k":7,"top_p":0.9,"typical_p":0.8}}'
    )


def test_temperature_zero_is_greedy_and_drops_every_warper() -> None:
    request = completion(temperature=0.0, top_p=0.9, top_k=7, typical_p=0.8)

    assert TGI.encode_request(request, "m") == (
        b'{"inputs":"Hi","parameters":{"details":true,"do_sample":false,"return_full_text":false}}'
    )


def test_what_tgi_refuses_though_it_means_off_and_what_it_does_not_know_is_dropped() -> None:
    request = completion(top_p=1.0, top_k=-1, typical_p=1.0, presence_penalty=0.5)

    assert TGI.encode_request(request, "m") == TGI.encode_request(completion(), "m")


def test_a_negative_seed_becomes_one_that_tgi_can_hold() -> None:
    assert b'"seed":18446744073709551615}' in TGI.encode_request(completion(seed=-1), "m")


def test_the_compat_route_is_told_whether_to_stream() -> None:
    request = msgspec.structs.replace(completion(), stream=True)

    assert TGI_COMPAT.encode_request(request, "m").endswith(b',"stream":true}')
    assert TGI_COMPAT.encode_request(completion(), "m").endswith(b',"stream":false}')
    assert b'"stream"' not in TGI.encode_request(request, "m")


def test_a_whole_answer_can_repeat_the_prompt() -> None:
    request = msgspec.structs.replace(completion(), echo=True)

    assert b'"return_full_text":true' in TGI.encode_request(request, "m")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (completion(choices=2), "n"),
        (completion(logprobs=0), "logprobs"),
        (msgspec.structs.replace(completion(), suffix="}"), "suffix"),
        (msgspec.structs.replace(completion(), echo=True, stream=True), "echo"),
        (ChatRequest("m", (), tools=(Tool("f"),)), "tools"),
        (ChatRequest("m", (), output=OutputSchema()), "response_format"),
    ],
)
def test_what_tgi_cannot_do_is_refused_by_the_clients_name(
    request_: ChatRequest | CompletionRequest, field: str
) -> None:
    with pytest.raises(Untranslatable) as refused:
        TGI.encode_request(request_, "m")

    assert refused.value.field == field


def test_a_conversation_becomes_a_transcript_and_a_schema_a_grammar() -> None:
    request = ChatRequest(
        "m",
        (Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("Hi"),))),
        sampling=Sampling(temperature=0.0),
        output=OutputSchema(msgspec.Raw(b'{"properties": {}}')),
    )

    assert TGI.encode_request(request, "m") == (
        b'{"inputs":"System: Be brief.\\n\\nUser: Hi\\n\\nAssistant:","parameters":{"details":true,'
        b'"do_sample":false,"grammar":{"type":"json","value":{"properties": {}}},'
        b'"return_full_text":false}}'
    )


def test_a_lone_question_without_a_schema_is_the_prompt() -> None:
    request = ChatRequest("m", (Message("user", (TextPart("Hi"),)),))

    assert TGI.encode_request(request, "m") == TGI.encode_request(completion(), "m")


OPEN_UNIT = st.floats(0.01, 0.99)
SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 10_000),
    temperature=st.sampled_from([None, 0.0]) | st.floats(0.01, 2),
    stop=st.lists(st.text(), max_size=4).map(tuple),
    seed=st.none() | st.integers(0, 2**64 - 1),
    frequency_penalty=st.none() | st.floats(-2, 2),
    repetition_penalty=st.none() | st.floats(0.01, 2),
) | st.builds(
    Sampling,
    temperature=st.none() | st.floats(0.01, 2),
    top_p=st.none() | OPEN_UNIT,
    top_k=st.none() | st.integers(1, 1000),
    typical_p=st.none() | OPEN_UNIT,
)


@given(sampling=SAMPLINGS, prompt=st.text(), stream=st.booleans(), echo=st.booleans())
def test_a_request_there_and_back_is_the_same(
    sampling: Sampling, prompt: str, stream: bool, echo: bool
) -> None:
    request = CompletionRequest(
        model="",
        prompt=prompt,
        stream=stream,
        include_usage=True,
        sampling=sampling,
        echo=echo and not stream,
        details=True,
    )

    assert TGI_COMPAT.decode_request(TGI_COMPAT.encode_request(request, "m")) == request


# Reading an answer

TOKEN = b'data: {"index":1,"token":{"id":1,"text":" A","logprob":-0.1,"special":false},'
MORE = TOKEN + b'"generated_text":null,"details":null}\n\n'
LAST = TOKEN + (
    b'"generated_text":" A A","details":{"finish_reason":"length","generated_tokens":2,'
    b'"seed":null,"input_length":3}}\n\n'
)
EVENTS: list[StreamEvent] = [
    Text(" A"),
    Text(" A"),
    Finished(FinishReason.LENGTH, raw="length"),
    Usage(3, 2),
    Ended(),
]


def read(*pieces: bytes) -> list[StreamEvent]:
    decoder = TGI.stream_decoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


def test_the_last_event_has_a_token_the_finish_reason_and_the_usage() -> None:
    assert read(MORE + LAST) == EVENTS


@given(cuts=st.lists(st.integers(0, len(MORE + LAST)), max_size=9).map(sorted))
def test_the_cuts_between_reads_do_not_matter(cuts: list[int]) -> None:
    body = MORE + LAST
    ends = zip([0, *cuts], [*cuts, len(body)], strict=True)

    assert read(*(body[start:end] for start, end in ends)) == EVENTS


def test_nothing_is_heard_after_the_end() -> None:
    decoder = TGI.stream_decoder()

    assert decoder.feed(LAST + MORE)[-1] == Ended()
    assert decoder.feed(MORE) == []
    assert decoder.close() == []


def test_bytes_of_a_half_event_are_pending() -> None:
    decoder = TGI.stream_decoder()

    decoder.feed(MORE + b"data:")

    assert decoder.pending_bytes == 5


def test_without_details_nothing_is_known_but_the_end() -> None:
    assert read(TOKEN + b'"generated_text":" A","details":null}\n\n') == [Text(" A"), Ended()]


def test_old_versions_tell_no_input_length_so_there_is_no_usage() -> None:
    details = b'{"finish_reason":"eos_token","generated_tokens":1,"seed":null}'

    assert read(TOKEN + b'"generated_text":" A","details":%b}\n\n' % details) == [
        Text(" A"),
        Finished(FinishReason.STOP, raw="eos_token"),
        Ended(),
    ]


def test_details_may_be_half_there() -> None:
    details = b'{"finish_reason":null,"input_length":3,"generated_tokens":2}'

    assert read(TOKEN + b'"generated_text":" A","details":%b}\n\n' % details) == [
        Text(" A"),
        Usage(3, 2),
        Ended(),
    ]


def test_a_count_that_no_answer_has_is_not_counted() -> None:
    details = b'{"finish_reason":"length","input_length":3,"generated_tokens":1%b}' % (b"0" * 400)

    assert Usage not in map(
        type, read(TOKEN + b'"generated_text":" A","details":%b}\n\n' % details)
    )


def test_a_reason_of_a_later_version_is_kept_as_it_is() -> None:
    details = b'{"finish_reason":"bored","generated_tokens":1}'

    assert Finished(FinishReason.STOP, raw="bored") in read(
        TOKEN + b'"generated_text":" A","details":%b}\n\n' % details
    )


@pytest.mark.parametrize(
    "filler",
    [b":\n\n", b"data:\n\n", b"data: : ping\n\n", b"data: {}\n\n", b"data: [DONE]\n\n"],
)
def test_keep_alives_of_any_kind_say_nothing(filler: bytes) -> None:
    assert read(filler + MORE + filler + LAST + filler) == EVENTS


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert read(MORE + LAST.rstrip()) == EVENTS


def test_an_error_in_a_field_of_its_own_ends_the_stream() -> None:
    (said, last) = read(MORE + b'error: {"message":"gone","code":500}\n\n')

    assert said == Text(" A")
    assert isinstance(last, Failed)
    assert last.fault.message == "gone"


def test_an_error_line_ends_the_stream_where_it_stands() -> None:
    body = MORE + b'error: {"message":"gone","code":500}\n\n' + LAST

    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        said, last = read(*pieces)

        assert said == Text(" A")
        assert isinstance(last, Failed)


def test_a_bare_json_error_at_the_end_is_told() -> None:
    (said, last) = read(MORE + b'{"error":"Model is overloaded","error_type":"overloaded"}')

    assert said == Text(" A")
    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.OVERLOADED


def test_a_whole_answer_in_place_of_a_stream_is_read_as_one() -> None:
    assert read(b'{"generated_text":" A"}') == [Text(" A"), Ended()]


@pytest.mark.parametrize("tail", [b"", b"data: {", LAST[:100], LAST[:-3], b"data: [DONE]\n\n"])
def test_an_end_without_generated_text_is_truncation(tail: bytes) -> None:
    *said, last = read(MORE + tail)

    assert said == [Text(" A")]
    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.TRUNCATED


def test_an_empty_body_is_truncation() -> None:
    assert isinstance(read()[0], Failed)


@pytest.mark.parametrize("payload", [b"nonsense", b'"text"', b'{"token":7}', b"[" * 100_000])
def test_an_event_that_is_not_tgis_breaks_the_stream(payload: bytes) -> None:
    events = read(MORE + b"data: " + payload + b"\n\n" + LAST)

    assert events[0] == Text(" A")
    assert isinstance(events[1], Failed)
    assert events[1].fault.kind is FaultKind.PROTOCOL
    assert len(events) == 2


def test_an_error_event_ends_the_stream() -> None:
    error = b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n'

    assert read(error + LAST) == [
        Failed(
            Fault(FaultKind.OVERLOADED, "upstream", "Model is overloaded", type="overloaded"),
        )
    ]


def test_an_error_that_is_no_json_is_known_by_the_events_name() -> None:
    (event,) = read(b"event: error\ndata: out of memory\n\n")

    assert isinstance(event, Failed)
    assert event.fault.message == "out of memory"


def test_an_event_over_the_limit_is_an_error() -> None:
    decoder = TGI.stream_decoder(max_event_bytes=100)

    small = b'data: {"token":{"text":"a"}}\n\n'
    with pytest.raises(FrameTooLarge) as refused:
        decoder.feed(small + b"data: " + b"x" * 200)

    assert refused.value.events == [Text("a")]


BODY = b'{"generated_text":" A A","details":{"finish_reason":"length","generated_tokens":2,"seed":7,"prefill":[],"tokens":[]}}'  # noqa: E501 - one line on the wire


@pytest.mark.parametrize("body", [BODY, b"[%b]" % BODY])
def test_a_whole_answer_is_the_same_events_without_usage(body: bytes) -> None:
    expected = [Text(" A A"), Finished(FinishReason.LENGTH, raw="length"), Ended()]

    assert TGI.decode_body(body) == expected
    assert TGI_COMPAT.decode_body(body) == expected


def test_an_empty_answer_without_details_is_only_an_end() -> None:
    assert TGI.decode_body(b'{"generated_text":""}') == [Ended()]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"generated_text":null}'])
def test_a_body_that_is_no_answer_is_a_fault(body: bytes) -> None:
    (event,) = TGI.decode_body(body)

    assert isinstance(event, Failed)
    assert event.fault.kind is FaultKind.PROTOCOL


def test_an_error_in_a_body_with_status_200_is_told() -> None:
    (event,) = TGI.decode_body(b'{"error":"Model is overloaded","error_type":"overloaded"}')

    assert isinstance(event, Failed)
    assert event.fault.kind is FaultKind.OVERLOADED


def test_a_wrong_key_gives_401_with_an_empty_body() -> None:
    assert TGI.decode_error(401, b"").kind is FaultKind.UNAUTHENTICATED


# Answering a client


def write(
    events: list[StreamEvent], *, details: bool = True, dialect: ClientDialect = TGI
) -> bytes:
    encoder = dialect.stream_encoder(IDENTITY, include_usage=details)
    return b"".join(encoder.encode(event) for event in events)


ANSWER: list[StreamEvent] = [
    Started("x", "m", 1),
    Text(" Deep"),
    Text(" learning"),
    Finished(FinishReason.STOP),
    Usage(7, 3),
    Ended(),
]


def test_a_stream_has_rising_indices_and_the_whole_text_in_its_last_event() -> None:
    assert write(ANSWER) == (
        b'data: {"index":1,"token":{"id":0,"text":" Deep","logprob":0.0,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
        b'data: {"index":2,"token":{"id":0,"text":" learning","logprob":0.0,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
        b'data: {"index":3,"token":{"id":0,"text":"","logprob":0.0,"special":true},'
        b'"generated_text":" Deep learning","details":{"finish_reason":"eos_token",'
        b'"generated_tokens":3,"seed":null,"input_length":7}}\n\n'
    )


def test_details_are_told_only_if_asked() -> None:
    assert write(ANSWER, details=False).endswith(
        b'"generated_text":" Deep learning","details":null}\n\n'
    )


def test_a_finish_reason_that_is_not_known_is_not_made_up() -> None:
    assert write([Text("a"), Ended()]).endswith(b'"generated_text":"a","details":null}\n\n')
    assert TGI.encode_body([Text("a"), Usage(1, 1), Ended()], IDENTITY) == b'{"generated_text":"a"}'


def test_without_a_report_the_pieces_are_counted_and_no_input_length_is_named() -> None:
    assert write([Text("a"), Text(""), Text("b"), Finished(FinishReason.LENGTH), Ended()]).endswith(
        b'"details":{"finish_reason":"length","generated_tokens":2,"seed":null}}\n\n'
    )


@pytest.mark.parametrize(
    ("finished", "word"),
    [
        (Finished(FinishReason.STOP, raw="stop"), b"eos_token"),
        (Finished(FinishReason.STOP, raw="stop_sequence"), b"stop_sequence"),
        (Finished(FinishReason.STOP, stop="\n"), b"stop_sequence"),
        (Finished(FinishReason.TOOL_CALLS), b"eos_token"),
        (Finished(FinishReason.LENGTH, raw="max_tokens"), b"length"),
        (Finished(FinishReason.CONTENT_FILTER), b"content_filter"),
    ],
)
def test_finish_reasons_are_tgis_words_and_a_filtered_answer_does_not_look_complete(
    finished: Finished, word: bytes
) -> None:
    assert b'"finish_reason":"%b"' % word in write([finished, Ended()])


def test_a_refusal_is_text_and_what_has_no_word_is_silent() -> None:
    said: list[StreamEvent] = [
        Thinking("hm"),
        ToolCall(0, "a", "f"),
        ToolArguments(0, "{}"),
        Text("other", choice=1),
        Refusal("other", choice=1),
        Finished(FinishReason.STOP, choice=1),
    ]

    assert write(said) == b""
    assert b'"text":"No."' in write([Refusal("No.")])


def test_a_whole_answer_is_an_object_and_on_the_compat_route_an_array() -> None:
    body = (
        b'{"generated_text":" Deep learning","details":{"finish_reason":"eos_token",'
        b'"generated_tokens":3,"seed":null,"prefill":[],"tokens":[]}}'
    )

    assert TGI.encode_body(ANSWER, IDENTITY) == body
    assert TGI_COMPAT.encode_body(ANSWER, IDENTITY) == b"[" + body + b"]"
    assert TGI.encode_body([Ended()], IDENTITY) == b'{"generated_text":""}'


PIECES = st.text(min_size=1)


@given(
    texts=st.lists(PIECES),
    length=st.booleans(),
    prompt=st.integers(0, 9),
    count=st.none() | st.integers(0, 9),
)
def test_what_is_written_reads_back_as_it_was_said(
    texts: list[str], length: bool, prompt: int, count: int | None
) -> None:
    reason, raw = (FinishReason.LENGTH, "length") if length else (FinishReason.STOP, "eos_token")
    usage: list[StreamEvent] = [] if count is None else [Usage(prompt, count)]
    events = [*map(Text, texts), Finished(reason, raw=raw), *usage, Ended()]

    assert read(write(events)) == events


# The official clients


def payloads(frames: bytes) -> list[Any]:  # whatever JSON the clients would read
    return [msgspec.json.decode(event.data) for event in SSEParser().feed(frames)]


@pytest.mark.parametrize("events", [ANSWER, [Text("a"), Finished(FinishReason.STOP), Ended()]])
def test_the_text_generation_client_takes_our_stream_and_our_body(
    events: list[StreamEvent],
) -> None:
    answers = [text_generation.types.StreamResponse(**value) for value in payloads(write(events))]
    text = "".join(answer.token.text for answer in answers if not answer.token.special)
    assert answers[-1].generated_text == text
    assert answers[-1].details.finish_reason == "eos_token"

    (value,) = msgspec.json.decode(TGI_COMPAT.encode_body(events, IDENTITY))
    assert text_generation.types.Response(**value).generated_text == text


@pytest.mark.parametrize("details", [True, False])
def test_the_hugging_face_client_takes_our_stream_and_our_body(details: bool) -> None:
    lines = write(ANSWER, details=details).splitlines()

    answers: list[Any] = list(hub_client._stream_text_generation_response(lines, details))
    if details:
        assert answers[-1].generated_text == " Deep learning"
        assert answers[-1].details.input_length == 7
    else:
        assert "".join(answers) == " Deep learning"

    value = huggingface_hub.TextGenerationOutput.parse_obj_as_instance(
        TGI.encode_body(ANSWER, IDENTITY)
    )
    assert value.details is not None
    assert value.details.generated_tokens == 3


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        (FaultKind.INVALID_REQUEST, 422, ValidationError),
        (FaultKind.CONTEXT_LENGTH, 422, ValidationError),
        (FaultKind.OVERLOADED, 429, OverloadedError),
        (FaultKind.RATE_LIMITED, 429, OverloadedError),
        (FaultKind.TRUNCATED, 500, IncompleteGenerationError),
        (FaultKind.UPSTREAM, 424, GenerationError),
        (FaultKind.UNKNOWN_MODEL, 404, NotFoundError),
    ],
)
def test_the_text_generation_client_raises_the_error_that_is_meant(
    kind: FaultKind, status: int, error: type[Exception]
) -> None:
    body = TGI.encode_error(Fault(kind, "upstream", "no"), status)

    raised = parse_error(status, msgspec.json.decode(body))

    assert type(raised) is error
    assert str(raised) == "no"


def test_an_error_in_the_stream_is_one_frame_and_no_end_mark() -> None:
    fault = Fault(FaultKind.TRUNCATED, "upstream", "cut")
    frame = TGI.error_frame(fault, 502)

    assert write([Failed(fault)]) == frame
    assert frame == b'data: {"error":"cut","error_type":"incomplete_generation"}\n\n'
    with pytest.raises(huggingface_hub.errors.IncompleteGenerationError):
        list(hub_client._stream_text_generation_response(frame.splitlines(), details=False))
