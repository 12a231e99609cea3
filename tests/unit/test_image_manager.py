"""Pull policy, back-off, messages and events, with a runtime whose registry answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.image_manager import ID, IMAGE, PRESENT, PULLING, Node, Registry, pod, run

from podling.api.core.v1 import Event, ObjectReference
from podling.client.events import Correlator
from podling.runtime.protocol import AuthConfig, Image, ImagePullError


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
