"""Binding, eviction, logs, and what Services are given."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from tests.support.api import Api, pod

NODE = {"target": {"kind": "Node", "name": "n1"}}


def test_a_binding_puts_a_pod_on_a_node(api: Api, pods: str) -> None:
    api.create(pods, pod())
    answer = api.post(f"{pods}/web/binding", NODE)
    assert answer.json == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
    bound = api.get(f"{pods}/web").json
    assert bound["spec"]["nodeName"] == "n1"
    condition = bound["status"]["conditions"][0]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")


def test_bindings_can_be_posted_as_a_collection(api: Api, namespace: str, pods: str) -> None:
    api.create(pods, pod())
    assert api.post(f"/api/v1/namespaces/{namespace}/bindings", {"metadata": {"name": "web"}, **NODE}).code == 201
    assert api.get(f"{pods}/web").json["spec"]["nodeName"] == "n1"


def test_a_bound_pod_is_not_bound_again(api: Api, pods: str) -> None:
    made = api.create(pods, pod())
    other = api.post(f"{pods}/web/binding", {"metadata": {"uid": "other"}, **NODE})
    assert other.code == 409
    assert api.post(f"{pods}/web/binding", {"metadata": {"uid": made["metadata"]["uid"]}, **NODE}).code == 201
    again = api.post(f"{pods}/web/binding", NODE)
    assert (again.code, again.json["reason"]) == (409, "Conflict")
    assert again.message == (
        'Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "n1"'
    )


def test_pods_that_are_gated_or_going_are_not_bound(api: Api, pods: str) -> None:
    api.create(pods, pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
    gated = api.post(f"{pods}/gated/binding", NODE)
    assert gated.code == 409
    assert gated.message.endswith("pod gated has non-empty .spec.schedulingGates")
    api.create(pods, pod("going", metadata={"finalizers": ["example.com/hold"]}))
    api.delete(f"{pods}/going")
    going = api.post(f"{pods}/going/binding", NODE)
    assert going.code == 409
    assert going.message.endswith("pod going is being deleted, cannot be assigned to a host")


def test_wrong_bindings_are_invalid(api: Api, pods: str) -> None:
    api.create(pods, pod())
    answer = api.post(f"{pods}/web/binding", {"target": {"kind": "Shelf", "name": ""}})
    assert answer.code == 422
    assert {cause["field"] for cause in answer.json["details"]["causes"]} == {"target.kind", "target.name"}
    assert api.post(f"{pods}/none/binding", NODE).code == 404


def test_an_eviction_deletes(api: Api, pods: str) -> None:
    api.create(pods, pod())
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
    dry = api.post(f"{pods}/web/eviction", {**eviction, "deleteOptions": {"dryRun": ["All"]}})
    assert dry.code == 201, dry.raw
    assert api.get(f"{pods}/web").code == 200
    assert api.post(f"{pods}/web/eviction", eviction).code == 201
    assert api.get(f"{pods}/web").code == 404


class Kubelet:
    """Answers /containerLogs as a kubelet does, with the cluster's certificate for its node."""

    def __init__(self, api: Api) -> None:
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.port = 0
        self.elsewhere: tuple[int, str] = (0, "")
        """Where it sends whoever asks for a log, and with which status."""
        self._api = api
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Kubelet:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        pki = self._api.pki
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca.cert))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(pki.kubelet.cert, pki.kubelet.key)
        runner = web.AppRunner(self._app(), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        return app

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        subject = request.get_extra_info("peercert")["subject"]
        name = dict(pair for part in subject for pair in part)["commonName"]
        self.asked.append((request.path, dict(request.query), name))
        if self.elsewhere[0]:
            return web.Response(status=self.elsewhere[0], headers={"Location": self.elsewhere[1]}, text="there")
        if "previous" in request.query:
            return web.Response(status=400, text='previous terminated container "main" in pod "web" not found')
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first\n")
        if "follow" in request.query:
            await asyncio.Event().wait()
        return response


@pytest.fixture
def kubelet(api: Api) -> Iterator[Kubelet]:
    with Kubelet(api) as running:
        yield running


@pytest.fixture
def on_node(api: Api, pods: str, kubelet: Kubelet) -> str:
    """The path of a Pod of two containers on the node whose kubelet answers."""
    status: dict[str, Any] = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
    }
    if api.get("/api/v1/nodes/test-node").code == 404:
        api.create("/api/v1/nodes", {"metadata": {"name": "test-node"}})
    assert api.patch("/api/v1/nodes/test-node/status", {"status": status}).code == 200
    api.create(pods, pod(containers=("main", "side")))
    assert api.post(f"{pods}/web/binding", {"target": {"kind": "Node", "name": "test-node"}}).code == 201
    return f"{pods}/web"


