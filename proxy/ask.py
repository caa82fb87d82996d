"""`penstock ask`: one question, the answer as it comes, and the plain truth about its end.

Synchronous and small on purpose: http.client for the call, sseclient-py for the framing, so
that it shares no code with the proxy whose answers it judges.
"""

from collections.abc import Iterator
from contextlib import closing
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    InvalidURL,
)
from typing import TextIO
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
from msgspec import Struct
from sseclient import SSEClient

COMPLETE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h

CONNECT_SECONDS = 10.0
QUIET_SECONDS = 600.0  # without even a comment; a cold model may take minutes
READ_BYTES = 65_536
MAX_EVENT_BYTES = 8 * 1024 * 1024  # sseclient has no limit of its own
MAX_BODY_BYTES = 1024 * 1024
MAX_MESSAGE_CHARACTERS = 1000

URL_WANTED = "--url wants http://host:port or https://host:port"

# Control characters but tab and newline: an answer must not steer the reader's terminal.
CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class Problem(Struct, frozen=True):
    """An error object, of which only the text is shown."""

    message: str = ""


class Delta(Struct, frozen=True):
    """A piece of the answer."""

    content: str | None = None


class Choice(Struct, frozen=True):
    """One answer of a chunk; `finish_reason` None or empty means that it goes on."""

    delta: Delta | None = None
    finish_reason: str | None = None


class Usage(Struct, frozen=True):
    """The tokens that were counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(Struct, frozen=True):
    """One event of a chat stream, or the error that came instead."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Problem | str | None = None


class Listed(Struct, frozen=True):
    """One model of `/v1/models`."""

    id: str


class Models(Struct, frozen=True):
    """The answer of `/v1/models`."""

    data: list[Listed]


class Ending(Exception):
    """No complete answer: what to say about it, and the exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def ask(  # noqa: PLR0913 - the four things asked and the two places for the answer, plus a flag
    url: str,
    key: str | None,
    model: str | None,
    prompt: str,
    out: TextIO,
    err: TextIO,
    *,
    usage: bool = False,
) -> int:
    """Stream one answer to `out` and give the exit status; what went wrong is said on `err`.

    0 is a complete answer only: a finish reason and `[DONE]` were seen. 1 is a failed or cut
    one, 2 an unusable argument, 69 a server that cannot be reached. `model` None takes the first
    model of `/v1/models`. Errors of `out` itself (a closed pipe) and KeyboardInterrupt pass.
    """
    try:
        target, headers = _target(url), _headers(key)
        _check(prompt)
        with closing(_connect(target)) as connection:
            caller = _Caller(connection, quote(target.path.rstrip("/"), safe="/%"), headers)
            body = _body(model or caller.first_model(), prompt, usage=usage)
            answer = _Answer(out)
            try:
                caller.stream(body, answer)
            finally:
                answer.end_line()
    except Ending as ending:
        err.write(f"penstock ask: {_plain(ending.text)}\n")
        return ending.status
    for note in answer.notes(usage=usage):
        err.write(f"penstock ask: {note}\n")
    return COMPLETE


class _Answer:
    """What has come so far."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = "\n"
        self._usage: Usage | None = None
        self.finish_reason: str | None = None

    def take(self, chunk: Chunk) -> None:
        """Show the text of a chunk and keep what it says about the end; raises `Ending`."""
        if chunk.error is not None:
            raise Ending(f"the server broke off: {_message(chunk) or 'no reason given'}")
        for choice in (chunk.choices or ())[:1]:
            self._show(choice.delta.content if choice.delta else None)
            self.finish_reason = choice.finish_reason or self.finish_reason
        self._usage = chunk.usage or self._usage

    def end_line(self) -> None:
        """Finish the last line, so that what follows stands on its own."""
        if self._last != "\n":
            self._out.write("\n")
            self._out.flush()

    def notes(self, *, usage: bool) -> Iterator[str]:
        """What deserves a word about a complete answer."""
        if self.finish_reason == "length":
            yield "the answer reached its token limit"
        if usage and self._usage is None:
            yield "the server reported no usage"
        if usage and self._usage is not None:
            counts = self._usage
            yield f"{counts.prompt_tokens} prompt tokens, {counts.completion_tokens} answer tokens"

    def _show(self, text: str | None) -> None:
        shown = (text or "").translate(CONTROLS)
        if shown:
            self._out.write(shown)
            self._out.flush()
            self._last = shown[-1]


