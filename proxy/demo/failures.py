"""The ways in which the demo server says no (TGI 3.3.7, `router/src/infer/mod.rs`)."""

STATUS = {
    "generation": 424,
    "overloaded": 429,
    "validation": 422,
    "incomplete_generation": 500,
    "incomplete_generation_stream": 500,
    "template_error": 422,
    "tool_error": 422,
    "suffix not supported": 422,
    "batch size exceeded": 422,
}


class InferError(Exception):
    """A failure that has an `error_type`: a status before a stream opens, an event inside one."""

    def __init__(self, error_type: str, text: str) -> None:
        super().__init__(text)
        self.error_type = error_type
        self.text = text
        self.status = STATUS[error_type]


class BadBody(Exception):
    """A body that the extractor refuses before TGI's own code sees it; answered as plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Cut(Exception):
    """The script wants the connection cut here."""


class Truncated(Exception):
    """The script wants the answer to end here, cleanly and too early."""


def invalid(rule: str) -> InferError:
    """The refusal of a request that breaks `rule`."""
    return InferError("validation", f"Input validation error: {rule}")


def overloaded() -> InferError:
    """The refusal of a server without a free permit."""
    return InferError("overloaded", "Model is overloaded")
