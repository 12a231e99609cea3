"""Kubeconfig files with embedded credentials."""

from __future__ import annotations

import base64
from pathlib import Path

from podling.apiserver.pki import PKI, KeyPair, write_private

_TEMPLATE = """\
apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {user}
current-context: {cluster}
preferences: {{}}
"""


def render(pki: PKI, *, server: str, pair: KeyPair | None = None, user: str = "admin", cluster: str = "podling") -> str:
    """The kubeconfig of the client certificate `pair` (default: the administrator's) for the API server at `server`.

    server: a URL such as "https://127.0.0.1:6443". Blocking: reads the certificates.
    """
    pair = pair or pki.admin

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return _TEMPLATE.format(
        cluster=cluster,
        user=user,
        server=server,
        ca=encoded(pki.ca.cert),
        cert=encoded(pair.cert),
        key=encoded(pair.key),
    )


def write(path: Path, text: str) -> None:
    """Writes a kubeconfig atomically with mode 0600. Blocking."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, text.encode())
