"""Whether an endpoint can be reached at all: its name, its port, its certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from proxy.doctor.findings import Finding, failure, ok, warning
from proxy.doctor.subject import Subject
from proxy.origin import Origin
from proxy.transport import TransportError

_SLOW_SECONDS = 0.5  # a round trip or two; a model server stands next door
_PROBE_SECONDS = 5.0


async def resolved(subject: Subject) -> Finding:
    """Whether its name has an address."""
    origin = subject.origin
    if origin.uds is not None:
        return ok("resolve", "a unix socket needs no name")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            origin.address or origin.host, origin.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        remedy = "check the host in the endpoint's url, and from where penstock asks for it"
        return failure("resolve", f"the name {origin.host} has no address", remedy)
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    return ok("resolve", f"{origin.host} is {', '.join(addresses)}")


async def connected(subject: Subject) -> Finding:
    """Whether it accepts connections, with TLS where the URL says so."""
    try:
        seconds = await subject.wire.connect()
    except TransportError as error:
        return await _unreachable(subject.origin, error)
    took = f"connected in {seconds * 1000:.0f} ms{_with_tls(subject.origin)}"
    if seconds > _SLOW_SECONDS:
        return warning("connect", took, "look for a slow name server, or a long way to it")
    return ok("connect", took)


def _with_tls(origin: Origin) -> str:
    return ", and its certificate is trusted" if origin.scheme == "https" else ""


async def _unreachable(origin: Origin, error: TransportError) -> Finding:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "name the CA's file in SSL_CERT_FILE, or use a name that the certificate has"
        return failure("tls", f"its certificate is not trusted: {cause.verify_message}", remedy)
    if isinstance(cause, (ssl.SSLError, ConnectionResetError)) and origin.scheme == "https":
        message = "the TLS handshake failed"
        return failure("tls", message, "if the server speaks plain HTTP, write http:// in the url")
    if isinstance(cause, ConnectionRefusedError):
        remedy = "see that the model server listens there; most do once their model is loaded"
        return failure("connect", "nothing listens there", remedy)
    if error.kind == "timeout" and origin.scheme == "https":
        message = "no answer to the TLS handshake, or none to the connection attempt"
        return failure("tls", message, "if the server speaks plain HTTP, write http:// in the url")
    if error.kind == "timeout":
        remedy = "look for a firewall or a NetworkPolicy that drops what penstock sends"
        return failure("connect", "no answer to the connection attempt", remedy)
    return failure("connect", str(error), "see that penstock may reach it")


async def speaks_tls(origin: Origin) -> bool:
    """Whether a server that was called in plain HTTP would rather have TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    if origin.scheme == "https" or origin.uds is not None:
        return False
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(
                origin.address or origin.host, origin.port, ssl=context
            )
            writer.transport.abort()
            return True
    return False
