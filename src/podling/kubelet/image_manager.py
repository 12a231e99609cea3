"""Sees to it that a container's image is on the node: pull policy, credentials, back-off, events.

Source: Kubernetes documentation "Images" (image pull policy, ImagePullBackOff); reasons and texts as the kubelet's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from podling.api import image_name
from podling.api.core.v1 import Pod
from podling.api.go import duration, quote
from podling.api.image_name import ImageName
from podling.api.status import ApiError
from podling.client.client import ConnectionFailed
from podling.kit import file_error
from podling.kubelet.image_credentials import Credential, redacted
from podling.kubelet.image_pull_credentials import Found, PullCredentials
from podling.kubelet.image_pull_manager import PullManager
from podling.runtime.protocol import CRIError, Image, ImageService

log = logging.getLogger(__name__)

_BACKOFF_FIRST = 10.0
_BACKOFF_MAX = 300.0
_BACKOFF_RESET = 2 * _BACKOFF_MAX
_SOON = 1.0
"""Seconds until the next step where upstream takes it at its next look at the Pod."""

_FIRST_NEWS = 30.0
_NEWS = 60.0
_RARE_NEWS = 300.0
"""Between the news of a pull that has gone on for ten minutes: as seldom as a Pod's events are let through for good
(client/events.py). With more of them, those of the pull's end and the container's start would be dropped."""
_LONG = 600.0

ALWAYS, NEVER = "Always", "Never"

Report = Callable[[str, str, str], None]
"""Records an event about a container: type, reason, message."""


class PodEvents(Protocol):
    """Records an event about a Pod: type, reason, message."""

    def event(self, obj: Pod, type: str, reason: str, message: str) -> None: ...


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
    fingerprint: tuple[str, ...]


class _Transfer:
    """One try of a pull. Tells of it while it goes on for long, which upstream's kubelet does not.

    `started` is when it had done waiting for others, in seconds of the monotonic clock.
    """

    def __init__(self, image: str, report: Report) -> None:
        self._image = image
        self._report = report
        self._news = _FIRST_NEWS
        self.started = time.monotonic()

    def begin(self) -> None:
        self.started = time.monotonic()

    def progress(self, received: int) -> None:
        """`received`: bytes so far."""
        elapsed = time.monotonic() - self.started
        if elapsed < self._news:
            return
        while self._news <= elapsed:
            self._news += _NEWS if self._news < _LONG else _RARE_NEWS
        text = f"Still pulling image {quote(self._image)}: {received / 1e6:.1f} MB after {duration(int(elapsed))}"
        self._report("Normal", "Pulling", text)


class ImageManager:
    """One node's. Back-off is kept by Pod and image, and ends early when the Pod's credentials change."""

    def __init__(
        self, images: ImageService, pulls: PullManager, credentials: PullCredentials, events: PodEvents
    ) -> None:
        self._images = images
        self._pulls = pulls
        self._credentials = credentials
        self._events = events
        self._failures: dict[tuple[str, str], _Failure] = {}

    async def present(self, image: str, policy: str, report: Report) -> Image | None:
        """The image, if it is there for every Pod to use; None if `ensure` has to be asked, which may take its time.

        Raises ImageError (InvalidImageName, ImageInspectError, ErrImageNeverPull).
        """
        name = _parse(image, report)
        found = await self._look(image, policy, report)
        if found is not None and self._pulls.open_to_all(name, found.id):
            report("Normal", "Pulled", _present(image))
            return found
        if found is None and policy == NEVER:
            raise _never(image, report)
        return None

    async def ensure(self, pod: Pod, image: str, policy: str, report: Report) -> Image:
        """Returns the image when it is on the node and the Pod may use it; pulls it if need be. Raises ImageError."""
        since = time.monotonic()
        name = _parse(image, report)
        credentials = await self._lookup(pod, name)
        found = await self._look(image, policy, report)
        if found is not None and await self._pulls.open_to(name, found.id, credentials.credentials):
            report("Normal", "Pulled", _present(image))
            return found
        if policy == NEVER:
            # Whether it is there is not told to those who may not use it.
            raise _never(image, report)
        failure = self._backing_off(pod, image, credentials)
        if failure is not None:
            report("Normal", "BackOff", f"Back-off pulling image {quote(image)}")
            report("Warning", "Failed", "Error: ImagePullBackOff")
            left = failure.at + failure.delay - time.monotonic()
            text = f"Back-off pulling image {quote(image)}: {failure.message}"
            raise ImageError("ImagePullBackOff", text, max(left, _SOON))
        self._tell_of_secrets(pod, credentials)
        report("Normal", "Pulling", f"Pulling image {quote(image)}")
        try:
            pulled, started = await self._pull(name, credentials.credentials, lambda: _Transfer(image, report))
        except CRIError as error:
            raise self._failed(pod, image, credentials, error, report) from error
        self._failures.pop((pod.metadata.uid, image), None)
        now = time.monotonic()
        report(
            "Normal",
            "Pulled",
            f"Successfully pulled image {quote(image)} in {duration(now - started)} "
            f"({duration(now - since)} including waiting). Image size: {pulled.size} bytes.",
        )
        return pulled

    async def credentials_changed(self, pod: Pod, image: str) -> bool:
        """Whether the last pull of the image failed with other credentials than the Pod has now."""
        failure = self._failures.get((pod.metadata.uid, image))
        if failure is None:
            return False
        try:
            found = await self._credentials.lookup(pod, image_name.parse(image).repository)
        except (ApiError, ConnectionFailed):
            return False
        return found.fingerprint != failure.fingerprint

    def forget(self, pod_uid: str) -> None:
        """The Pod is gone."""
        for key in [key for key in self._failures if key[0] == pod_uid]:
            del self._failures[key]

    async def prune(self) -> None:
        """Images were removed from the node: forgets who may use them."""
        try:
            await self._pulls.prune(self._images.list_images)
        except OSError as error:
            log.warning("records of removed images: %s", file_error.reason(error))

    async def _look(self, image: str, policy: str, report: Report) -> Image | None:
        """What is on the node, as far as the policy lets it count."""
        if policy == ALWAYS:
            return None
        try:
            return await self._images.image_status(image)
        except CRIError as error:
            text = f"Failed to inspect image {quote(image)}: {error.message}"
            raise _uninspected(report, "ImageInspectError", text) from error

    async def _lookup(self, pod: Pod, name: ImageName) -> Found:
        try:
            return await self._credentials.lookup(pod, name.repository)
        except (ApiError, ConnectionFailed) as error:
            # Not to pull without them: that would fail for sure, and put the image into back-off.
            text = f"image pull secrets cannot be read: {error}"
            raise ImageError("ErrImagePull", text, _SOON) from error

    def _backing_off(self, pod: Pod, image: str, credentials: Found) -> _Failure | None:
        key = (pod.metadata.uid, image)
        failure = self._failures.get(key)
        if failure is None:
            return None
        age = time.monotonic() - failure.at
        if age > _BACKOFF_RESET or credentials.fingerprint != failure.fingerprint:
            del self._failures[key]
            return None
        return failure if age < failure.delay else None

    async def _pull(
        self, name: ImageName, credentials: list[Credential], transfer: Callable[[], _Transfer]
    ) -> tuple[Image, float]:
        """The image, and when its pull had done waiting for others (seconds of the monotonic clock)."""
        try:
            self._pulls.begins(name)
        except OSError as error:
            text = (
                f"Failed to record image pull intent for container image {quote(str(name))}: {file_error.reason(error)}"
            )
            raise CRIError("ErrImagePull", text) from error
        try:
            found, started, used = await self._try_each(name, credentials, transfer)
        except BaseException:
            self._pulls.failed(name)
            raise
        await self._pulls.pulled(name, found.id, used)
        return found, started

    async def _try_each(
        self, name: ImageName, credentials: list[Credential], transfer: Callable[[], _Transfer]
    ) -> tuple[Image, float, Credential | None]:
        errors: dict[str, CRIError] = {}
        refused: set[str] = set()
        tries: Sequence[Credential | None] = credentials or [None]
        for credential in tries:
            if credential is not None and credential.hash in refused:
                continue
            current = transfer()
            try:
                auth = credential.auth if credential is not None else None
                identifier = await self._images.pull_image(
                    str(name), auth, on_start=current.begin, on_progress=current.progress
                )
            except CRIError as error:
                message = error.message
                if credential is not None:
                    refused.add(credential.hash)
                    message = redacted(message, credential.auth)
                errors.setdefault(message, CRIError(error.reason, message))
                continue
            found = await self._images.image_status(identifier)
            if found is not None:
                return found, current.started, credential
            text = f"image {quote(str(name))} vanished after its pull"
            errors.setdefault(text, CRIError("ErrImagePull", text))
        first = next(iter(errors.values()))
        raise first if len(errors) == 1 else CRIError(first.reason, f"[{', '.join(errors)}]")

    def _failed(self, pod: Pod, image: str, credentials: Found, error: CRIError, report: Report) -> ImageError:
        reason, message = _told(image, error)
        report("Warning", "Failed", f"Failed to pull image {quote(image)}: {error.message}")
        report("Warning", "Failed", f"Error: {reason}")
        key = (pod.metadata.uid, image)
        before = self._failures.get(key)
        delay = _BACKOFF_FIRST if before is None else min(2 * before.delay, _BACKOFF_MAX)
        self._failures[key] = _Failure(delay, time.monotonic(), f"{reason}: {message}", credentials.fingerprint)
        # The next step of the cycle is to say that it is backing off.
        return ImageError(reason, message, _SOON)

    def _tell_of_secrets(self, pod: Pod, found: Found) -> None:
        reason = "FailedToRetrieveImagePullSecret"
        if found.missing:
            names = ", ".join(found.missing)
            text = f"Unable to retrieve some image pull secrets ({names}); "
            self._events.event(pod, "Warning", reason, f"{text}attempting to pull the image may not succeed.")
        for problem in found.unreadable:
            text = f"Unable to read image pull secret {problem}; attempting to pull the image may not succeed."
            self._events.event(pod, "Warning", reason, text)


def _parse(image: str, report: Report) -> ImageName:
    try:
        return image_name.parse(image)
    except image_name.InvalidImageName as error:
        cause = f"couldn't parse image name {quote(image)}: {error}"
        text = f"Failed to apply default image tag {quote(image)}: {cause}"
        raise _uninspected(report, "InvalidImageName", text) from error


def _uninspected(report: Report, reason: str, text: str) -> ImageError:
    report("Warning", "InspectFailed", text)
    report("Warning", "Failed", f"Error: {reason}")
    return ImageError(reason, text, _BACKOFF_MAX)


def _present(image: str) -> str:
    return f"Container image {quote(image)} already present on machine and can be accessed by the pod"


def _never(image: str, report: Report) -> ImageError:
    text = f"Container image {quote(image)} is not present with pull policy of Never"
    report("Warning", "ErrImageNeverPull", text)
    report("Warning", "Failed", "Error: ErrImageNeverPull")
    return ImageError("ErrImageNeverPull", text, _BACKOFF_FIRST)


_CAUSES = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}


def _told(image: str, error: CRIError) -> tuple[str, str]:
    """Waiting reason and message."""
    cause = _CAUSES.get(error.reason)
    if cause is None:
        return "ErrImagePull", error.message
    return error.reason, f"image pull failed for {image} because {cause}: {error.message}"
