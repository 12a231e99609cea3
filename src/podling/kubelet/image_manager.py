"""Sees to it that a container's image is on the node: pull policy, back-off, events.

Source: Kubernetes documentation "Images" (image pull policy, ImagePullBackOff); reasons and texts as the kubelet's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from podling.api.core.v1 import Container, Pod
from podling.kubelet.image_credentials import Keyring
from podling.runtime import image_name
from podling.runtime.protocol import CRIError, Image, ImageService

_BACKOFF_FIRST = 10.0
_BACKOFF_MAX = 300.0
_BACKOFF_RESET = 2 * _BACKOFF_MAX

Report = Callable[[str, str, str], None]
"""Records an event: type, reason, message."""


class ImageError(Exception):
    """The image is not to be had now. `reason` is the waiting reason, `retry_in` seconds until the next try."""

    def __init__(self, reason: str, message: str, retry_in: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_in = retry_in


class _Failure(Struct):
    delay: float
    at: float
    message: str


class ImageManager:
    """One node's. Back-off is kept by Pod and image."""

    def __init__(self, images: ImageService) -> None:
        self._images = images
        self._failures: dict[tuple[str, str], _Failure] = {}

    async def present(self, pod: Pod, container: Container, report: Report) -> Image | None:
        """The image if nothing has to be pulled; None if it has to.

        Raises ImageError (InvalidImageName, ImageInspectError, ErrImageNeverPull).
        """
        image = container.image
        try:
            image_name.parse(image)
            found = None if container.image_pull_policy == "Always" else await self._images.image_status(image)
        except image_name.InvalidImageName as error:
            text = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {error.message}'
            raise _uninspected(report, "InvalidImageName", text) from error
        except CRIError as error:
            text = f'Failed to inspect image "{image}": {error.message}'
            raise _uninspected(report, "ImageInspectError", text) from error
        if container.image_pull_policy == "Always":
            return None
        if found is not None:
            text = f'Container image "{image}" already present on machine and can be accessed by the pod'
            report("Normal", "Pulled", text)
            return found
        if container.image_pull_policy == "Never":
            text = f'Container image "{image}" is not present with pull policy of Never'
            report("Warning", "ErrImageNeverPull", text)
            report("Warning", "Failed", "Error: ErrImageNeverPull")
            raise ImageError("ErrImageNeverPull", text, _BACKOFF_FIRST)
        return None

    async def pull(self, pod: Pod, container: Container, keyring: Keyring, report: Report) -> Image:
        """Pulls unless this image of this Pod is in back-off. Raises ImageError."""
        key = (pod.metadata.uid, container.image)
        now = time.monotonic()
        failure = self._failures.get(key)
        if failure is not None:
            if now - failure.at > _BACKOFF_RESET:
                del self._failures[key]
                failure = None
            elif (left := failure.at + failure.delay - now) > 0:
                report("Normal", "BackOff", f'Back-off pulling image "{container.image}"')
                report("Warning", "Failed", "Error: ImagePullBackOff")
                text = f'Back-off pulling image "{container.image}": {failure.message}'
                raise ImageError("ImagePullBackOff", text, left)
        report("Normal", "Pulling", f'Pulling image "{container.image}"')
        try:
            found = await self._pull(container.image, keyring)
        except CRIError as error:
            reason = error.reason if error.reason in _REASONS else "ErrImagePull"
            report("Warning", "Failed", f'Failed to pull image "{container.image}": {error.message}')
            report("Warning", "Failed", f"Error: {reason}")
            delay = _BACKOFF_FIRST if failure is None else min(2 * failure.delay, _BACKOFF_MAX)
            self._failures[key] = _Failure(delay, time.monotonic(), f"{reason}: {error.message}")
            # The next step of the cycle is to say that it is backing off.
            raise ImageError(reason, error.message, 1.0) from error
        self._failures.pop(key, None)
        took = _duration(time.monotonic() - now)
        report(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{container.image}" in {took} ({took} including waiting). '
            f"Image size: {found.size} bytes.",
        )
        return found

    async def _pull(self, image: str, keyring: Keyring) -> Image:
        error: CRIError | None = None
        for auth in [*keyring.lookup(image), None]:
            try:
                identifier = await self._images.pull_image(image, auth)
            except CRIError as failed:
                error = error or failed
                continue
            found = await self._images.image_status(identifier)
            if found is not None:
                return found
        raise error or CRIError("ErrImagePull", f'image "{image}" vanished after its pull')

    def forget(self, pod_uid: str) -> None:
        """The Pod is gone."""
        for key in [key for key in self._failures if key[0] == pod_uid]:
            del self._failures[key]


def _uninspected(report: Report, reason: str, text: str) -> ImageError:
    report("Warning", "InspectFailed", text)
    report("Warning", "Failed", f"Error: {reason}")
    return ImageError(reason, text, _BACKOFF_MAX)


_REASONS = ("ErrImagePull", "InvalidImageName", "RegistryUnavailable", "SignatureValidationFailed")


def _duration(seconds: float) -> str:
    """As Go prints durations: 850ms, 1.234s, 2m3.5s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}m{text}s" if minutes else f"{text}s"
