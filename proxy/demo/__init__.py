"""The built-in model server: TGI's wire, no model, and troubles on request.

A stand-in for somebody else's server, so nothing here is shared with the rest of `proxy`:
it writes its bytes itself and is an outside opinion on them. How to ask it for an overload,
a stall or a cut connection is written in `proxy.demo.script`.
"""

from proxy.demo.app import Settings, build_app
from proxy.demo.server import run_demo

__all__ = ["Settings", "build_app", "run_demo"]
