"""Who may use an image that is on the node: the decisions, and the records on disk that outlive the agent."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import image_name
from podling.kubelet import image_pull_manager
from podling.kubelet.image_credentials import Credential, SecretSource
from podling.kubelet.image_pull_manager import Allowlist, PullManager, VerificationPolicy
from podling.kubelet.image_pull_records import PullRecords, file_name
from podling.runtime.protocol import AuthConfig, Image

NAME = image_name.parse("reg.io/team/app:1")
REF = "sha256:" + "a" * 64
STORED = Image(id=REF, repo_tags=["reg.io/team/app:1"])


def credential(password: str = "pw", secret: str = "s", uid: str = "") -> Credential:
    return Credential(AuthConfig(username="u", password=password), SecretSource(uid or f"uid-{secret}", "ns", secret))


NODE = Credential(AuthConfig(username="u", password="pw"))


async def manager(
    directory: Path,
    images: Sequence[Image] = (STORED,),
    policy: VerificationPolicy = VerificationPolicy.NEVER_PRELOADED,
    allow: Sequence[str] = (),
) -> PullManager:
    made = PullManager(PullRecords(directory), policy, Allowlist(allow))
    await made.open(images)
    return made


async def pull(pulls: PullManager, used: Credential | None) -> None:
    pulls.begins(NAME)
    await pulls.pulled(NAME, REF, used)


def test_an_image_that_was_always_there_is_for_all(tmp_path: Path) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path)
        assert pulls.open_to_all(NAME, REF)
        assert await pulls.open_to(NAME, REF, [])

    asyncio.run(run())


@pytest.mark.parametrize("used", [None, NODE])
def test_what_was_pulled_without_a_secret_is_for_all(tmp_path: Path, used: Credential | None) -> None:
    async def run() -> None:
        await pull(await manager(tmp_path), used)
        assert (await manager(tmp_path)).open_to_all(NAME, REF)

    asyncio.run(run())


def test_what_was_pulled_with_a_secret_is_for_those_who_have_it_also_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        await pull(await manager(tmp_path), credential())
        pulls = await manager(tmp_path)
        assert not pulls.open_to_all(NAME, REF)
        assert not await pulls.open_to(NAME, REF, [])
        assert not await pulls.open_to(NAME, REF, [NODE])
        assert not await pulls.open_to(NAME, REF, [credential("wrong", "other")])
        # The same Secret, also with another content: whoever can change it may use the image.
        assert await pulls.open_to(NAME, REF, [credential("wrong", "other"), credential("rotated")])
        # The same content, the newest, in another Secret.
        assert await pulls.open_to(NAME, REF, [credential("rotated", "copy")])
        # A Secret that was deleted and made anew is another one.
        assert not await pulls.open_to(NAME, REF, [credential("unknown", "s", uid="new")])

    asyncio.run(run())


def test_another_name_of_the_same_image_has_to_be_opened_anew(tmp_path: Path) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path)
        await pull(pulls, None)
        assert pulls.open_to_all(image_name.parse("reg.io/team/app:2"), REF)
        assert not pulls.open_to_all(image_name.parse("reg.io/other/app:1"), REF)
        assert not pulls.open_to_all(image_name.parse(REF), REF)

    asyncio.run(run())


def test_what_was_once_for_all_stays_so(tmp_path: Path) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path)
        await pull(pulls, credential())
        await pull(pulls, None)
        await pull(pulls, credential())
        assert pulls.open_to_all(NAME, REF)

    asyncio.run(run())


def test_secrets_that_open_an_image_add_up_and_are_learned_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_pull_manager, "_LEARNED_SECRETS", 3)

    async def run() -> None:
        pulls = await manager(tmp_path)
        await pull(pulls, credential("one", "one"))
        await pull(pulls, credential("two", "two"))
        for i in range(5):
            assert await pulls.open_to(NAME, REF, [credential("one", f"copy{i}")])
        (file,) = (tmp_path / "pulled").iterdir()
        known = json.loads(file.read_text())["credentialMapping"]["reg.io/team/app"]["kubernetesSecretCoordinates"]
        assert [secret["name"] for secret in known] == ["copy0", "one", "two"]

    asyncio.run(run())


def test_records_are_upstreams_and_hold_no_credentials(tmp_path: Path) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path)
        pulls.begins(NAME)
        intent = tmp_path / "pulling" / file_name("reg.io/team/app:1")
        assert json.loads(intent.read_text()) == {
            "kind": "ImagePullIntent",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "image": "reg.io/team/app:1",
        }
        await pulls.pulled(NAME, REF, credential("hunter2"))
        assert not intent.exists()

    umask = os.umask(0)
    try:
        asyncio.run(run())
    finally:
        os.umask(umask)
    file = tmp_path / "pulled" / file_name(REF)
    text = file.read_text()
    record = json.loads(text)
    assert record.pop("lastUpdatedTime")
    secret = {"uid": "uid-s", "namespace": "ns", "name": "s", "credentialHash": credential("hunter2").hash}
    assert record == {
        "kind": "ImagePulledRecord",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "imageRef": REF,
        "credentialMapping": {"reg.io/team/app": {"kubernetesSecretCoordinates": [secret]}},
    }
    assert "hunter2" not in text
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o700}


def test_a_pull_whose_end_was_not_seen_leaves_an_image_that_has_to_be_opened(tmp_path: Path) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path, images=[])
        pulls.begins(NAME)
        # Meanwhile it counts as the kubelet's, too.
        assert not pulls.open_to_all(NAME, REF)
        restarted = await manager(tmp_path)
        assert not await restarted.open_to(NAME, REF, [credential()])
        assert list((tmp_path / "pulling").iterdir()) == []

    asyncio.run(run())


def test_a_pull_that_failed_leaves_no_trace(tmp_path: Path) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path)
        pulls.begins(NAME)
        pulls.begins(NAME)
        pulls.failed(NAME)
        assert len(list((tmp_path / "pulling").iterdir())) == 1
        pulls.failed(NAME)
        assert list((tmp_path / "pulling").iterdir()) == []
        assert pulls.open_to_all(NAME, REF)

    asyncio.run(run())


@pytest.mark.parametrize("content", [b"", b"{", b'{"imageRef": "sha256:other"}', b'{"credentialMapping": 1}'])
def test_a_record_that_cannot_be_read_opens_nothing_until_somebody_has_pulled(tmp_path: Path, content: bytes) -> None:
    async def run() -> None:
        await pull(await manager(tmp_path), None)
        (tmp_path / "pulled" / file_name(REF)).write_bytes(content)
        (tmp_path / "pulled" / f"{file_name(REF)}.tmp").write_bytes(b"left by a crash")
        pulls = await manager(tmp_path)
        assert not await pulls.open_to(NAME, REF, [credential()])
        await pull(pulls, credential())
        assert await (await manager(tmp_path)).open_to(NAME, REF, [credential()])

    asyncio.run(run())


def test_records_end_with_their_images_unless_a_pull_runs(tmp_path: Path) -> None:
    async def images() -> list[Image]:
        return []

    async def run() -> None:
        pulls = await manager(tmp_path)
        await pull(pulls, credential())
        pulls.begins(NAME)
        await pulls.prune(images)
        assert not pulls.open_to_all(NAME, REF)
        pulls.failed(NAME)
        await pulls.prune(images)
        assert pulls.open_to_all(NAME, REF)
        assert list((tmp_path / "pulled").iterdir()) == []
        await pull(pulls, credential())
        assert (await manager(tmp_path, images=[])).open_to_all(NAME, REF)

    asyncio.run(run())


def test_a_record_that_cannot_be_written_leaves_the_intent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        pulls = await manager(tmp_path, images=[])
        with monkeypatch.context() as patch:
            patch.setattr(PullRecords, "flush", full)
            await pull(pulls, credential())
        assert len(list((tmp_path / "pulling").iterdir())) == 1
        assert not (await manager(tmp_path)).open_to_all(NAME, REF)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("policy", "preloaded", "pulled"),
    [
        (VerificationPolicy.NEVER, True, True),
        (VerificationPolicy.NEVER_PRELOADED, True, False),
        (VerificationPolicy.NEVER_ALLOWLISTED, False, False),
        (VerificationPolicy.ALWAYS, False, False),
    ],
)
def test_policies(tmp_path: Path, policy: VerificationPolicy, preloaded: bool, pulled: bool) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path, policy=policy)
        assert pulls.open_to_all(NAME, REF) is preloaded
        await pull(pulls, credential())
        assert pulls.open_to_all(NAME, REF) is pulled

    asyncio.run(run())


@pytest.mark.parametrize(
    ("allow", "opened"),
    [
        (["reg.io/team/app"], True),
        (["reg.io/team/*"], True),
        (["reg.io/*"], True),
        (["reg.io/team/ap"], False),
        (["reg.io/teams/*"], False),
        (["other.io/x", "docker.io/library/app"], False),
    ],
)
def test_allowlisted_images_are_for_all(tmp_path: Path, allow: list[str], opened: bool) -> None:
    async def run() -> None:
        pulls = await manager(tmp_path, policy=VerificationPolicy.NEVER_ALLOWLISTED, allow=allow)
        await pull(pulls, credential())
        assert pulls.open_to_all(NAME, REF) is opened

    asyncio.run(run())


@pytest.mark.parametrize("pattern", ["", "*", "/*", "reg.io/*/app", "reg.io/app:1", "nginx", "reg.io/App", " reg.io/a"])
def test_allowlists_that_say_nothing_sensible_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Allowlist([pattern])


SECRETS = st.builds(credential, st.sampled_from("ab"), st.sampled_from("st"))


@given(st.lists(st.one_of(st.none(), st.just(NODE), SECRETS), max_size=6), SECRETS)
def test_a_pod_gets_in_just_if_somebody_like_it_did_before(
    tmp_path_factory: pytest.TempPathFactory, pulled: list[Credential | None], comes: Credential
) -> None:
    directory = tmp_path_factory.mktemp("records")

    async def run() -> None:
        pulls = await manager(directory, images=[])
        for used in pulled:
            await pull(pulls, used)
        everybody = not pulled or any(used is None or used.source is None for used in pulled)
        # Of a Secret that changed, the newest content counts.
        newest = {used.source: used.hash for used in pulled if used is not None}
        alike = comes.source in newest or comes.hash in newest.values()
        for seen in (pulls, await manager(directory)):
            assert seen.open_to_all(NAME, REF) is everybody
            assert await seen.open_to(NAME, REF, [comes]) is (everybody or alike)

    asyncio.run(run())
