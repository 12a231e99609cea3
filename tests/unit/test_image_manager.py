"""Pull policy, back-off, messages and events, with a runtime whose registry answers as a test says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from podling.api.core.v1 import Event, LocalObjectReference, ObjectReference, Pod, PodSpec, Secret
from podling.api.go import duration, parse_duration
from podling.api.meta.v1 import ObjectMeta
from podling.client.client import ConnectionFailed
from podling.client.events import Correlator
from podling.kubelet.image_auth_file import NodeAuthFile
from podling.kubelet.image_manager import ImageError, ImageManager
from podling.kubelet.image_pull_credentials import PullCredentials
from podling.kubelet.image_pull_manager import PullManager
from podling.kubelet.image_pull_records import PullRecords
from podling.runtime.protocol import AuthConfig, CRIError, Image, ImagePullError

IMAGE = "reg.io/team/app:1"
ID = "sha256:" + "a" * 64


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


PULLING = f'Normal Pulling Pulling image "{IMAGE}"'
PRESENT = f'Normal Pulled Container image "{IMAGE}" already present on machine and can be accessed by the pod'


def test_if_not_present_pulls_once(node: Node) -> None:
    async def scenario() -> None:
        await node.use(pod("a"))
        pulled = (
            f'Normal Pulled Successfully pulled image "{IMAGE}" in 0s (0s including waiting). Image size: 12345 bytes.'
        )
        assert node.told() == [PULLING, pulled]
        await node.use(pod("b"))
        assert node.told() == [PRESENT]
        assert node.registry.pulls == [""]

    run(scenario)


def test_always_asks_every_time(node: Node) -> None:
    async def scenario() -> None:
        for _ in range(3):
            await node.use(pod("a"), "Always")
        assert len(node.registry.pulls) == 3

    run(scenario)


def test_never_does_not_pull(node: Node) -> None:
    text = f'Container image "{IMAGE}" is not present with pull policy of Never'

    async def scenario() -> None:
        error = await node.refused(pod("a"), "Never")
        assert (error.reason, error.message) == ("ErrImageNeverPull", text)
        assert node.told() == [f"Warning ErrImageNeverPull {text}", "Warning Failed Error: ErrImageNeverPull"]
        node.registry.stored = Image(id=ID)
        assert (await node.use(pod("a"), "Never")).id == ID
        assert node.registry.pulls == []

    run(scenario)


def test_an_invalid_name_is_said_to_be_one(node: Node) -> None:
    async def scenario() -> None:
        error = await node.refused(pod("a"), image="Reg.io/UPPER")
        assert error.reason == "InvalidImageName"
        assert error.message == (
            'Failed to apply default image tag "Reg.io/UPPER": couldn\'t parse image name "Reg.io/UPPER": '
            "invalid reference format: repository name (UPPER) must be lowercase"
        )
        assert node.told() == [f"Warning InspectFailed {error.message}", "Warning Failed Error: InvalidImageName"]

    run(scenario)


def test_failed_pulls_back_off_from_ten_seconds_to_five_minutes(node: Node) -> None:
    node.registry.passwords = set()

    async def scenario() -> None:
        for delay in (10, 20, 40, 80, 160, 300, 300):
            error = await node.refused(pod("a"))
            assert (error.reason, error.message) == ("ErrImagePull", "unauthorized: nobody")
            assert node.told() == [
                PULLING,
                f'Warning Failed Failed to pull image "{IMAGE}": unauthorized: nobody',
                "Warning Failed Error: ErrImagePull",
            ]
            node.now += 2
            error = await node.refused(pod("a"))
            assert error.reason == "ImagePullBackOff"
            assert error.message == f'Back-off pulling image "{IMAGE}": ErrImagePull: unauthorized: nobody'
            assert error.retry_in == pytest.approx(delay - 2)
            assert node.told() == [
                f'Normal BackOff Back-off pulling image "{IMAGE}"',
                "Warning Failed Error: ImagePullBackOff",
            ]
            node.now += error.retry_in
        assert len(node.registry.pulls) == 7
        # Another Pod, another image and a Pod that is gone start anew.
        assert (await node.refused(pod("b"))).reason == "ErrImagePull"
        assert (await node.refused(pod("a"), image="reg.io/other")).reason == "ErrImagePull"
        node.manager.forget("a")
        assert (await node.refused(pod("a"))).reason == "ErrImagePull"
        # Long after the last failure the delay is the first one again.
        node.now += 601
        assert (await node.refused(pod("a"))).reason == "ErrImagePull"
        assert (await node.refused(pod("a"))).retry_in == 10

    run(scenario)


def test_success_ends_the_back_off(node: Node) -> None:
    node.registry.passwords = set()

    async def scenario() -> None:
        await node.refused(pod("a"), "Always")
        node.registry.passwords = None
        node.now += 10
        await node.use(pod("a"), "Always")
        node.registry.passwords = set()
        await node.refused(pod("a"), "Always")
        assert (await node.refused(pod("a"), "Always")).retry_in == 10

    run(scenario)


def test_new_credentials_end_the_back_off_at_once(node: Node) -> None:
    node.registry.passwords = {"right"}

    async def scenario() -> None:
        missing = (
            "Warning FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (s, t); "
            "attempting to pull the image may not succeed."
        )
        waiting = pod("a", "s", "t")
        await node.refused(waiting)
        assert node.told()[:2] == [missing, PULLING]
        assert not await node.manager.credentials_changed(waiting, IMAGE)
        node.put_secret("s", "wrong", server="elsewhere.io")
        assert not await node.manager.credentials_changed(waiting, IMAGE)
        node.put_secret("s", "wrong")
        assert await node.manager.credentials_changed(waiting, IMAGE)
        assert (await node.refused(waiting)).reason == "ErrImagePull"
        assert not await node.manager.credentials_changed(waiting, IMAGE)
        assert (await node.refused(waiting)).retry_in == 10
        node.put_secret("t", "right")
        await node.use(waiting)
        assert node.registry.pulls == ["", "wrong", "wrong", "right"]
        assert not await node.manager.credentials_changed(waiting, IMAGE)

    run(scenario)


def test_credentials_are_tried_in_order_and_the_node_s_last(node: Node) -> None:
    node.registry.passwords = {"of the node"}
    node.put_secret("one", "1", "2")
    node.put_secret("two", "3", "1")
    node.auth_file.write_text(json.dumps({"auths": {"reg.io": {"username": "u", "password": "of the node"}}}))

    async def scenario() -> None:
        await node.use(pod("a", "two", "one", "two"))
        # The longer path first, then in the order of the secrets; nothing that failed is tried twice.
        assert node.registry.pulls == ["1", "2", "3", "of the node"]
        # What the node's own credentials opened is for all its Pods.
        await node.use(pod("b"))
        assert len(node.registry.pulls) == 4

    run(scenario)


def test_no_pull_without_credentials_where_there_are_some_and_all_errors_are_told(node: Node) -> None:
    node.registry.passwords = {"right"}
    node.put_secret("s", "1", "2")

    async def scenario() -> None:
        error = await node.refused(pod("a", "s"))
        assert node.registry.pulls == ["2", "1"]
        assert error.message == "unauthorized: credentials"

    run(scenario)


def test_a_registry_that_repeats_credentials_does_not_get_them_told(node: Node) -> None:
    encoded = base64.b64encode(b"u:hunter2").decode()
    node.registry.error = ImagePullError("ErrImagePull", f"401: hunter2 of u, sent as Basic {encoded}, is wrong")
    node.put_secret("s", "hunter2")

    async def scenario() -> None:
        error = await node.refused(pod("a", "s"))
        assert error.message == "401: [hidden] of u, sent as Basic [hidden], is wrong"
        assert error.message in node.told()[1]

    run(scenario)


def test_a_private_image_is_for_pods_with_credentials_only(node: Node) -> None:
    node.registry.passwords = {"right"}
    node.put_secret("s", "right")

    async def scenario() -> None:
        await node.use(pod("owner", "s"))
        node.told()
        assert (await node.refused(pod("stranger"))).reason == "ErrImagePull"
        assert node.told()[0] == PULLING
        # Never: not even that it is there is told.
        error = await node.refused(pod("stranger"), "Never")
        assert error.message == f'Container image "{IMAGE}" is not present with pull policy of Never'
        assert node.registry.pulls == ["right", ""]
        node.told()
        await node.use(pod("friend", "s"))
        await node.use(pod("friend", "s"), "Never")
        assert node.told() == [PRESENT, PRESENT]
        assert node.registry.pulls == ["right", ""]

    run(scenario)


def test_a_secret_that_cannot_be_read_is_told_and_the_others_are_used(node: Node) -> None:
    node.registry.passwords = {"right"}
    node.put_secret("good", "right")
    node.put_secret("bad", "x")
    node.secrets["bad"].data[".dockerconfigjson"] = b"hunter2"

    async def scenario() -> None:
        await node.use(pod("a", "bad", "good"))
        text = "bad: it is no docker config.json; attempting to pull the image may not succeed."
        assert node.told()[0] == f"Warning FailedToRetrieveImagePullSecret Unable to read image pull secret {text}"

    run(scenario)


def test_an_api_server_that_is_away_is_no_failed_pull(node: Node) -> None:
    node.registry.passwords = {"right"}
    node.put_secret("s", "right")
    node.away = True

    async def scenario() -> None:
        error = await node.refused(pod("a", "s"))
        assert (error.reason, error.retry_in) == ("ErrImagePull", 1)
        assert "image pull secrets cannot be read" in error.message
        node.away = False
        await node.use(pod("a", "s"))
        assert node.registry.pulls == ["right"]

    run(scenario)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("RegistryUnavailable", f"image pull failed for {IMAGE} because the registry is unavailable: why"),
        ("SignatureValidationFailed", f"image pull failed for {IMAGE} because the signature validation failed: why"),
    ],
)
def test_causes_with_a_reason_of_their_own(node: Node, reason: str, message: str) -> None:
    node.registry.error = ImagePullError(reason, "why")

    async def scenario() -> None:
        error = await node.refused(pod("a"))
        assert (error.reason, error.message) == (reason, message)
        assert node.told()[-1] == f"Warning Failed Error: {reason}"
        assert (await node.refused(pod("a"))).message == f'Back-off pulling image "{IMAGE}": {reason}: {message}'

    run(scenario)


def test_waiting_for_others_is_told_apart_from_pulling(node: Node) -> None:
    async def scenario() -> None:
        pull = node.registry.pull_image

        async def slow(image: str, auth: AuthConfig | None = None, *, on_start: Callable[[], None], **_: Any) -> str:
            node.now += 61.5

            def started() -> None:
                on_start()
                node.now += 0.25

            return await pull(image, auth, on_start=started)

        node.registry.pull_image = slow  # type: ignore[method-assign]
        await node.use(pod("a"))
        assert "in 250ms (1m1.75s including waiting). Image size: 12345 bytes." in node.told()[-1]

    run(scenario)


class SlowRegistry(Registry):
    """Every pull waits 100 s for others; then 12,345,678 bytes arrive in each of `tens` times ten seconds."""

    def __init__(self, node: Node, tens: int) -> None:
        super().__init__()
        self.node = node
        self.tens = tens

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig | None = None,
        *,
        on_start: Callable[[], None],
        on_progress: Callable[[int], None] = lambda received: None,
        **_: Any,
    ) -> str:
        self.node.now += 100
        on_start()
        for number in range(1, self.tens + 1):
            self.node.now += 10.015625
            on_progress(number * 12_345_678)
        return await super().pull_image(image, auth, on_start=lambda: None)


def still(pulling: list[str]) -> list[str]:
    """What the events say of pulls under way."""
    start = f'Normal Pulling Still pulling image "{IMAGE}": '
    return [event.removeprefix(start) for event in pulling if event.startswith(start)]


def slow_node(directory: Path, monkeypatch: pytest.MonkeyPatch, tens: int) -> Node:
    node = Node(directory, monkeypatch)
    node.registry = SlowRegistry(node, tens)
    node.connect()
    asyncio.run(node.pulls.open([]))
    return node


def test_a_long_pull_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = slow_node(tmp_path, monkeypatch, 16)

    async def scenario() -> None:
        await node.use(pod("a"))
        told = node.told()
        assert told[0] == PULLING
        assert told[1:-1] == [
            f'Normal Pulling Still pulling image "{IMAGE}": 37.0 MB after 30s',
            f'Normal Pulling Still pulling image "{IMAGE}": 111.1 MB after 1m30s',
            f'Normal Pulling Still pulling image "{IMAGE}": 185.2 MB after 2m30s',
        ]
        assert "in 2m40.25s (4m20.25s including waiting)" in told[-1]

    run(scenario)


def test_a_pull_of_less_than_half_a_minute_has_no_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = slow_node(tmp_path, monkeypatch, 2)

    async def scenario() -> None:
        await node.use(pod("a"))
        assert [event.split()[1] for event in node.told()] == ["Pulling", "Pulled"]

    run(scenario)


def test_each_credential_s_try_counts_its_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = slow_node(tmp_path, monkeypatch, 4)
    node.registry.passwords = {"right"}
    node.put_secret("s", "right", "wrong")

    async def scenario() -> None:
        await node.use(pod("a", "s"))
        assert node.registry.pulls == ["wrong", "right"]
        assert still(node.told()) == ["37.0 MB after 30s"] * 2

    run(scenario)


def test_news_of_hours_leave_room_for_the_events_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source may speak of an object 25 times, and then once in five minutes."""
    node = slow_node(tmp_path, monkeypatch, 6 * 180)
    correlator = Correlator()
    about = ObjectReference(kind="Pod", namespace="ns", name="a", uid="a")
    written = []

    def report(type: str, reason: str, message: str) -> None:
        event = Event(involved_object=about, type=type, reason=reason, message=message)
        written.append(correlator.correlate(event, node.now) is not None)

    async def scenario() -> None:
        await node.manager.ensure(pod("a"), IMAGE, "Always", report)
        assert len(written) == 1 + 11 + 33 + 1  # Pulling, news of ten minutes, of three hours, Pulled
        report("Normal", "Created", "Container created")
        report("Normal", "Started", "Container started")
        assert all(written)

    run(scenario)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.85, "850ms"),
        (1, "1s"),
        (1.2345, "1.234s"),
        (60, "1m0s"),
        (119.9999, "1m59.999s"),
        (3600, "1h0m0s"),
        (3723.5, "1h2m3.5s"),
    ],
)
def test_durations_are_printed_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12h", 43200), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("100ms", 0.1), ("-5s", -5), ("+1s", 1), ("0", 0)],
)
def test_durations_are_read_as_go_does(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "1 s", "--1s", "1s2", "."])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        parse_duration(text)
