"""Errors in all the forms in which servers write them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.faults import MAX_MESSAGE_CHARS, from_response, from_words, recognise
from parsers.events import Fault, FaultKind

K = FaultKind
UNSAID = "upstream reported an error without a message"


def seen(payload: bytes, event: str = "") -> Fault:
    fault = recognise(payload, event)
    assert fault is not None
    return fault


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (
            b'{"error":{"message":"no","type":"server_error","param":"p","code":null}}',
            Fault(K.UPSTREAM, "upstream", "no", type="server_error", param="p"),
        ),
        (b'{"error":"out of luck"}', Fault(K.UPSTREAM, "upstream", "out of luck")),
        (
            b'{"error":"Model is overloaded","error_type":"overloaded"}',
            Fault(K.OVERLOADED, "upstream", "Model is overloaded", type="overloaded"),
        ),
        (
            b'{"error":{"message":"Model is overloaded","http_status_code":422}}',
            Fault(K.OVERLOADED, "upstream", "Model is overloaded", status=422),
        ),
        (
            b'{"object":"error","message":"gone","type":"NotFoundError","param":null,"code":404}',
            Fault(K.UNKNOWN_MODEL, "upstream", "gone", status=404, type="NotFoundError", code=404),
        ),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            Fault(K.OVERLOADED, "upstream", "Overloaded", type="overloaded_error"),
        ),
        (
            b'{"type":"error","code":"rate_limit_exceeded","message":"slow down"}',
            Fault(K.RATE_LIMITED, "upstream", "slow down", code="rate_limit_exceeded"),
        ),
        (
            b'{"fault":{"faultstring":"Invalid ApiKey",'
            b'"detail":{"errorcode":"oauth.v2.InvalidApiKey"}}}',
            Fault(K.UNAUTHENTICATED, "upstream", "Invalid ApiKey", code="oauth.v2.InvalidApiKey"),
        ),
        (b'{"fault":{"detail":"x"}}', Fault(K.UPSTREAM, "upstream", UNSAID)),
        (b'{"detail":"Not Found"}', Fault(K.UNKNOWN_MODEL, "upstream", "Not Found")),
        (
            b'{"detail":[{"loc":["body"],"msg":"field required","type":"missing"},{"msg":"too"}]}',
            Fault(K.UPSTREAM, "upstream", "field required; too"),
        ),
        (
            b'{"message":"Too many requests"}',
            Fault(K.RATE_LIMITED, "upstream", "Too many requests"),
        ),
        (
            b'[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}]',
            Fault(
                K.RATE_LIMITED,
                "upstream",
                "Quota",
                status=429,
                type="RESOURCE_EXHAUSTED",
                code=429,
            ),
        ),
        (
            b'{"error":{"code":502,"message":"lost"},"choices":[{"index":0,"delta":{}}]}',
            Fault(K.UPSTREAM, "upstream", "lost", status=502, code=502),
        ),
        (
            b'{"error":{"code":"429","message":"calm"}}',
            Fault(K.RATE_LIMITED, "upstream", "calm", status=429, code="429"),
        ),
        (
            b'{"error":{"type":"rate_limit_error","message":"spent",'
            b'"details":{"error_code":"enforced_spend_limit_reached"}}}',
            Fault(
                K.QUOTA_EXCEEDED,
                "upstream",
                "spent",
                type="rate_limit_error",
                code="enforced_spend_limit_reached",
            ),
        ),
        (b'{"error":true,"message":"half"}', Fault(K.UPSTREAM, "upstream", "half")),
        (b'{"error":{"code":true}}', Fault(K.UPSTREAM, "upstream", UNSAID)),
    ],
)
def test_every_form_of_an_error_is_recognised(payload: bytes, fault: Fault) -> None:
    assert recognise(payload) == fault


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[DONE]",
        b"not json",
        b"null",
        b"[]",
        b'"error"',
        b'{"error":null,"choices":[]}',
        b'{"error":false}',
        b'{"error":""}',
        b'{"choices":[],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"delta":{"content":"error"}}],"detail":"high","message":"x"}',
        b'{"type":"message_start","message":{"id":"m"}}',
        b'{"type":"content_block_stop","message":"text"}',
        b'{"done":false,"message":"text"}',
        b'{"generated_text":null,"token":{"text":"x"},"detail":"x"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_error_is_none(payload: bytes) -> None:
    assert recognise(payload) is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'{"error":{"message":"a"}}', "a"),
        (b'{"message":"b","code":500}', "b"),
        (b'{"text":"c"}', UNSAID),
        (b"engine died", "engine died"),
        (b"", UNSAID),
    ],
)
def test_an_event_named_error_is_one_whatever_it_carries(payload: bytes, message: str) -> None:
    assert seen(payload, "error").message == message


def test_broken_unicode_does_not_hide_an_error() -> None:
    assert seen(b'{"error":"half \\ud83d and \xff"}').message == "half � and �"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (K.CONTEXT_LENGTH, {"message": "This model's maximum context length is 4096 tokens."}),
        (K.CONTEXT_LENGTH, {"message": "prompt is too long: 9 tokens > 8 maximum", "code": 400}),
        (K.CONTEXT_LENGTH, {"message": "x", "type": "exceed_context_size_error", "code": 400}),
        (K.CONTEXT_LENGTH, {"message": "x", "code": "context_length_exceeded"}),
        (K.CONTEXT_LENGTH, {"message": "`inputs` must have less than 10 tokens. Given: 11"}),
        (K.CONTENT_FILTER, {"message": "x", "code": "content_filter", "status": 400}),
        (K.QUOTA_EXCEEDED, {"message": "x", "code": "insufficient_quota", "type": "requests"}),
        (K.RATE_LIMITED, {"message": "x", "type": "ThrottlingException"}),
        (K.OVERLOADED, {"message": "x", "type": "UNAVAILABLE", "code": 503}),
        (K.OVERLOADED, {"message": "That model is currently overloaded", "type": "server_error"}),
        (K.OVERLOADED, {"message": "x", "type": "Service Unavailable"}),
        (K.UNAUTHENTICATED, {"message": "x", "type": "invalid_request_error", "code": 401}),
        (K.FORBIDDEN, {"message": "x", "type": "AccessDeniedException"}),
        (K.UNKNOWN_MODEL, {"message": "x", "code": "DeploymentNotFound"}),
        (K.TOO_LARGE, {"message": "x", "type": "request_too_large"}),
        (K.TIMEOUT, {"message": "x", "type": "modelTimeoutException"}),
        (K.TRUNCATED, {"message": "Incomplete generation stream", "http_status_code": 422}),
        (K.INVALID_REQUEST, {"message": "Input validation error: x", "http_status_code": 422}),
        (K.INVALID_REQUEST, {"message": "x", "type": "BadRequestError"}),
        (K.INVALID_REQUEST, {"message": "x", "code": 418}),
        (K.UPSTREAM, {"message": "Request failed during generation: x", "http_status_code": 422}),
        (K.UPSTREAM, {"message": "model is not loaded", "type": "server_error", "code": 503}),
        (K.UPSTREAM, {"message": "x", "type": "brandNewError"}),
        (K.UPSTREAM, {"message": "x", "code": 599}),
    ],
)
def test_kind_follows_from_words_then_status(kind: FaultKind, error: dict[str, object]) -> None:
    assert seen(msgspec.json.encode({"error": error})).kind is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, K.INVALID_REQUEST),
        (401, K.UNAUTHENTICATED),
        (402, K.QUOTA_EXCEEDED),
        (403, K.FORBIDDEN),
        (404, K.UNKNOWN_MODEL),
        (408, K.TIMEOUT),
        (413, K.TOO_LARGE),
        (422, K.INVALID_REQUEST),
        (424, K.UPSTREAM),
        (429, K.RATE_LIMITED),
        (500, K.UPSTREAM),
        (502, K.UPSTREAM),
        (503, K.OVERLOADED),
        (504, K.TIMEOUT),
        (529, K.OVERLOADED),
    ],
)
def test_an_empty_failure_is_told_by_its_status(status: int, kind: FaultKind) -> None:
    message = f"upstream answered with status {status}"

    assert from_response(status, b"") == Fault(kind, "upstream", message, status=status)


def test_a_page_is_not_shown_to_the_client() -> None:
    fault = from_response(502, b"\n <html><body>nginx/1.25 at 10.0.0.3</body></html>")

    assert fault.message == "upstream answered with status 502"


def test_plain_text_is_shown_to_the_client() -> None:
    fault = from_response(422, b"Failed to deserialize the JSON body")

    assert fault == Fault(
        K.INVALID_REQUEST, "upstream", "Failed to deserialize the JSON body", status=422
    )


def test_a_json_string_is_shown_without_its_quotes() -> None:
    assert from_response(500, b'"engine \\u0064ead"').message == "engine dead"


def test_an_unknown_object_is_told_by_its_status_and_its_words() -> None:
    assert from_response(500, b'{"a":1}').message == "upstream answered with status 500"
    assert from_response(500, b'{"type":"t","message":"m"}').type == "t"


def test_the_real_status_outranks_a_named_one() -> None:
    fault = from_response(429, b'{"error":{"message":"x","code":500}}')

    assert fault.kind is K.RATE_LIMITED
    assert fault.status == 500


def test_an_error_in_an_answer_is_an_error() -> None:
    assert from_response(200, b'{"error":"x"}') == Fault(K.UPSTREAM, "upstream", "x")


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"ok", b'{"a":1}', b"null"])
def test_a_successful_answer_that_is_none_breaks_the_protocol(body: bytes) -> None:
    assert from_response(200, body).kind is K.PROTOCOL
    assert from_response(302, body).kind is K.PROTOCOL


def test_words_from_outside_a_body_are_classified_alike() -> None:
    assert from_words("slow", type="throttlingException") == Fault(
        K.RATE_LIMITED, "upstream", "slow", type="throttlingException"
    )
    assert from_words(None, status=403).kind is K.FORBIDDEN


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Incorrect API key provided: sk-proj-abc123DEF", "Incorrect API key provided: [key]"),
        ("bad api_key=abc123, sorry", "bad api_key=[key], sorry"),
        ("sent Authorization: Bearer abcdef123456", "sent Authorization: Bearer [key]"),
        ("hf_abcdefghijkl is expired", "[key] is expired"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("see https://internal.example:8080/v1?key=a for more", "see [url] for more"),
        ("connect to 10.1.2.3:8080 failed", "connect to [address] failed"),
        ("one\r\n\ttwo\x00\x1b[31mred", "one two [31mred"),
        ('died\nTraceback (most recent call last):\n  File "/srv/x.py"', "died"),
        ("  spaced  ", "spaced"),
    ],
)
def test_what_is_shown_holds_no_secret(said: str, shown: str) -> None:
    assert seen(msgspec.json.encode({"error": said})).message == shown


def test_types_and_codes_hold_no_secret_either() -> None:
    error = {"message": "m", "type": "https://a.b/c", "code": "sk-abcdefgh", "param": "x\ny"}
    fault = seen(msgspec.json.encode({"error": error}))

    assert (fault.type, fault.code, fault.param) == ("[url]", "[key]", "x y")


def test_a_message_is_bounded() -> None:
    message = seen(msgspec.json.encode({"error": "x" * 100_000})).message

    assert message == "x" * (MAX_MESSAGE_CHARS - 1) + "…"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.integers(100, 599))
def test_any_bytes_give_a_fault(body: bytes, status: int) -> None:
    fault = from_response(status, body)

    assert fault.origin == "upstream"
    assert 0 < len(fault.message) <= MAX_MESSAGE_CHARS
    assert fault.message.isprintable() or not fault.message.isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "type", "code", "status", "detail", "details", "fault"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["", "error", "message"]))
def test_any_json_is_an_error_or_none(value: object, event: str) -> None:
    fault = recognise(msgspec.json.encode(value), event)

    assert fault is None or fault.message
    assert fault is not None or event != "error"
