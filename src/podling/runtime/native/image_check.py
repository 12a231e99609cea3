"""Asks a registry whether a tag still means the image that is stored: one HEAD request instead of a whole pull.

A Pod that says `image: nginx` pulls at every start; this makes it cost a round trip, and HEAD requests do not count
against the pull limits of public registries. Whatever is not a plain yes is left to skopeo, which knows every case and
reports every error.

Protocol: OCI distribution-spec ("Checking if content exists in the registry") and Docker's token authentication.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from podling.runtime.image_name import ImageName
from podling.runtime.native import image_auth, image_registries
from podling.runtime.native.image_registries import Endpoint
from podling.runtime.protocol import AuthConfig

if TYPE_CHECKING:
    import aiohttp

_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_SECONDS = 5.0
_CHALLENGE_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryCheck:
    """Keeps connections open between checks. `registries_conf` as for ImageStore."""

    def __init__(self, registries_conf: Path | None) -> None:
        self._registries_conf = registries_conf
        self._session: aiohttp.ClientSession | None = None
        self._plain_http: set[str] = set()
        """Hosts whose registry was found to speak plain HTTP (only insecure ones are asked so)."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def unchanged(self, name: ImageName, digests: Collection[str], auth: AuthConfig | None) -> bool:
        """True if the registry says, to whoever has these credentials, that the name refers to one of the digests."""
        route = image_registries.route(name.repository, self._registries_conf)
        if route.blocked or route.conditional or not route.endpoints or (auth and not auth.username):
            return False
        endpoint = route.endpoints[0]  # the one that skopeo asks first, too
        if image_auth.is_loopback(name):
            endpoint = Endpoint(endpoint.repository, insecure=True)
        import aiohttp

        try:
            return await self._digest(endpoint, name.digest or name.tag, auth) in digests
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    async def _digest(self, endpoint: Endpoint, reference: str, auth: AuthConfig | None) -> str:
        """The digest that the reference has there; empty where it is not plainly said."""
        import aiohttp

        host, _, path = endpoint.repository.partition("/")
        if host == "docker.io":
            host = "registry-1.docker.io"
        if endpoint.insecure and host not in self._plain_http:
            try:
                return await self._head(f"https://{host}", path, reference, auth, insecure=True)
            except aiohttp.ClientConnectionError:
                digest = await self._head(f"http://{host}", path, reference, auth, insecure=True)
                self._plain_http.add(host)
                return digest
        scheme = "http" if endpoint.insecure else "https"
        return await self._head(f"{scheme}://{host}", path, reference, auth, insecure=endpoint.insecure)

    async def _head(self, base: str, path: str, reference: str, auth: AuthConfig | None, *, insecure: bool) -> str:
        import aiohttp

        if self._session is None:
            # Proxies (and, with them, the user's .netrc) are skopeo's business: where one is needed this fails.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
                # A cookie of one pull's credentials must not speak for another's.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        verify = not insecure
        url = f"{base}/v2/{path}/manifests/{reference}"
        headers = {"Accept": _ACCEPT}
        async with self._session.head(url, headers=headers, ssl=verify) as response:
            if response.status != 401:
                return _said_digest(response)
            challenge = response.headers.get("WWW-Authenticate", "")
        scheme, parameters = challenge.partition(" ")[0].lower(), dict(_CHALLENGE_PARAMETER.findall(challenge))
        basic = {"Authorization": _basic(auth)} if auth else {}
        realm = parameters.get("realm", "")
        if scheme == "basic" and basic:
            headers |= basic
        elif scheme == "bearer" and (insecure or realm.startswith("https://")):
            query = {"service": parameters.get("service", ""), "scope": f"repository:{path}:pull"}
            async with self._session.get(realm, params=query, headers=basic, ssl=verify) as response:
                if response.status != 200:
                    return ""
                answer = await response.json(content_type=None)
            headers["Authorization"] = f"Bearer {answer.get('token') or answer.get('access_token')}"
        else:
            return ""
        async with self._session.head(url, headers=headers, ssl=verify) as response:
            return _said_digest(response)


def _basic(auth: AuthConfig) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


def _said_digest(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Docker-Content-Digest", "") if response.status == 200 else ""
