"""A container whose image and image volumes need a pull secret that comes late; the registry answers as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podling.api.core.v1 import (
    Container,
    ImageVolumeSource,
    LocalObjectReference,
    Pod,
    PodSpec,
    Secret,
    Volume,
    VolumeMount,
)
from podling.api.meta.v1 import ObjectMeta
from podling.kubelet.container_start import ContainerStarter
from podling.kubelet.image_auth_file import NodeAuthFile
from podling.kubelet.image_manager import ImageManager
from podling.kubelet.image_pull_credentials import PullCredentials
from podling.kubelet.image_pull_manager import PullManager
from podling.kubelet.image_pull_records import PullRecords
from podling.kubelet.pod_actions import Start
from podling.runtime.protocol import AuthConfig, Image, ImagePullError, SandboxMetadata, SandboxState, SandboxStatus

PUBLIC = "public.io/app:1"
PRIVATE = ["reg.io/one:1", "reg.io/two:1", "reg.io/three:1"]
SANDBOX = SandboxStatus(
    id="s", metadata=SandboxMetadata(name="p", namespace="ns", uid="u"), state=SandboxState.READY, created_at=0
)


class Node:
    """A ContainerStarter with all that is around it: runtime, registry and API. `now` is its clock.

    The registry asks for the password "right" for all of PRIVATE.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, image: str, volumes: list[str]) -> None:
        self.now = 1000.0
        self.secret_: Secret | None = None
        self.stored: dict[str, Image] = {}
        self.pulls: list[str] = []
        self.woken = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None
        self.after_lookup: Callable[[], None] = lambda: None
        self.tasks: set[asyncio.Task[Any]] = set()
        credentials = PullCredentials(self, NodeAuthFile([directory / "none"]))
        images = ImageManager(self, PullManager(PullRecords(directory)), credentials, self)  # type: ignore[arg-type]
        for module in ("image_manager", "container_start"):
            clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
            monkeypatch.setattr(f"podling.kubelet.{module}.time", clock)
        monkeypatch.setattr("podling.kubelet.container_start.container_config", self.config)
        context = SimpleNamespace(images=images, runtime=self, recorder=self, watches=self, host_ip="")
        self.starter = ContainerStarter(context, self.woken.set, self.no_volumes)  # type: ignore[arg-type]
        names = [f"v{number}" for number in range(len(volumes))]
        main = Container(
            name="main",
            image=image,
            image_pull_policy="IfNotPresent",
            volume_mounts=[VolumeMount(name=name, mount_path=f"/{name}") for name in names],
        )
        self.pod = Pod(
            metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
            spec=PodSpec(
                containers=[main],
                image_pull_secrets=[LocalObjectReference(name="s")],
                volumes=[
                    Volume(name=name, image=ImageVolumeSource(reference=volume, pull_policy="IfNotPresent"))
                    for name, volume in zip(names, volumes, strict=True)
                ],
            ),
        )
        (directory / "pulling").mkdir()
        (directory / "pulled").mkdir()

    # the API

    async def secret(self, namespace: str, name: str) -> Secret | None:
        found = self.secret_
        self.after_lookup()
        return found

    async def config_map(self, namespace: str, name: str) -> None:
        raise AssertionError

    def put_secret(self, password: str) -> None:
        """It comes, or changes, and whoever watches it is told."""
        auths = {"reg.io": {"username": "u", "password": password}}
        self.secret_ = Secret(
            metadata=ObjectMeta(name="s", namespace="ns", uid="uid"),
            type="kubernetes.io/dockerconfigjson",
            data={".dockerconfigjson": json.dumps({"auths": auths}).encode()},
        )
        self.changed()

    def follow(self, pod: Pod, references: list[tuple[type, str]], changed: Callable[[], None]) -> None:
        assert references == [(Secret, "s")]
        self.changed = changed

    def unfollow(self, uid: str, changed: Callable[[], None]) -> None:
        self.changed = lambda: None

    def event(self, obj: Pod, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        pass

    # the runtime

    async def image_status(self, image: str) -> Image | None:
        return self.stored.get(image)

    async def pull_image(self, image: str, auth: AuthConfig | None = None, **_: Any) -> str:
        self.pulls.append(image)
        if image in PRIVATE and (auth is None or auth.password != "right"):
            raise ImagePullError("ErrImagePull", "unauthorized")
        self.stored[image] = Image(id=image, repo_tags=[image])
        return image

    async def create_container(self, sandbox_id: str, config: Any) -> str:
        return "id"

    async def start_container(self, container_id: str) -> None:
        pass

    # around the starter

    async def config(self, context: Any, pod: Pod, start: Start, image: Image, volumes: dict[str, Any]) -> None:
        wanted = [volume.image.reference for volume in pod.spec.volumes if volume.image]
        assert image.id == start.container.image
        assert [volumes[f"v{number}"].image for number in range(len(wanted))] == wanted

    async def no_volumes(self) -> dict[str, Any]:
        return {}

    def create_task(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def look(self) -> str:
        """Looks at the container as often as a worker would now. "started", or the reason why it waits."""
        (container,) = self.pod.spec.containers
        start = Start(container=container, attempt=0, backoff=0)
        while True:
            self.woken.clear()
            again = await self.starter.start(self, self.pod, start, SANDBOX)  # type: ignore[arg-type]
            if self.tasks:
                await asyncio.wait(self.tasks)
            if again is None:
                return "started"
            if not self.woken.is_set() and again > self.now:
                return self.starter.waiting()["main"].reason

    async def back_off(self) -> None:
        """Fails until every image is in back-off for long."""
        for _ in range(60):
            await self.look()
            self.now += 1
        assert await self.look() == "ImagePullBackOff"
        self.pulls.clear()


@pytest.mark.parametrize(
    ("image", "volumes"),
    [(PRIVATE[0], []), (PUBLIC, PRIVATE[:1]), (PUBLIC, PRIVATE), (PRIVATE[0], PRIVATE[1:]), (PRIVATE[0], [PUBLIC])],
)
def test_a_changed_pull_secret_ends_the_back_off_of_all_images_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, volumes: list[str]
) -> None:
    async def scenario() -> None:
        node = Node(tmp_path, monkeypatch, image, volumes)
        await node.back_off()
        node.put_secret("wrong")
        assert await node.look() == "ErrImagePull"
        await node.back_off()
        node.put_secret("right")
        assert await node.look() == "started"
        assert sorted(node.pulls) == sorted(name for name in {image, *volumes} if name in PRIVATE)

    asyncio.run(scenario())


@pytest.mark.parametrize(("image", "volumes"), [(PRIVATE[0], []), (PUBLIC, PRIVATE[:2])])
def test_a_pull_secret_that_changes_while_it_is_read_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, volumes: list[str]
) -> None:
    async def scenario() -> None:
        node = Node(tmp_path, monkeypatch, image, volumes)
        assert await node.look() == "ErrImagePull"
        node.now += 1

        def change() -> None:
            node.after_lookup = lambda: None
            node.put_secret("right")

        node.after_lookup = change
        assert await node.look() == "started"

    asyncio.run(scenario())


def test_a_pull_secret_that_does_not_change_leaves_the_back_off_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        node = Node(tmp_path, monkeypatch, PRIVATE[0], PRIVATE[1:])
        node.put_secret("wrong")
        await node.back_off()
        node.put_secret("wrong")
        assert await node.look() == "ImagePullBackOff"
        assert node.pulls == []

    asyncio.run(scenario())