def test_logs_come_from_the_kubelet(api: Api, on_node: str, kubelet: Kubelet, namespace: str) -> None:
    query = "container=side&tailLines=5&timestamps=true&sinceSeconds=60&limitBytes=100&follow=false"
    answer = api.get(f"{on_node}/log?{query}")
    assert (answer.code, answer.raw) == (200, b"first\n")
    assert answer.headers["Content-Type"] == "text/plain"
    wanted = {"tailLines": "5", "timestamps": "true", "sinceSeconds": "60", "limitBytes": "100"}
    assert kubelet.asked == [(f"/containerLogs/{namespace}/web/side", wanted, "kube-apiserver-kubelet-client")]


def test_a_followed_log_is_streamed(api: Api, on_node: str) -> None:
    connection = api.open()
    connection.request("GET", f"{on_node}/log?container=main&follow=true")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    connection.close()


def test_the_kubelets_refusal_is_passed_on(api: Api, on_node: str) -> None:
    answer = api.get(f"{on_node}/log?container=main&previous=true")
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest")
    assert answer.message == 'previous terminated container "main" in pod "web" not found'


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["the kubelet itself", "the API server"])
def test_a_node_sends_the_api_server_nowhere(api: Api, on_node: str, kubelet: Kubelet, code: int, to: str) -> None:
    """CVE-2018-1002102: it would fetch what only it can reach, and show it as the log."""
    port = kubelet.port if to == "the kubelet itself" else api.server.port
    kubelet.elsewhere = code, f"https://127.0.0.1:{port}/containerLogs/other/pod/main"
    answer = api.get(f"{on_node}/log?container=main")
    assert (answer.code, answer.message) == (500, f'Get "{kubelet.elsewhere[1]}": redirects forbidden')
    assert len(kubelet.asked) == 1


def test_a_status_that_no_kubelet_sends_is_no_log(api: Api, on_node: str, kubelet: Kubelet) -> None:
    kubelet.elsewhere = 304, ""
    answer = api.get(f"{on_node}/log?container=main")
    assert answer.code == 500


def test_logs_of_several_containers_need_a_name(api: Api, on_node: str) -> None:
    answer = api.get(f"{on_node}/log")
    assert answer.code == 400
    assert answer.message == "a container name must be specified for pod web, choose one of: [main side]"
    unknown = api.get(f"{on_node}/log?container=other")
    assert (unknown.code, unknown.message) == (400, "container other is not valid for pod web")


def test_wrong_log_options_are_refused(api: Api, on_node: str) -> None:
    assert api.get(f"{on_node}/log?container=main&tailLines=-1").code == 422
    assert api.get(f"{on_node}/log?container=main&sinceSeconds=0").code == 422
    assert api.get(f"{on_node}/log?container=main&limitBytes=x").code == 400
    assert api.get(f"{on_node}/log?container=main&sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").code == 422


def test_a_pod_without_a_node_has_an_empty_log(api: Api, pods: str) -> None:
    api.create(pods, pod())
    answer = api.get(f"{pods}/web/log")
    assert (answer.code, answer.raw) == (200, b"")


def test_an_unreachable_kubelet_is_an_internal_error(api: Api, on_node: str) -> None:
    dead = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}
    api.patch("/api/v1/nodes/test-node/status", dead)
    answer = api.get(f"{on_node}/log?container=main")
    assert answer.code == 500
    assert answer.message.startswith(
        'Internal error occurred: error dialing backend: Get "https://127.0.0.1:1/containerLogs/'
    )
    assert answer.message.endswith('": dial tcp 127.0.0.1:1: connect: connection refused')


def test_services_are_given_addresses_and_ports(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    made = api.create(path, {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
    assert address.startswith("10.96.")
    assert made["spec"]["clusterIPs"] == [address]
    assert 30000 <= port <= 32767
    taken = api.post(path, {"metadata": {"name": "b"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}})
    assert taken.code == 422
    assert f"failed to allocate IP {address}: provided IP is already allocated" in taken.message
    ports = [{"port": 80, "nodePort": port}]
    taken_port = api.post(path, {"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": ports}})
    assert taken_port.code == 422
    assert "provided port is already allocated" in taken_port.message
    assert api.delete(f"{path}/a").code == 200
    free = api.post(path, {"metadata": {"name": "b"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}})
    assert free.code == 201, free.raw


def test_headless_services_keep_no_address(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    made = api.create(path, {"metadata": {"name": "a"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}})
    assert made["spec"]["clusterIPs"] == ["None"]


def test_the_service_kubernetes_has_the_first_address(api: Api) -> None:
    service = api.get("/api/v1/namespaces/default/services/kubernetes").json
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    assert service["spec"]["ports"] == [
        {"name": "https", "port": 443, "protocol": "TCP", "targetPort": api.server.port}
    ]
    assert api.get("/api/v1/namespaces/default/endpoints/kubernetes").code == 200
