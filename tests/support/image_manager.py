"""An image manager with a runtime whose registry answers as a test says, and what it told of its pulls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from podling.api.core.v1 import LocalObjectReference, Pod, PodSpec, Secret
from podling.api.meta.v1 import ObjectMeta
from podling.client.client import ConnectionFailed
from podling.kubelet.image_auth_file import NodeAuthFile
from podling.kubelet.image_manager import ImageError, ImageManager
from podling.kubelet.image_pull_credentials import PullCredentials
from podling.kubelet.image_pull_manager import PullManager
from podling.kubelet.image_pull_records import PullRecords
from podling.runtime.protocol import AuthConfig, CRIError, Image, ImagePullError

IMAGE = "reg.io/team/app:1"
ID = "sha256:" + "a" * 64
PULLING = f'Normal Pulling Pulling image "{IMAGE}"'
PRESENT = f'Normal Pulled Container image "{IMAGE}" already present on machine and can be accessed by the pod'


class Registry:
    """An ImageService: `passwords` are those that open IMAGE (None: nobody has to say one)."""

    def __init__(self) -> None:
        self.passwords: set[str] | None = None
        self.stored: Image | None = None
        self.pulls: list[str] = []
        self.error: CRIError | None = None

    async def image_status(self, image: str) -> Image | None:
        return self.stored

    async def list_images(self) -> list[Image]:
        return [self.stored] if self.stored else []

    async def pull_image(
        self, image: str, auth: AuthConfig | None = None, *, on_start: Callable[[], None], **_: Any
    ) -> str:
        password = auth.password if auth else ""
        self.pulls.append(password)
        on_start()
        if self.error is not None:
            raise self.error
        if self.passwords is not None and password not in self.passwords:
            raise ImagePullError("ErrImagePull", f"unauthorized: {'credentials' if auth else 'nobody'}")
        self.stored = Image(id=ID, repo_tags=[IMAGE], size=12345)
        return ID


class Node:
    """An ImageManager with all that is around it; `now` is its clock, `events` what it told."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry = Registry()
        self.secrets: dict[str, Secret] = {}
        self.away = False
        self.events: list[str] = []
        self.now = 1000.0
        self.auth_file = directory / "auth.json"
        self.pulls = PullManager(PullRecords(directory))
        self.connect()
        monkeypatch.setattr("podling.kubelet.image_manager.time.monotonic", lambda: self.now)

    def connect(self) -> None:
        """Makes the manager anew, for the registry that is there now."""
        credentials = PullCredentials(self, NodeAuthFile([self.auth_file]))
        self.manager = ImageManager(self.registry, self.pulls, credentials, self)  # type: ignore[arg-type]

    async def secret(self, namespace: str, name: str) -> Secret | None:
        if self.away:
            raise ConnectionFailed("connection refused")
        return self.secrets.get(name)

    async def config_map(self, namespace: str, name: str) -> None:
        raise AssertionError

    def event(self, obj: Pod, type: str, reason: str, message: str) -> None:
        self.report(type, reason, message)

    def report(self, type: str, reason: str, message: str) -> None:
        self.events.append(f"{type} {reason} {message}")

    def told(self) -> list[str]:
        events, self.events = self.events, []
        return events

    def put_secret(self, name: str, *passwords: str, server: str = "reg.io") -> None:
        auths = {f"{server}{'/team'[: i * 5]}": {"username": "u", "password": p} for i, p in enumerate(passwords)}
        self.secrets[name] = Secret(
            metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}"),
            type="kubernetes.io/dockerconfigjson",
            data={".dockerconfigjson": json.dumps({"auths": auths}).encode()},
        )

    async def use(self, pod: Pod, policy: str = "IfNotPresent", image: str = IMAGE) -> Image:
        found = await self.manager.present(image, policy, self.report)
        return found or await self.manager.ensure(pod, image, policy, self.report)

    async def refused(self, pod: Pod, policy: str = "IfNotPresent", image: str = IMAGE) -> ImageError:
        with pytest.raises(ImageError) as error:
            await self.use(pod, policy, image)
        return error.value


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path, monkeypatch)
    asyncio.run(node.pulls.open([]))
    return node


def pod(name: str, *secrets: str) -> Pod:
    references = [LocalObjectReference(name=secret) for secret in secrets]
    return Pod(metadata=ObjectMeta(name=name, namespace="ns", uid=name), spec=PodSpec(image_pull_secrets=references))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())
