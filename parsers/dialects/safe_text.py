"""Text from a server as a client may see it."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SECRETS = (
    (re.compile(r"(?i)\bbearer\s+[^\s\"',;]{8,}"), "Bearer [key]"),
    (
        re.compile(r"(?i)\b((?:api[-_ ]?key|token|secret|password)[\"' ]*[:=] *)[^\s\"',;]+"),
        r"\1[key]",
    ),
    (re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai|fw|pplx|nvapi|ghp|github_pat)[-_][\w*.-]{6,}"), "[key]"),
    (re.compile(r"\bAIza[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\beyJ[\w-]{10,}[\w.-]*"), "[key]"),
    (re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>]+"), "[url]"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "[address]"),
)
_TRACEBACK = "Traceback (most recent call last)"


def safe_text(text: str, limit: int) -> str:
    """One line of at most `limit` characters, with no URL, address, key or traceback in it."""
    text = text[: 4 * limit].partition(_TRACEBACK)[0]
    text = _CONTROL.sub(" ", text).strip()
    for pattern, substitute in _SECRETS:
        text = pattern.sub(substitute, text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
