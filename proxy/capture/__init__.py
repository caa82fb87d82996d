"""Captures: one request as sent and received on both sides, redacted, in a file."""

from proxy.capture.captures import Captures, Debugged, RequestCapture
from proxy.capture.format import BadCapture, CaptureFile, Event, read_capture
from proxy.capture.recorder import Sender

__all__ = [
    "BadCapture",
    "CaptureFile",
    "Captures",
    "Debugged",
    "Event",
    "RequestCapture",
    "Sender",
    "read_capture",
]
