"""How penstock proves whom it talks to."""

from __future__ import annotations

import ssl


def client_tls(ca_file: str | None = None) -> ssl.SSLContext:
    """TLS settings for upstreams: certificates and names are checked, HTTP/1.1 is asked for.

    `ca_file` names PEM certificates to trust instead of the system's. Making one takes tens of
    milliseconds, so share it among pools.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
