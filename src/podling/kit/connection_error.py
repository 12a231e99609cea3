"""Errors of connections in words, for people: what became of the attempt, without classes, error numbers and TLS internals.

Whoever shows one puts the address before it.
"""

from __future__ import annotations

import os
import socket
import ssl

from podling.kit.document_error import in_sentence


def reason(error: BaseException) -> str:
    """Return why a peer was not reached or did not answer, in lower case as libraries of Go say it."""
    # aiohttp, which is not imported for this, wraps what it gets.
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of the peer is not trusted: {in_sentence(cause.verify_message)}"
    if isinstance(cause, ssl.CertificateError):
        return f"the certificate of the peer is not trusted: {in_sentence(str(cause))}"
    if isinstance(cause, ssl.SSLError):
        name = (cause.reason or "unknown error").replace("_", " ").lower()
        return f"the TLS handshake failed ({name})"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, socket.gaierror):
        return f"its name cannot be resolved: {in_sentence(cause.strerror or 'unknown error')}"
    if isinstance(cause, OSError) and cause.errno:
        return in_sentence(os.strerror(cause.errno))
    name = type(error).__name__
    return _BROKEN.get(name) or " ".join(str(error).split()) or name


# By the names of aiohttp's classes: their texts hold other objects as Python shows them.
_BROKEN = {
    "ServerDisconnectedError": "the connection was closed before the answer",
    "ClientConnectionResetError": "the connection was closed before the request was sent",
    "ClientPayloadError": "the answer broke off",
    "ClientConnectionError": "the connection was closed",
    "ClientResponseError": "the answer is not HTTP",
    "ContentLengthError": "the answer broke off",
    "TransferEncodingError": "the answer broke off",
}
