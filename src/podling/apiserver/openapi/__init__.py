"""OpenAPI: what the API looks like, as v2 (JSON, protobuf) and v3 documents.

The schemas lie compressed beside this file and are read for each document that is made; only digests stay in memory.
Source: the endpoints of kube-apiserver (/openapi/v2, /openapi/v3, KEP-2896) and what kubectl reads from them.
"""

from __future__ import annotations

from podling.apiserver.openapi.handler import handle

__all__ = ["handle"]
