"""What model servers say, in the words of each protocol.

One answer, told in ten protocols: it thinks "Well.", says "Hello" and " there", or calls `weather`;
it cost 5 tokens and 3. Or it fails with the words of `FAILURE`, as its protocol tells of that.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import msgspec

from parsers.eventstream import encode_message

KEY = "ABSKQmVkcm9ja0FQSUtleS1leGFtcGxl"  # of Bedrock's form, and good for all others
SAID = "the cat sat on the GPU"
# With everything that nobody is to see.
FAILURE = f"{SAID} {KEY} at http://10.9.8.7:81/x Traceback (most recent call last): File server.py"


class Play(Enum):
    """What the server does."""

    ANSWER = auto()
    CALL = auto()
    REFUSE = auto()  # 429, Retry-After
    FAIL_FIRST = auto()  # in a stream that has said nothing
    FAIL_LATER = auto()  # after "Hello"
    CUT = auto()  # a clean end of the body after "Hello"


class Voice(msgspec.Struct, frozen=True):
    """A protocol: payloads for each part of an answer, and the whole ones."""

    opening: tuple[str, ...]
    thought: tuple[str, ...]
    words: tuple[str, str]
    call: tuple[str, ...]
    ending: tuple[str, ...]
    call_ending: tuple[str, ...]
    failure: tuple[str, ...]
    refusal: str
    whole: str
    whole_call: str
    frame: Callable[[str], bytes]
    content_type: str = "text/event-stream"
    headers: str = ""  # beside the refusal

    def stream(self, play: Play) -> list[bytes]:
        """The frames."""
        hello, there = self.words
        parts = {
            Play.ANSWER: (*self.opening, *self.thought, hello, there, *self.ending),
            Play.CALL: (*self.opening, *self.call, *self.call_ending),
            Play.FAIL_FIRST: self.failure,
            Play.FAIL_LATER: (*self.opening, *self.thought, hello, *self.failure),
            Play.CUT: (*self.opening, *self.thought, hello),
        }
        return [self.frame(part) for part in parts[play]]


def _sse(payload: str) -> bytes:
    return f"data: {payload}\n\n".encode()


def _named(payload: str) -> bytes:
    return f"event: {msgspec.json.decode(payload)['type']}\n".encode() + _sse(payload)


def _crlf(payload: str) -> bytes:
    return f"data: {payload}\r\n\r\n".encode()


def _line(payload: str) -> bytes:
    return f"{payload}\n".encode()


def _message(payload: str) -> bytes:
    (kind, body), *_ = msgspec.json.decode(payload, type=dict[str, Any]).items()
    what = "exception" if kind.endswith("Exception") else "event"
    headers = {f":{what}-type": kind, ":message-type": what, ":content-type": "application/json"}
    return encode_message(msgspec.json.encode({**body, "p": "abcd"}), headers)


def _invoked(payload: str) -> bytes:
    event = b64encode(payload.encode()).decode()
    return _message(msgspec.json.encode({"chunk": {"bytes": event}}).decode())


def _one(members: str, **around: str) -> str:
    more = "".join(f',"{name}":{value}' for name, value in around.items())
    return f'{{"id":"c1","created":1,"model":"up","choices":[{{"index":0,{members}}}]{more}}}'


_COUNTS = '{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}'
_USAGE = f'{{"id":"c1","choices":[],"usage":{_COUNTS}}}'
_OPENAI_ERROR = f'{{"error":{{"message":"{FAILURE}","type":"rate_limit_error","code":null}}}}'
_FUNCTION = r'"id":"k1","type":"function","function":{"name":"weather","arguments":"{\"city\":'
_TOOL = _FUNCTION + r'\"Oslo\"}"}'

CHAT = Voice(
    opening=(_one('"delta":{"role":"assistant","content":""}'),),
    thought=(_one('"delta":{"reasoning_content":"Well."}'),),
    words=(_one('"delta":{"content":"Hello"}'), _one('"delta":{"content":" there"}')),
    call=(
        _one('"delta":{"tool_calls":[{"index":0,' + _FUNCTION + '"}}]}'),
        _one(r'"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]}'),
    ),
    ending=(_one('"delta":{},"finish_reason":"stop"'), _USAGE, "[DONE]"),
    call_ending=(_one('"delta":{},"finish_reason":"tool_calls"'), _USAGE, "[DONE]"),
    failure=(_OPENAI_ERROR, "[DONE]"),
    refusal=_OPENAI_ERROR,
    whole=_one(
        '"message":{"role":"assistant","content":"Hello there","reasoning_content":"Well."},'
        '"finish_reason":"stop"',
        usage=_COUNTS,
        object='"chat.completion"',
    ),
    whole_call=_one(
        '"message":{"role":"assistant","content":null,"tool_calls":[{' + _TOOL + "}]},"
        '"finish_reason":"tool_calls"',
        usage=_COUNTS,
    ),
    frame=_sse,
)
COMPLETIONS = msgspec.structs.replace(
    CHAT,
    opening=(),
    thought=(),
    words=(_one('"text":"Hello"'), _one('"text":" there"')),
    ending=(_one('"text":"","finish_reason":"stop"'), _USAGE, "[DONE]"),
    whole=_one('"text":"Hello there","finish_reason":"stop"', usage=_COUNTS),
)

_RESPONSE = '"id":"resp_1","object":"response","created_at":1,"model":"up"'
_ITEM = '"output_index":0,"item":{"type":"message","id":"m1","role":"assistant"'
_CALLED = '{"type":"function_call","id":"f1","call_id":"k1","name":"weather","arguments":'
_ARGUMENTS = r'"{\"city\":\"Oslo\"}"'
_R_USAGE = '"usage":{"input_tokens":5,"output_tokens":3,"total_tokens":8}'


def _response(output: str) -> str:
    return f'{{{_RESPONSE},"status":"completed","error":null,"output":[{output}],{_R_USAGE}}}'


def _piece(text: str) -> str:
    where = '"item_id":"m1","output_index":0,"content_index":0'
    return f'{{"type":"response.output_text.delta",{where},"delta":"{text}"}}'


_MESSAGE = (
    '{"type":"message","id":"m1","role":"assistant","status":"completed","content":'
    '[{"type":"output_text","text":"Hello there","annotations":[]}]}'
)
RESPONSES = Voice(
    opening=(
        f'{{"type":"response.created","response":{{{_RESPONSE},"status":"in_progress",'
        '"output":[],"usage":null}}',
    ),
    thought=(),
    words=(_piece("Hello"), _piece(" there")),
    call=(
        f'{{"type":"response.output_item.added","output_index":0,"item":{_CALLED}""}}}}',
        '{"type":"response.function_call_arguments.delta","item_id":"f1","output_index":0,'
        f'"delta":{_ARGUMENTS}}}',
        f'{{"type":"response.output_item.done","output_index":0,"item":{_CALLED}{_ARGUMENTS}}}}}',
    ),
    ending=(f'{{"type":"response.completed","response":{_response(_MESSAGE)}}}',),
    call_ending=(
        f'{{"type":"response.completed","response":{_response(_CALLED + _ARGUMENTS + "}")}}}',
    ),
    failure=(
        f'{{"type":"error","code":"rate_limit_exceeded","message":"{FAILURE}","param":null}}',
    ),
    refusal=_OPENAI_ERROR,
    whole=_response(_MESSAGE),
    whole_call=_response(_CALLED + _ARGUMENTS + "}"),
    frame=_named,
)

_A_HEAD = '"id":"msg_1","type":"message","role":"assistant","model":"up"'
_A_ERROR = f'{{"type":"error","error":{{"type":"rate_limit_error","message":"{FAILURE}"}}}}'


def _block(number: int, start: str, *deltas: str) -> tuple[str, ...]:
    at = f'"index":{number}'
    return (
        f'{{"type":"content_block_start",{at},"content_block":{{{start}}}}}',
        *(f'{{"type":"content_block_delta",{at},"delta":{{{each}}}}}' for each in deltas),
        f'{{"type":"content_block_stop",{at}}}',
    )


def _a_ending(reason: str) -> tuple[str, ...]:
    said = (
        f'"delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":3}}'
    )
    return (f'{{"type":"message_delta",{said}}}', '{"type":"message_stop"}')


def _a_whole(content: str, reason: str) -> str:
    usage = '"usage":{"input_tokens":5,"output_tokens":3}'
    return f'{{{_A_HEAD},"content":[{content}],"stop_reason":"{reason}",{usage}}}'


_A_START, *_A_WORDS, _A_STOP = _block(
    1,
    '"type":"text","text":""',
    *(f'"type":"text_delta","text":"{w}"' for w in ("Hello", " there")),
)
MESSAGES = Voice(
    opening=(
        f'{{"type":"message_start","message":{{{_A_HEAD},"content":[],"stop_reason":null,'
        '"usage":{"input_tokens":5,"output_tokens":1}}}',
    ),
    thought=(
        *_block(
            0,
            '"type":"thinking","thinking":""',
            '"type":"thinking_delta","thinking":"Well."',
            '"type":"signature_delta","signature":"c2ln"',
        ),
        _A_START,
    ),
    words=(_A_WORDS[0], _A_WORDS[1]),
    call=_block(
        0,
        '"type":"tool_use","id":"k1","name":"weather","input":{}',
        r'"type":"input_json_delta","partial_json":"{\"city\":\"Oslo\"}"',
    ),
    ending=(_A_STOP, *_a_ending("end_turn")),
    call_ending=_a_ending("tool_use"),
    failure=(_A_ERROR,),
    refusal=_A_ERROR,
    whole=_a_whole(
        '{"type":"thinking","thinking":"Well.","signature":"c2ln"},'
        '{"type":"text","text":"Hello there"}',
        "end_turn",
    ),
    whole_call=_a_whole(
        '{"type":"tool_use","id":"k1","name":"weather","input":{"city":"Oslo"}}', "tool_use"
    ),
    frame=_named,
)
_AWS_ERROR = f'{{"message":"{FAILURE}"}}'
_AWS = "application/vnd.amazon.eventstream"
_AWS_TYPE = "x-amzn-errortype: ThrottlingException\r\n"
INVOKE = msgspec.structs.replace(
    MESSAGES, frame=_invoked, content_type=_AWS, refusal=_AWS_ERROR, headers=_AWS_TYPE
)


def _delta(part: str) -> str:
    return f'{{"contentBlockDelta":{{"contentBlockIndex":0,"delta":{{{part}}}}}}}'


_C_STOP = '{"contentBlockStop":{"contentBlockIndex":0}}'
_C_USAGE = '"usage":{"inputTokens":5,"outputTokens":3,"totalTokens":8}'


def _c_whole(content: str, reason: str) -> str:
    message = f'{{"message":{{"role":"assistant","content":[{content}]}}}}'
    return f'{{"output":{message},"stopReason":"{reason}",{_C_USAGE},"metrics":{{"latencyMs":1}}}}'


CONVERSE = Voice(
    opening=('{"messageStart":{"role":"assistant"}}',),
    thought=(_delta('"reasoningContent":{"text":"Well."}'),),
    words=(_delta('"text":"Hello"'), _delta('"text":" there"')),
    call=(
        '{"contentBlockStart":{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"k1",'
        '"name":"weather"}}}}',
        _delta(r'"toolUse":{"input":"{\"city\":\"Oslo\"}"}'),
        _C_STOP,
    ),
    ending=(_C_STOP, '{"messageStop":{"stopReason":"end_turn"}}', f'{{"metadata":{{{_C_USAGE}}}}}'),
    call_ending=('{"messageStop":{"stopReason":"tool_use"}}', f'{{"metadata":{{{_C_USAGE}}}}}'),
    failure=(f'{{"throttlingException":{_AWS_ERROR}}}',),
    refusal=_AWS_ERROR,
    whole=_c_whole(
        '{"reasoningContent":{"reasoningText":{"text":"Well."}}},{"text":"Hello there"}', "end_turn"
    ),
    whole_call=_c_whole(
        '{"toolUse":{"toolUseId":"k1","name":"weather","input":{"city":"Oslo"}}}', "tool_use"
    ),
    frame=_message,
    content_type=_AWS,
    headers=_AWS_TYPE,
)

_G_USAGE = '"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":3,"totalTokenCount":8}'
_G_ERROR = f'{{"error":{{"code":429,"message":"{FAILURE}","status":"RESOURCE_EXHAUSTED"}}}}'
_G_CALL = '{"functionCall":{"name":"weather","args":{"city":"Oslo"}}}'


def _candidate(parts: str, finish: str = "") -> str:
    content = f'"content":{{"role":"model","parts":[{parts}]}}'
    return f'{{"candidates":[{{{content},"index":0{finish}}}],{_G_USAGE},"responseId":"r1"}}'


_G_STOP = ',"finishReason":"STOP"'
GEMINI = Voice(
    opening=(),
    thought=(_candidate('{"text":"Well.","thought":true}'),),
    words=(_candidate('{"text":"Hello"}'), _candidate('{"text":" there"}')),
    call=(_candidate(_G_CALL),),
    ending=(_candidate('{"text":""}', _G_STOP),),
    call_ending=(_candidate('{"text":""}', _G_STOP),),
    failure=(_G_ERROR,),
    refusal=_G_ERROR,
    whole=_candidate('{"text":"Well.","thought":true},{"text":"Hello there"}', _G_STOP),
    whole_call=_candidate(_G_CALL, _G_STOP),
    frame=_crlf,
)


def _o_line(members: str, done: str = '"done":false') -> str:
    return f'{{"model":"up","created_at":"2026-01-01T00:00:00Z",{members},{done}}}'


def _said(text: str) -> str:
    return f'"message":{{"role":"assistant","content":"{text}"}},"response":"{text}"'


_O_DONE = '"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":3'
_O_CALL = (
    '"message":{"role":"assistant","content":"","tool_calls":[{"id":"k1","function":'
    '{"name":"weather","arguments":{"city":"Oslo"}}}]}'
)
_O_THOUGHT = '"message":{"role":"assistant","content":"%s","thinking":"Well."},"response":"%s"'
OLLAMA = Voice(
    opening=(),
    thought=(_o_line(_O_THOUGHT % ("", "")),),
    words=(_o_line(_said("Hello")), _o_line(_said(" there"))),
    call=(_o_line(_O_CALL),),
    ending=(_o_line(_said(""), _O_DONE),),
    call_ending=(_o_line(_said(""), _O_DONE),),
    failure=(f'{{"error":"{FAILURE}"}}',),
    refusal=f'{{"error":"{FAILURE}"}}',
    whole=_o_line(_O_THOUGHT % ("Hello there", "Hello there"), _O_DONE),
    whole_call=_o_line(_O_CALL, _O_DONE),
    frame=_line,
    content_type="application/x-ndjson",
)


def _token(number: int, text: str, last: str = '"generated_text":null,"details":null') -> str:
    return f'{{"index":{number},"token":{{"id":7,"text":"{text}","logprob":-1}},{last}}}'


_T_DETAILS = '"details":{"finish_reason":"eos_token","generated_tokens":3,"input_length":5%s}'
_T_ERROR = f'{{"error":"{FAILURE}","error_type":"overloaded"}}'
TGI = Voice(
    opening=(),
    thought=(),
    words=(_token(1, "Hello"), _token(2, " there")),
    call=(),
    ending=(_token(3, "", f'"generated_text":"Hello there",{_T_DETAILS % ""}'),),
    call_ending=(),
    failure=(_T_ERROR,),
    refusal=_T_ERROR,
    whole='{"generated_text":"Hello there",' + _T_DETAILS % ',"prefill":[],"tokens":[]' + "}",
    whole_call="",
    frame=_sse,
)


def _s_text(text: str, finish: str = "null") -> str:
    meta = f'"id":"r","finish_reason":{finish},"prompt_tokens":5,"completion_tokens":3'
    return f'{{"text":"{text}","meta_info":{{{meta}}}}}'


_S_LAST = _s_text("Hello there", '{"type":"stop"}')
SGLANG = msgspec.structs.replace(
    TGI,
    words=(_s_text("Hello"), _s_text("Hello there")),
    ending=(_S_LAST, "[DONE]"),
    failure=(f'{{"error":{{"object":"error","message":"{FAILURE}","code":429}}}}',),
    refusal=f'{{"object":"error","message":"{FAILURE}","type":"RateLimitError","code":429}}',
    whole=_S_LAST,
)


def _l_text(text: str, more: str = '"stop":false') -> str:
    return f'{{"index":0,"content":"{text}",{more},"tokens_predicted":3,"tokens_evaluated":5}}'


LLAMACPP = msgspec.structs.replace(
    TGI,
    words=(_l_text("Hello"), _l_text(" there")),
    ending=(_l_text("", '"stop":true,"stop_type":"eos"'),),
    failure=(f'{{"error":{{"code":429,"message":"{FAILURE}","type":"rate_limit_error"}}}}',),
    refusal=f'{{"error":{{"code":429,"message":"{FAILURE}","type":"rate_limit_error"}}}}',
    whole=_l_text("Hello there", '"stop":true,"stop_type":"eos"'),
)
