"""Which kind of failure an error is, from the server's own words and its status.

What a server says outranks its status: TGI's chat route names 422 for every failure, overload
included. Source: upstreams.md 11, tgi.md 7.
"""

from __future__ import annotations

import re

from parsers.events import FaultKind

_LONGEST_READ = 2000  # characters of a message that are looked at
_LONGEST_NAME = 200

_CONTEXT = (
    "maximum context length",
    "maximum model length",
    "model's context length",
    "context window",
    "context size",
    "prompt is too long",
    "input is too long",
    "`inputs` tokens +",
    "`inputs` must have less than",
    "exceeds the maximum number of tokens",
)
# TGI's chat route says the kind in words only; OpenAI calls overload a server_error.
_PHRASES = (
    ("model is overloaded", FaultKind.OVERLOADED),
    ("currently overloaded", FaultKind.OVERLOADED),
    ("input validation error", FaultKind.INVALID_REQUEST),
    ("template error", FaultKind.INVALID_REQUEST),
    ("tool error", FaultKind.INVALID_REQUEST),
    ("request failed during generation", FaultKind.UPSTREAM),
    ("incomplete generation", FaultKind.TRUNCATED),
)
# Types, codes and one-word messages; compared as `_name` writes them.
_NAMES = {
    name: kind
    for kind, names in {
        FaultKind.CONTEXT_LENGTH: "contextlengthexceeded exceedcontextsize",
        FaultKind.CONTENT_FILTER: "contentfilter contentpolicyviolation "
        "responsibleaipolicyviolation",
        FaultKind.QUOTA_EXCEEDED: "insufficientquota quotaexceeded billing billinghardlimitreached "
        "enforcedspendlimitreached servicequotaexceeded",
        FaultKind.RATE_LIMITED: "ratelimit ratelimited ratelimitexceeded resourceexhausted "
        "throttling toomanyrequests",
        FaultKind.OVERLOADED: "overloaded unavailable serviceunavailable serveroverloaded "
        "modelnotready unhealthy",
        FaultKind.UNAUTHENTICATED: "authentication unauthenticated unauthorized invalidapikey "
        "oauthv2invalidapikey "
        "unrecognizedclient expiredtoken invalidsignature signaturedoesnotmatch "  # AWS, with 403
        "missingauthenticationtoken incompletesignature invalidclienttokenid",
        FaultKind.FORBIDDEN: "permission permissiondenied accessdenied forbidden",
        FaultKind.UNKNOWN_MODEL: "notfound modelnotfound deploymentnotfound resourcenotfound",
        FaultKind.TOO_LARGE: "requesttoolarge payloadtoolarge",
        FaultKind.TIMEOUT: "timeout modeltimeout deadlineexceeded gatewaytimeout",
        FaultKind.TRUNCATED: "incompletegeneration incompletegenerationstream",
        FaultKind.INVALID_REQUEST: "validation tool template missingtemplatevariable "
        "suffixnotsupported batchsizeexceeded notsupported unsupportedparameter",
        FaultKind.UPSTREAM: "server internalserver internal api generation modelstream model "
        "streamserialization",
    }.items()
    for name in names.split()
}
# Said of nearly everything (OpenAI's wrong key is an invalid_request_error too): these words
# count only when the status says nothing more exact.
_VAGUE = frozenset({"invalidrequest", "badrequest", "invalidargument", "unprocessableentity"})
_STATUSES = {
    401: FaultKind.UNAUTHENTICATED,
    402: FaultKind.QUOTA_EXCEEDED,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.UNKNOWN_MODEL,
    408: FaultKind.TIMEOUT,
    413: FaultKind.TOO_LARGE,
    424: FaultKind.UPSTREAM,
    429: FaultKind.RATE_LIMITED,
    501: FaultKind.INVALID_REQUEST,
    503: FaultKind.OVERLOADED,
    504: FaultKind.TIMEOUT,
    524: FaultKind.TIMEOUT,  # Cloudflare: the origin did not answer in time
    529: FaultKind.OVERLOADED,  # Anthropic
}
_SEPARATORS = re.compile(r"[^a-z0-9]+")


def classify(message: str | None, *names: str | int | None, status: int | None = None) -> FaultKind:
    """The kind of an error; `names` are its code and type, the more exact one first."""
    text = (message or "")[:_LONGEST_READ].lower()
    if any(mark in text for mark in _CONTEXT):
        return FaultKind.CONTEXT_LENGTH
    for phrase, kind in _PHRASES:
        if phrase in text:
            return kind
    plain = [_name(word) for word in (*names, text) if isinstance(word, str)]
    for name in plain:
        if name in _NAMES:
            return _NAMES[name]
    if status is not None:
        return by_status(status)
    return FaultKind.INVALID_REQUEST if _VAGUE.intersection(plain) else FaultKind.UPSTREAM


def _name(word: str) -> str:
    """A name without its spelling: `RateLimitError` and `rate_limit_error` are one."""
    bare = _SEPARATORS.sub("", word[:_LONGEST_NAME].lower())
    return bare.removesuffix("error").removesuffix("exception")


def by_status(status: int) -> FaultKind:
    """The kind of a failed answer that says nothing but its status."""
    if status in _STATUSES:
        return _STATUSES[status]
    return FaultKind.INVALID_REQUEST if 400 <= status < 500 else FaultKind.UPSTREAM
