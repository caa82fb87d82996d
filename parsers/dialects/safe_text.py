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
CUT = "…"
_TRACEBACK = "Traceback (most recent call last)"


def safe_text(text: str, limit: int) -> str:
    """One line of at most `limit` characters, with no URL, address, key or traceback in it.

    What was cut off is told by CUT at its end: half a secret may stand before it.
    """
    read, rest = text[: 4 * limit], text[4 * limit :]
    text, traceback, _ = read.partition(_TRACEBACK)
    text = _CONTROL.sub(" ", text).strip()
    for pattern, substitute in _SECRETS:
        text = pattern.sub(substitute, text)
    is_whole = len(text) <= limit and (traceback or not rest)
    return text if is_whole else text[: limit - 1] + CUT
