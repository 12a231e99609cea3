"""Asks a registry small questions: whether a tag still means the image that is stored, whether a repository exists.

A Pod that says `image: nginx` pulls at every start; one HEAD request makes it cost a round trip, and HEAD requests do not count
against the pull limits of public registries. Whatever is not a plain yes is left to skopeo, which knows every case and
reports every error.

Protocol: OCI distribution-spec ("Checking if content exists in the registry") and Docker's token authentication.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from podling.api.image_name import ImageName
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
_MAX_TOKEN_BYTES = 1 << 20
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

    async def knows_repository(self, name: ImageName, auth: AuthConfig | None) -> bool | None:
        """Whether the registry has the repository at all; None if it does not say. For what the user is told."""
        route = image_registries.route(name.repository, self._registries_conf)
        if route.conditional or len(route.endpoints) != 1 or (auth and not auth.username):
            return None
        (endpoint,) = route.endpoints
        if image_auth.is_loopback(name):
            endpoint = Endpoint(endpoint.repository, insecure=True)
        import aiohttp

        try:
            answer = await self._ask(endpoint, "GET", "tags/list?n=1", auth)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
        return {200: True, 404: False}.get(answer.status)

    async def _digest(self, endpoint: Endpoint, reference: str, auth: AuthConfig | None) -> str:
        """The digest that the reference has there; empty where it is not plainly said."""
        answer = await self._ask(endpoint, "HEAD", f"manifests/{reference}", auth)
        return answer.digest if answer.status == 200 else ""

    async def _ask(self, endpoint: Endpoint, method: str, what: str, auth: AuthConfig | None) -> _Answer:
        import aiohttp

        host, _, path = endpoint.repository.partition("/")
        if host == "docker.io":
            host = "registry-1.docker.io"
        if endpoint.insecure and host not in self._plain_http:
            try:
                return await self._request(method, f"https://{host}", path, what, auth, insecure=True)
            except aiohttp.ClientConnectionError:
                answer = await self._request(method, f"http://{host}", path, what, auth, insecure=True)
                self._plain_http.add(host)
                return answer
        scheme = "http" if endpoint.insecure else "https"
        return await self._request(method, f"{scheme}://{host}", path, what, auth, insecure=endpoint.insecure)

    async def _request(
        self, method: str, base: str, path: str, what: str, auth: AuthConfig | None, *, insecure: bool
    ) -> _Answer:
        import aiohttp

        if self._session is None:
            # Proxies (and, with them, the user's .netrc) are skopeo's business: where one is needed this fails.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
                # A cookie of one pull's credentials must not speak for another's.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        verify = not insecure
        url = f"{base}/v2/{path}/{what}"
        headers = {"Accept": _ACCEPT} if method == "HEAD" else {}
        async with self._session.request(method, url, headers=headers, ssl=verify) as response:
            if response.status != 401:
                return _Answer.of(response)
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
                    return _Answer(response.status)
                answer = await _token(response)
            headers["Authorization"] = f"Bearer {answer.token or answer.access_token}"
        else:
            return _Answer(401)
        async with self._session.request(method, url, headers=headers, ssl=verify) as response:
            return _Answer.of(response)


class _Token(Struct):
    token: str | None = None
    access_token: str | None = None


async def _token(response: aiohttp.ClientResponse) -> _Token:
    """Of a server that is not trusted. Raises ValueError."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_TOKEN_BYTES:
            raise ValueError("the answer with the token is too long")
    try:
        return msgspec.json.decode(body, type=_Token)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _basic(auth: AuthConfig) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


@dataclass(frozen=True)
class _Answer:
    status: int
    digest: str = ""

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> _Answer:
        return cls(response.status, response.headers.get("Docker-Content-Digest", ""))
