"""Says in containerd's words why a pull failed, from what skopeo reports.

containerd's sentences are what people search for and what programs match: `failed to pull and unpack image "...":
failed to resolve reference "...": ...: not found`.
"""

from __future__ import annotations

import re

from podling.runtime.image_name import ImageName
from podling.runtime.protocol import ImagePullError

_SOURCE = re.compile(r"initializing source docker://\S+?: ")
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


def pull_error(name: ImageName, message: str, *, with_credentials: bool) -> ImagePullError:
    """`message` is skopeo's."""
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
        return ImagePullError(reason, f"{head}no match for platform in manifest: not found")
    if "no space left on device" in cause:
        return ImagePullError(reason, f"{head}{cause}")
    if mirrors := _MIRRORS.search(cause):
        # The registry itself was asked last, after its mirrors.
        cause = _MIRRORS.sub("", cause).removeprefix(f"{image}: ")
        tried = " ".join(f"mirror {m}" for m in re.findall(r"\[.*?\](?=\n|$)", mirrors["mirrors"]))
        tail = f" ({tried})"
    else:
        tail = ""
    if resolving or cause.startswith(("pinging ", "reading manifest", "requesting bearer token")):
        if _NOT_FOUND.search(cause):
            return ImagePullError(reason, f"{resolve}{image}: not found{tail}")
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