class _Caller:
    """The calls over one connection."""

    def __init__(self, connection: HTTPConnection, prefix: str, headers: dict[str, str]) -> None:
        self._connection = connection
        self._prefix = prefix
        self._headers = headers

    def first_model(self) -> str:
        """The id of the first model that the server lists."""
        with self._send("GET", "/v1/models", None) as response:
            body = _read_whole(response)
        try:
            listed = msgspec.json.decode(body, type=Models).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Ending("the server lists no models; name one with --model") from error
        if not listed:
            raise Ending("the server lists no models; name one with --model")
        return listed[0].id

    def stream(self, body: bytes, answer: _Answer) -> None:
        """Feed `answer` until `[DONE]`; raises `Ending` if that, or a finish reason, is missing."""
        with self._send("POST", "/v1/chat/completions", body) as response:
            if response.headers.get_content_type() != "text/event-stream":
                raise Ending(_not_a_stream(response))
            for data in _events(response):
                if data.strip() == "[DONE]":
                    break
                answer.take(_chunk(data))
            else:
                raise Ending("the stream ended without [DONE]; the answer may be incomplete")
        if answer.finish_reason is None:
            raise Ending("the answer ended without a finish reason; it may be incomplete")

    def _send(self, method: str, path: str, body: bytes | None) -> HTTPResponse:
        try:
            self._connection.request(method, self._prefix + path, body, self._headers)
            response = self._connection.getresponse()
        except (HTTPException, OSError) as error:
            raise Ending(f"no answer from the server: {_reason(error)}") from error
        if response.status != 200:
            with response:
                raise Ending(_refusal(response))
        return response


def _target(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        usable = target.scheme in {"http", "https"} and bool(target.hostname)
        usable = usable and target.port != 0 and "@" not in target.netloc
    except ValueError:
        usable, target = False, SplitResult("", "", "", "", "")
    if not usable or target.query or target.fragment:
        raise Ending(URL_WANTED, USAGE)
    return target


def _headers(key: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    if key is None:
        return headers
    if not key.isascii() or not key.isprintable():
        raise Ending("--key has characters that no header may have", USAGE)
    return headers | {"authorization": f"Bearer {key}"}


def _check(prompt: str) -> None:
    if not prompt.strip():
        raise Ending("the prompt is empty", USAGE)
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise Ending("the prompt is not valid UTF-8", USAGE) from error


def _body(model: str, prompt: str, *, usage: bool) -> bytes:
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
    }
    if usage:
        body["stream_options"] = {"include_usage": True}
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise Ending("the model name is not valid UTF-8", USAGE) from error


def _connect(target: SplitResult) -> HTTPConnection:
    host, port = target.hostname or "", target.port
    kind = HTTPSConnection if target.scheme == "https" else HTTPConnection
    try:
        connection = kind(host, port, timeout=CONNECT_SECONDS)
        connection.connect()
    except InvalidURL as error:
        raise Ending(URL_WANTED, USAGE) from error
    except (OSError, UnicodeError) as error:
        place = f"{target.scheme}://{target.netloc}"
        text = (
            f"cannot reach {place}: {_reason(error)}; "
            "start the proxy with `penstock serve`, or the demo model with `penstock demo`"
        )
        raise Ending(text, UNREACHABLE) from error
    connection.timeout = QUIET_SECONDS  # for a connection that the server makes us open again
    connection.sock.settimeout(QUIET_SECONDS)
    return connection


def _events(response: HTTPResponse) -> Iterator[str]:
    pieces = _Pieces(response)
    try:
        for event in SSEClient(iter(pieces)).events():
            pieces.pending_bytes = 0
            yield event.data
    except UnicodeDecodeError as error:
        raise Ending("the stream is not valid UTF-8") from error


class _Pieces:
    """The body as it arrives, for sseclient; `pending_bytes` is what no event has claimed yet."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self.pending_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._read():
            self.pending_bytes += len(piece)
            if self.pending_bytes > MAX_EVENT_BYTES:
                raise Ending(f"an event is larger than {MAX_EVENT_BYTES} bytes")
            yield piece

    def _read(self) -> bytes:
        try:
            return self._response.read1(READ_BYTES)
        except (HTTPException, OSError, ValueError) as error:
            raise Ending(f"the connection was cut: {_reason(error)}") from error


def _chunk(data: str) -> Chunk:
    try:
        return msgspec.json.decode(data, type=Chunk)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Ending(f"unreadable event in the stream: {data[:200]}") from error


def _refusal(response: HTTPResponse) -> str:
    text = _body_message(response)
    line = f"{response.status} {response.reason}".strip()
    return f"{line}: {text}" if text else line


def _not_a_stream(response: HTTPResponse) -> str:
    given = response.headers.get_content_type()
    text = _body_message(response)
    return f"the server answered with {given}, not with a stream: {text}".removesuffix(": ")


def _body_message(response: HTTPResponse) -> str:
    body = _read_whole(response)
    try:
        text = _message(msgspec.json.decode(body, type=Chunk))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = ""
    return text or body.decode(errors="replace").strip()


def _read_whole(response: HTTPResponse) -> bytes:
    try:
        return response.read(MAX_BODY_BYTES)
    except (HTTPException, OSError, ValueError) as error:
        raise Ending(f"the connection was cut: {_reason(error)}") from error


def _message(chunk: Chunk) -> str:
    return chunk.error.message if isinstance(chunk.error, Problem) else chunk.error or ""


def _reason(error: Exception) -> str:
    if isinstance(error, IncompleteRead):
        return "the body ended too early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _plain(text: str) -> str:
    """One line without control characters, for the terminal."""
    line = " ".join(text.translate(CONTROLS).split())
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else f"{line[:MAX_MESSAGE_CHARACTERS]}…"
