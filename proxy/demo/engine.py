"""The "model": a prompt in, the same words out, one at a time and always the same.

It does not wait. Each step says how long it took to make; whoever writes the answer waits.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from zlib import crc32

from msgspec import Struct

from proxy.demo.failures import Cut, InferError, Truncated, invalid, overloaded
from proxy.demo.parameters import MAX_TOTAL_TOKENS, Parameters, check
from proxy.demo.script import Script, Trouble

GREETING = "This is the demo model of penstock. It does not think, it repeats. You said:"
MAX_ECHO_WORDS = 200  # an echo of a whole file helps nobody
VOCABULARY = 32_000


class Job(Struct, frozen=True):
    """One prompt to answer: `prompt` is all that was sent, `question` what is echoed."""

    prompt: str
    question: str
    parameters: Parameters
    script: Script
    stream: bool

    @property
    def input_tokens(self) -> int:
        """How long the prompt is, with one token to the word."""
        return len(self.prompt.split())


class Token(Struct, frozen=True):
    """One token in the form in which TGI shows it."""

    id: int
    text: str
    logprob: float
    special: bool


class End(Struct, frozen=True):
    """What is known once an answer is complete; `finish_reason` is the native word."""

    text: str
    finish_reason: str
    input_tokens: int
    generated_tokens: int
    seed: int | None


class Step(Struct, frozen=True):
    """One token, counted from 1, made in `seconds`; the last one carries the end."""

    index: int
    seconds: float
    token: Token
    end: End | None


END_OF_SEQUENCE = Token(id=2, text="</s>", logprob=-0.55, special=True)


def admit(job: Job) -> None:
    """Raise `InferError` for a job that is refused before anything is made."""
    if job.script.trouble is Trouble.OVERLOAD:
        raise overloaded()
    if job.script.trouble is Trouble.VALIDATION:
        raise invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {MAX_TOTAL_TOKENS}. "
            f"Given: {job.input_tokens} `inputs` tokens and {MAX_TOTAL_TOKENS} `max_new_tokens`"
        )
    check(job.parameters, job.input_tokens, stream=job.stream)


def interleave(jobs: Sequence[Job], pace_seconds: float) -> Iterator[tuple[int, Step]]:
    """The steps of all jobs in turn, each with the number of its job; raises as `generate`."""
    running = deque(enumerate(generate(job, pace_seconds) for job in jobs))
    while running:
        number, steps = running.popleft()
        step = next(steps, None)
        if step is not None:
            running.append((number, steps))
            yield number, step


def generate(job: Job, pace_seconds: float) -> Iterator[Step]:
    """The steps of an admitted job; raises `InferError`, `Cut` or `Truncated` as scripted."""
    input_tokens = job.input_tokens
    limit = job.parameters.max_new_tokens or MAX_TOTAL_TOKENS - input_tokens
    text = ""
    for index, token in enumerate(islice(_tokens(job), limit), 1):
        _break(job, tokens_made=index - 1)
        text += "" if token.special else token.text
        reason = _finish_reason(job.parameters.stop, text, token, is_last=index == limit)
        end = reason and End(text, reason, input_tokens, index, job.parameters.seed)
        yield Step(index, _seconds(job.script, index, pace_seconds), token, end or None)
        if reason:
            return


def _break(job: Job, *, tokens_made: int) -> None:
    if tokens_made != job.script.after:
        return
    match job.script.trouble:
        case Trouble.FAIL:
            text = "Request failed during generation: Server error: the demo was asked to fail"
            raise InferError("generation", text)
        case Trouble.INCOMPLETE if job.stream:
            raise InferError("incomplete_generation_stream", "Incomplete generation stream")
        case Trouble.INCOMPLETE:
            raise InferError("incomplete_generation", "Incomplete generation")
        case Trouble.TRUNCATE:
            raise Truncated
        case Trouble.CUT:
            raise Cut
        case _:
            return


def _seconds(script: Script, index: int, pace_seconds: float) -> float:
    seconds = pace_seconds if script.pace_seconds is None else script.pace_seconds
    if index == 1:
        seconds += script.wait_seconds
    if script.trouble is Trouble.STALL and index - 1 == script.after:
        seconds += script.stall_seconds
    return seconds


def _finish_reason(stop: Sequence[str], text: str, token: Token, *, is_last: bool) -> str | None:
    if token.special:
        return "eos_token"
    if any(word and text.endswith(word) for word in stop):
        return "stop_sequence"
    return "length" if is_last else None


def _tokens(job: Job) -> Iterator[Token]:
    for text in islice(_words(job), job.script.tokens):
        yield Token(3 + crc32(text.encode()) % (VOCABULARY - 3), text, -0.25, special=False)
    yield END_OF_SEQUENCE


def _words(job: Job) -> Iterator[str]:
    first, *rest = GREETING.split()
    yield first
    for word in (*rest, *job.question.split(maxsplit=MAX_ECHO_WORDS)[:MAX_ECHO_WORDS]):
        yield f" {word}"
    # A longer answer that was asked for is numbers, so that a reader sees what got lost.
    for number in range(1, 1 + (job.script.tokens or 0)):
        yield f" {number}"
