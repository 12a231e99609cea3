"""Start, restart and stop of the API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.api import pod, started
from tests.support.api_server import free_port

from podling.apiserver.server import ServerConfig, serve

PODS = "http://localhost/api/v1/namespaces/default/pods"
MAPS = "http://localhost/api/v1/namespaces/default/configmaps"


def _config(directory: Path, **more: Any) -> ServerConfig:
    paths = {"data_dir": directory / "data", "run_dir": directory / "run", "node_name": "n", "port": free_port()}
    return ServerConfig(**{**paths, **more})


@asynccontextmanager
async def _serving(
    config: ServerConfig,
) -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.Event, asyncio.Task[None]]]:
    ready, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        server = group.create_task(serve(config, ready=ready, stop=stop))
        await ready.wait()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(config.socket))) as client:
            yield client, stop, server
        stop.set()


SERVICE = "http://localhost/api/v1/namespaces/default/services/kubernetes"
ENDPOINTS = "http://localhost/api/v1/namespaces/default/endpoints/kubernetes"
LEASES = "http://localhost/api/v1/namespaces/kube-node-lease"


async def _once(client: aiohttp.ClientSession, url: str, holds: Callable[[Any], bool]) -> Any:
    """Return the object at `url` once it is as wanted: seen by a watch of its collection."""
    collection, _, name = url.rpartition("/")
    query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": "30"}
    async with client.get(collection, params=query) as response:
        async for line in response.content:
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED") and holds(event["object"]):
                return event["object"]
    raise AssertionError(f"{url} did not become what it should")


@pytest.mark.parametrize("url", [SERVICE, ENDPOINTS, LEASES])
def test_what_the_server_needs_comes_back_when_it_is_deleted(tmp_path: Path, url: str) -> None:
    async def run() -> None:
        async with _serving(_config(tmp_path)) as (client, _, _):
            before = await (await client.get(url)).json()
            assert (await client.delete(url)).status == 200
            if url == LEASES:  # the namespace controller's part
                terminating = await (await client.get(url)).json()
                terminating["spec"]["finalizers"] = []
                assert (await client.put(f"{url}/finalize", json=terminating)).status == 200
            after = await _once(client, url, lambda found: found["metadata"]["uid"] != before["metadata"]["uid"])
            assert [after.get(key) for key in ("subsets", "data")] == [before.get(key) for key in ("subsets", "data")]
            if url == SERVICE:
                assert after["spec"] == before["spec"]
            elif url == LEASES:
                assert after["status"] == {"phase": "Active"}

    asyncio.run(run())


def test_the_endpoints_of_the_server_are_put_right_when_they_are_changed(tmp_path: Path) -> None:
    async def run() -> None:
        async with _serving(_config(tmp_path, advertise_address="192.0.2.1")) as (client, _, _):
            before = await (await client.get(ENDPOINTS)).json()
            stolen = {**before, "subsets": [{"addresses": [{"ip": "198.51.100.1"}], "ports": [{"port": 1}]}]}
            assert (await client.put(ENDPOINTS, json=stolen)).status == 200
            await _once(client, ENDPOINTS, lambda found: found["subsets"] == before["subsets"])

    asyncio.run(run())


def test_what_was_stored_is_there_after_kill_and_restart(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        path = "/api/v1/namespaces/default"
        first.create(f"{path}/serviceaccounts", {"metadata": {"name": "default"}})
        made = first.create(f"{path}/pods", pod())
        service = first.create(f"{path}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
        token = first.create(f"{path}/serviceaccounts/default/token", {"spec": {}})["status"]["token"]
        credentials = first.kubeconfig.read_text().split("users:")[1]
    with started(tmp_path) as second:
        assert second.get(f"{path}/pods/web").json == made
        address = service["spec"]["clusterIP"]
        taken = second.post(
            f"{path}/services", {"metadata": {"name": "t"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}
        )
        assert taken.code == 422
        assert "already allocated" in taken.message
        review = second.create("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
        assert review["status"]["authenticated"] is True
        assert second.kubeconfig.read_text().split("users:")[1] == credentials
        assert second.get(f"{path}/services/kubernetes").json["spec"]["ports"][0]["targetPort"] == second.server.port
        with second.watch(f"{path}/pods", resourceVersion=made["metadata"]["resourceVersion"]) as events:
            second.create(f"{path}/pods", pod("next"))
            assert next(events)["object"]["metadata"]["name"] == "next"


def test_stopping_ends_watches_properly_and_waits_for_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _serving(_config(tmp_path)) as (client, stop, server), client.get(f"{MAPS}?watch=true") as watch:
            await client.post(MAPS, json={"metadata": {"name": "a"}})
            first = json.loads(await watch.content.readline())
            assert first["object"]["metadata"]["name"] == "a"
            stop.set()
            async with asyncio.timeout(60):  # a watch lasts for half an hour
                assert await watch.content.read() == b""  # a stream that is cut off raises
                await server

    asyncio.run(scenario())


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = _config(tmp_path)
        async with _serving(config) as (client, _, _):
            with pytest.raises(Exception, match="in use"):
                await serve(_config(tmp_path), stop=asyncio.Event())
            async with client.get("http://localhost/readyz") as answer:
                assert await answer.text() == "ok"

    asyncio.run(scenario())


def test_a_port_in_use_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = _config(tmp_path / "a")
        async with _serving(first):
            other = _config(tmp_path / "b", port=first.port)
            with pytest.raises(OSError, match="ddress already in use"):
                await serve(other, stop=asyncio.Event())
            assert not other.socket.exists()

    asyncio.run(scenario())


def test_a_client_that_goes_away_leaves_no_watch(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = _config(tmp_path)
        async with _serving(config) as (client, _, _):
            names = {task.get_name() for task in asyncio.all_tasks()}
            answers = [await client.get(f"{PODS}?watch=true") for _ in range(20)]
            assert len(asyncio.all_tasks()) >= len(names) + 20
            for answer in answers:
                answer.close()
            left = [task for task in asyncio.all_tasks() if task.get_name() not in names and not task.done()]
            _, pending = await asyncio.wait(left, timeout=5) if left else (None, None)
            assert not pending

    asyncio.run(scenario())


def test_answers_to_the_readiness_probe_name_the_checks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _serving(_config(tmp_path)) as (client, _, _):
            async with client.get("http://localhost/readyz?verbose") as answer:
                text = await answer.text()
            assert "[+]etcd ok" in text
            assert text.endswith("readyz check passed\n")
            for path, expected in (
                ("/healthz", "ok"),
                (
                    "/healthz?verbose",
                    "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]poststarthook/bootstrap ok\nhealthz check passed\n",
                ),
                ("/livez?exclude=log&exclude=none", "ok"),
                ("/livez/etcd", "ok"),
                ("/livez/luck", "404 page not found\n"),
            ):
                async with client.get(f"http://localhost{path}") as answer:
                    assert await answer.text() == expected
            async with client.get("http://localhost/livez?verbose&exclude=log&exclude=none") as answer:
                text = await answer.text()
            assert "[+]log excluded: ok\n" in text
            assert 'warn: some health checks cannot be excluded: no matches for "none"\n' in text
            async with client.get("http://localhost/metrics") as answer:
                assert 'apiserver_request_total{code="200",verb="get"' in await answer.text()

    asyncio.run(scenario())


def test_words_of_strangers_take_no_memory_in_the_metrics(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _serving(_config(tmp_path)) as (client, _, _):
            for path in ("/apis/made-up/v1/words", "/api/v1/words", "/api/v1/namespaces/a/pods/b/words", "/words/c/d"):
                async with client.get(f"http://localhost{path}") as answer:
                    assert answer.status == 404
            async with client.request("WORDS", "http://localhost/api/v1/pods") as answer:
                assert answer.status >= 400
            async with client.get("http://localhost/metrics") as answer:
                text = await answer.text()
            assert 'resource="other"' in text
            assert 'resource="pods",subresource="other"' in text
            assert "words" not in text
            assert "made-up" not in text

    asyncio.run(scenario())
