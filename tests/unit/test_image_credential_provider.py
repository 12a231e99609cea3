"""Credential provider plugins: their configuration and the protocol, spoken with real programs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
from pathlib import Path
from typing import Any

import pytest

from podling.kubelet.image_credential_provider import CredentialProvider, ProviderConfigError, load

SCRIPT = """#!/bin/sh
cat >> "{directory}/requests"; echo >> "{directory}/requests"
echo "$@ $MODE" >> "{directory}/arguments"
{action}
"""
API = "credentialprovider.kubelet.k8s.io/v1"


def provider(name: str = "plugin", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "apiVersion": API,
        "matchImages": ["*.example.com", "reg.io:5000/team"],
        "defaultCacheDuration": "1h",
        **fields,
    }


def configuration(*providers: dict[str, Any], **fields: Any) -> str:
    config = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": providers}
    return json.dumps({**config, **fields})


def response(cache: str = "Image", **fields: Any) -> str:
    auth = {"*.example.com": {"username": "u", "password": "hunter2"}}
    return json.dumps(
        {"apiVersion": API, "kind": "CredentialProviderResponse", "cacheKeyType": cache, "auth": auth, **fields}
    )


def plugin(directory: Path, action: str = "", name: str = "plugin", **fields: Any) -> CredentialProvider:
    """`action` is what the program does after it has noted the request."""
    program = directory / name
    program.write_text(SCRIPT.format(directory=directory, action=action or f"echo '{response()}'"))
    program.chmod(0o755)
    config = directory / "config.yaml"
    config.write_text(configuration(provider(name, **fields)))
    (loaded,) = load(config, directory)
    return loaded


def calls(directory: Path) -> list[Any]:
    path = directory / "requests"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def asked(plugin: CredentialProvider, *repositories: str) -> list[list[str]]:
    """User names that the plugin gives for each."""

    async def run() -> list[list[str]]:
        return [[auth.username for auth in (await plugin.auths(name)).values()] for name in repositories]

    return asyncio.run(run())


def test_a_plugin_is_asked_by_the_protocol(tmp_path: Path) -> None:
    asks = plugin(tmp_path, args=["get", "credentials"], env=[{"name": "MODE", "value": "test"}])

    async def run() -> None:
        auths = await asks.auths("a.example.com/team/app")
        assert list(auths) == ["*.example.com"]
        assert (auths["*.example.com"].username, auths["*.example.com"].password) == ("u", "hunter2")

    asyncio.run(run())
    request = {"kind": "CredentialProviderRequest", "apiVersion": API, "image": "a.example.com/team/app"}
    assert calls(tmp_path) == [request]
    assert (tmp_path / "arguments").read_text() == "get credentials test\n"


def test_a_plugin_is_not_asked_for_images_that_are_not_its_own(tmp_path: Path) -> None:
    names = ["docker.io/library/nginx", "example.com/app", "reg.io/team/app", "reg.io:5000/other"]
    assert asked(plugin(tmp_path), *names) == [[], [], [], []]
    assert calls(tmp_path) == []
    assert asked(plugin(tmp_path), "reg.io:5000/team/app") == [["u"]]


@pytest.mark.parametrize(
    ("cache", "times"),
    [("Image", 3), ("Registry", 2), ("Global", 1)],
)
def test_answers_are_kept_for_what_the_plugin_says(tmp_path: Path, cache: str, times: int) -> None:
    names = ["a.example.com/x", "a.example.com/x", "a.example.com/y", "b.example.com/x", "a.example.com/y"]
    assert asked(plugin(tmp_path, f"echo '{response(cache)}'"), *names) == [["u"]] * 5
    assert len(calls(tmp_path)) == times


@pytest.mark.parametrize(
    ("default", "said", "times"),
    [("1h", None, 1), ("0s", None, 2), ("1h", "0s", 2), ("0s", "10m", 1), ("1h", "1ns", 2), ("1h", "-5s", 2)],
)
def test_answers_are_kept_for_as_long_as_the_plugin_says(
    tmp_path: Path, default: str, said: str | None, times: int
) -> None:
    fields = {"cacheDuration": said} if said else {}
    asks = plugin(tmp_path, f"echo '{response(**fields)}'", defaultCacheDuration=default)
    assert asked(asks, "a.example.com/x", "a.example.com/x") == [["u"], ["u"]]
    assert len(calls(tmp_path)) == times


def test_who_asks_at_the_same_time_shares_one_answer_even_if_the_first_gives_up(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    asks = plugin(tmp_path, f"cat {fifo} > /dev/null; echo '{response()}'", defaultCacheDuration="0s")

    async def run() -> None:
        tasks = [asyncio.create_task(asks.auths("a.example.com/x")) for _ in range(5)]
        # Opening the pipe waits for the plugin to do so.
        pipe = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        os.close(pipe)
        answers = await asyncio.gather(*tasks)
        assert [len(answer) for answer in answers] == [1] * 5
        assert len(calls(tmp_path)) == 1

        first = asyncio.create_task(asks.auths("a.example.com/x"))
        pipe = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        second = asyncio.create_task(asks.auths("a.example.com/x"))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        os.close(pipe)
        os.close(await asyncio.to_thread(os.open, fifo, os.O_WRONLY))
        assert len(await second) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("echo sorry >&2; exit 3", "exit status 3: sorry"),
        ("echo not JSON hunter2", "error decoding credential provider plugin response from stdout"),
        ("exit 0", "error decoding"),
        (f"echo '{response('Hunter2')}'", "error decoding"),
        (f"echo '{response(cacheDuration='hunter2')}'", "error decoding"),
        (f"echo '{response(kind='Other')}'", "error decoding"),
        (f"echo '{response(apiVersion='credentialprovider.kubelet.k8s.io/v1beta1')}'", "did not match expected"),
    ],
)
def test_a_plugin_that_fails_gives_nothing_and_is_logged_without_what_it_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, action: str, said: str
) -> None:
    with caplog.at_level(logging.ERROR):
        assert asked(plugin(tmp_path, action), "a.example.com/x", "a.example.com/x") == [[], []]
    assert len(calls(tmp_path)) == 2
    assert said in caplog.text
    assert "unter2" not in caplog.text


def test_a_plugin_that_hangs_is_ended_with_its_children(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin(tmp_path, f"sleep 1000 & echo $! $$ > {tmp_path}/pids; wait")
    loaded = load(tmp_path / "config.yaml", tmp_path)[0]
    hanging = CredentialProvider(loaded._provider, tmp_path / "plugin", timeout=0.5)
    with caplog.at_level(logging.ERROR):
        assert asked(hanging, "a.example.com/x") == [[]]
    assert "did not answer within 0.5 s" in caplog.text
    for pid in (tmp_path / "pids").read_text().split():
        try:
            process = os.pidfd_open(int(pid))
        except ProcessLookupError:
            continue
        # What was killed takes a moment to die; a descriptor of a process is readable once it has ended.
        assert select.select([process], [], [], 10)[0]
        os.close(process)


def test_configurations_of_a_directory_are_read_in_order(tmp_path: Path) -> None:
    plugin(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    directory = tmp_path / "conf"
    directory.mkdir()
    with pytest.raises(ProviderConfigError, match="no configuration files found"):
        load(directory, tmp_path)
    (directory / "b.yml").write_text(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: two\n"
        f"  apiVersion: {API}\n  matchImages: ['*.io']\n  defaultCacheDuration: 12h\n"
    )
    (directory / "a.json").write_text(configuration(provider("one")))
    (directory / "notes.txt").write_text("not read")
    assert [each.name for each in load(directory, tmp_path)] == ["one", "two"]
    (directory / "c.yaml").write_text(configuration(provider("one")))
    with pytest.raises(ProviderConfigError, match='duplicate provider name "one" found'):
        load(directory, tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (configuration(), "at least 1 item in plugins is required"),
        (configuration(provider(), kind="Other"), "kind Other instead of"),
        (configuration(provider(), apiVersion="kubelet.config.k8s.io/v9"), "kubelet.config.k8s.io/v9"),
        (configuration(provider(), unknown=1), "unknown"),
        (configuration(provider(unknown=1)), "unknown"),
        (configuration(provider(apiVersion="v1")), 'apiVersion: Unsupported value: "v1"'),
        (configuration(provider(matchImages=[])), "matchImages: Required value"),
        (configuration(provider(defaultCacheDuration=None)), "defaultCacheDuration: Required value"),
        (configuration(provider(defaultCacheDuration="soon")), 'time: invalid duration "soon"'),
        (configuration(provider(defaultCacheDuration="-1h")), "greater than or equal to 0"),
        (configuration(provider("../plugin")), "name: it must be"),
        (configuration(provider("a b")), "name: it must be"),
        (configuration(provider("..")), "name: it must be"),
        (configuration(provider("absent")), "absent did not exist"),
        (configuration(provider(tokenAttributes={"cacheType": "Token"})), "tokenAttributes: Forbidden"),
        ("[1]", "error decoding"),
        ("a: [", "error decoding"),
        ("", "error decoding"),
    ],
)
def test_wrong_configurations_are_refused_with_the_place(tmp_path: Path, config: str, said: str) -> None:
    plugin(tmp_path)
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ProviderConfigError) as error:
        load(tmp_path / "config.yaml", tmp_path)
    assert said in str(error.value)


def test_a_configuration_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProviderConfigError, match="No such file"):
        load(tmp_path / "absent.yaml", tmp_path)
