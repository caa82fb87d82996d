"""One upstream answer becoming one client answer, in the very call that brings its bytes."""

from proxy.relay.base import Relay
from proxy.relay.plan import Ending, Plan
from proxy.relay.stream import StreamRelay
from proxy.relay.whole import WholeRelay

__all__ = ["Ending", "Plan", "Relay", "StreamRelay", "WholeRelay"]
