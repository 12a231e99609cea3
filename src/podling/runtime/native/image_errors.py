"""Says in containerd's words why a pull failed, from what skopeo reports.

containerd's sentences are what people search for and what programs match: `failed to pull and unpack image "...":
failed to resolve reference "...": ...: not found`.
"""

from __future__ import annotations

import re

from podling.api import image_name
from podling.api.image_name import ImageName, InvalidImageName
from podling.runtime.protocol import ImagePullError

_SOURCE = re.compile(r'(?:initializing source docker://\S+?|[Ee]rror parsing image name "docker://[^"]*"): ')
_MIRRORS = re.compile(r"\(Mirrors also failed: (?P<mirrors>\[.*\])\): ", re.DOTALL)
_PING = re.compile(r"pinging container registry \S+: ")
_NOT_FOUND = re.compile(
    r"manifest unknown|name unknown|name_unknown|repository name not known|StatusCode: 404|404 \(Not Found\)"
)
_DENIED = re.compile(
    r"unauthorized|authentication required|access to the requested resource is not authorized|(?<!permission )denied"
    r"|invalid username/password|insufficient_scope|StatusCode: 40[13]|40[13] \((?:Unauthorized|Forbidden)\)",
    re.IGNORECASE,
)
_NO_PLATFORM = re.compile(r"no image found in (?:manifest list|image index) for")
_TRANSIENT = re.compile(
    r"unexpected EOF|: EOF|connection reset by peer|broken pipe|i/o timeout|TLS handshake timeout|server closed"
    r"|http2: |stream error|50[0234] \(|(?:StatusCode|HTTP status): 50[0234]|toomanyrequests|no progress for"
)


def is_transient(message: str) -> bool:
    """Whether trying again at once is worth it: the transfer broke, but nothing says that it must break again."""
    return _TRANSIENT.search(message) is not None and "no space left on device" not in message


def is_not_found(message: str) -> bool:
    """Whether the registry said that it has no such image; maybe it has not even the repository."""
    return _SOURCE.search(message) is not None and _NOT_FOUND.search(message) is not None


def named(image: str) -> ImageName:
    """The name that the text is. Raises ImagePullError."""
    try:
        return image_name.parse(image)
    except InvalidImageName as error:
        raise ImagePullError("InvalidImageName", str(error)) from None


def pull_error(
    name: ImageName, message: str, *, with_credentials: bool, repository_known: bool | None = None
) -> ImagePullError:
    """`message` is skopeo's; `repository_known` what the registry says when it has no such image, None if unsure."""
    resolving = _SOURCE.search(message) is not None
    cause = _SOURCE.sub("", message).removeprefix("copying system image from manifest list: ")
    image = name.canonical
    head = f'failed to pull and unpack image "{image}": '
    resolve = f'{head}failed to resolve reference "{image}": '
    reason = "ErrImagePull"
    if "is blocked in" in cause:
        return ImagePullError(reason, f"{resolve}{cause}")
    if cause.startswith("Source image rejected"):
        return ImagePullError("SignatureValidationFailed", head + cause)
    if _NO_PLATFORM.search(cause):
        return ImagePullError(reason, f"{head}no match for platform in manifest: not found{_platform(cause)}")
    if "no space left on device" in cause:
        return ImagePullError(reason, f"{head}{cause}")
    if mirrors := _MIRRORS.search(cause):
        # The registry itself was asked last, after its mirrors.
        cause = _MIRRORS.sub("", cause).removeprefix(f"{image}: ")
        tried = " ".join(f"mirror {m}" for m in re.findall(r"\[.*?\](?=\n|$)", mirrors["mirrors"]))
        tail = f" ({tried})"
        if not _NOT_FOUND.search(cause) and not _DENIED.search(cause) and _DENIED.search(tried):
            # The mirror is there and refuses, the registry itself is out of reach: the first is the cause to mend.
            cause, tail = tried, f" (registry: {_PING.sub('', cause)})"
    else:
        tail = ""
    if resolving or cause.startswith(("pinging ", "reading manifest", "requesting bearer token")):
        if _NOT_FOUND.search(cause):
            return ImagePullError(reason, f"{resolve}{image}: not found{_missing(name, repository_known)}{tail}")
        if _DENIED.search(cause):
            detail = "authorization failed: " + (
                "the registry refused the credentials" if with_credentials else "no basic auth credentials"
            )
            return ImagePullError(
                reason,
                f"{resolve}pull access denied, repository does not exist or may require authorization: {detail}{tail}",
            )
        return ImagePullError(reason, f"{resolve}failed to do request: {_PING.sub('', cause)}{tail}")
    return ImagePullError(reason, f"{head}{cause}{tail}")


def _missing(name: ImageName, repository_known: bool | None) -> str:
    """What exactly is not there."""
    if repository_known is None:
        return ""
    if not repository_known:
        return f': there is no repository "{name.repository}"'
    what = f'digest "{name.digest}"' if name.digest else f'tag "{name.tag}"'
    return f': repository "{name.repository}" has no {what}'


def _platform(cause: str) -> str:
    """The platform that skopeo looked for."""
    found = re.search(r'architecture (\S+?), variant "(.*?)", OS (\S+)', cause)
    return f": none for {'/'.join(part for part in (found[3], found[1], found[2]) if part)}" if found else ""
