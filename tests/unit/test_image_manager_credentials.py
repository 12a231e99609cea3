"""Credentials for pulls: which are tried, for whom an image then is, and what is told of them."""

from __future__ import annotations

import base64
import json

from tests.support.image_manager import IMAGE, PRESENT, PULLING, Node, pod, run

from podling.runtime.protocol import ImagePullError


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
