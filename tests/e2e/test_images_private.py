"""Private images, against a registry that asks for a password: secrets in the Pod and in the service account, the node's own
file, plugins; and what those see who have no credentials, or the wrong ones."""

from __future__ import annotations

import base64
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.pods import RUN, container, mount, pod
from tools import images
from tools.registry import Registry

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVER = "dregistry.azurecr.io"
USER, PASSWORD = "alice", "wonderland"
DENIED = "pull access denied, repository does not exist or may require authorization"

PLUGIN = """#!/bin/sh
cat >> "$RECORD"; echo >> "$RECORD"
echo '{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
       "cacheKeyType": "Registry", "auth": {"plugin.azurecr.io": {"username": "alice", "password": "wonderland"}}}'
"""


@pytest.fixture(scope="module")
def plugin_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The requests that the credential provider plugin was sent."""
    return tmp_path_factory.mktemp("plugin") / "requests"


@pytest.fixture(scope="module")
def cluster(
    registry: Registry,
    private_registry: Registry,
    plugin_record: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """dregistry.azurecr.io has the private registry as its mirror, plugin.azurecr.io is it; the rest is public."""
    directory = tmp_path_factory.mktemp("config")
    mirror = f'location = "{private_registry.address}/azurecr.io"\ninsecure = true\n'
    conf = directory / "registries.conf"
    conf.write_text(
        registry.registries_conf.read_text()
        + f'\n[[registry]]\nprefix = "{SERVER}"\nlocation = "{SERVER}"\n[[registry.mirror]]\n{mirror}'
        + f'\n[[registry]]\nprefix = "plugin.azurecr.io"\n{mirror}'
    )
    program = directory / "bin" / "acr"
    program.parent.mkdir()
    program.write_text(PLUGIN)
    program.chmod(0o755)
    provider = {
        "name": "acr",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "matchImages": ["plugin.*.io"],
        "defaultCacheDuration": "1h",
        "env": [{"name": "RECORD", "value": str(plugin_record)}],
    }
    config = directory / "plugins.yaml"
    kind = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    config.write_text(json.dumps({**kind, "providers": [provider]}))
    flags = (
        *("--image-credential-provider-config", str(config)),
        *("--image-credential-provider-bin-dir", str(program.parent)),
    )
    with Cluster(conf, flags=flags) as cluster:
        yield cluster


@pytest.fixture
def image(private_registry: Registry, image_cache: Path) -> str:
    """The name of a private image that no other test pulls."""
    name = f"{SERVER}/{unique('app')}"
    private_registry.push(images.build("busybox", image_cache), f"{name}:latest")
    return name


def create_secret(
    cluster: Cluster, name: str, user: str = USER, password: str = PASSWORD, server: str = SERVER
) -> None:
    said = cluster.kubectl(
        *("create", "secret", "docker-registry", name),
        *("--docker-server", server, "--docker-username", user, "--docker-password", password),
        *("--docker-email", "PI:EMAIL"),
    )
    assert said == f"secret/{name} created\n"


def private_pod(name: str, image: str, *secrets: str, policy: str = "IfNotPresent", **spec: Any) -> dict[str, Any]:
    references = [{"name": secret} for secret in secrets]
    return pod(name, container(image=image, imagePullPolicy=policy), imagePullSecrets=references, **spec)


def waiting(cluster: Cluster, name: str, reason: str) -> str:
    """The waiting message of the Pod's container, once it waits for that reason."""
    path = "{.status.containerStatuses[0].state.waiting.reason}"
    cluster.wait(f"pod/{name}", f"jsonpath={path}={reason}", timeout=30)
    state = cluster.get("pod", name)["status"]["containerStatuses"][0]["state"]
    return str(state.get("waiting", {}).get("message", ""))


def events(cluster: Cluster, name: str) -> list[str]:
    """Reason and message of the Pod's events."""
    found = cluster.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
    return [f"{event['reason']} {event['message']}" for event in found]


def wait_for_event(cluster: Cluster, name: str, start: str) -> None:
    """Events are written after the status that they belong to."""
    with cluster.kubectl_lines(
        "get",
        "events",
        "--watch",
        "--field-selector",
        f"involvedObject.name={name}",
        "-o",
        "jsonpath={.reason} {.message}{'\\n'}",
    ) as lines:
        assert any(line.startswith(start) for line in lines), f"{name} has no event {start}"


# the seed's chapter


def test_a_pod_names_the_secret(cluster: Cluster, namespace: str) -> None:
    create_secret(cluster, "acr-auth")
    stored = cluster.get("secret", "acr-auth")
    assert stored["type"] == "kubernetes.io/dockerconfigjson"
    auths = json.loads(base64.b64decode(stored["data"][".dockerconfigjson"]))["auths"]
    assert auths[SERVER]["email"] == "PI:EMAIL"
    assert cluster.kubectl("apply", "-f", str(EXAMPLES / "private-reg.yaml")) == "pod/private-reg created\n"
    cluster.wait("pod/private-reg", "condition=Ready")
    status = cluster.get("pod", "private-reg")["status"]
    assert status["containerStatuses"][0]["image"] == f"{SERVER}/acr-auth-example:latest"
    assert status["containerStatuses"][0]["imageID"].startswith(f"{SERVER}/acr-auth-example@sha256:")
    with urllib.request.urlopen(f"http://{status['podIP']}/", timeout=10) as answer:
        assert "Welcome to nginx!" in answer.read().decode()
    cluster.kubectl("delete", "pod", "private-reg")


def test_the_service_account_names_the_secret(cluster: Cluster, namespace: str, image: str) -> None:
    cluster.kubectl(
        *("create", "secret", "docker-registry", "myregistrykey"),
        f"--docker-server={SERVER}",
        f"--docker-username={USER}",
        f"--docker-password={PASSWORD}",
        "--docker-email=PI:EMAIL",
    )
    assert "kubernetes.io/dockerconfigjson" in cluster.kubectl("get", "secrets", "myregistrykey")
    patch = '{"imagePullSecrets": [{"name": "myregistrykey"}]}'
    said = cluster.kubectl("patch", "serviceaccount", "default", "-p", patch)
    assert said == "serviceaccount/default patched\n"
    account = cluster.kubectl("get", "serviceaccounts", "default", "-o", "yaml")
    assert "imagePullSecrets:\n- name: myregistrykey\n" in account
    cluster.apply(private_pod("by-account", image))
    assert cluster.get("pod", "by-account")["spec"]["imagePullSecrets"] == [{"name": "myregistrykey"}]
    cluster.wait("pod/by-account", "condition=Ready")
    # Secrets of its own replace the account's.
    cluster.apply(private_pod("own", image, "other"))
    assert cluster.get("pod", "own")["spec"]["imagePullSecrets"] == [{"name": "other"}]
    assert DENIED in waiting(cluster, "own", "ImagePullBackOff")


def test_a_secret_of_the_old_type_is_read_too(cluster: Cluster, namespace: str, image: str) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    content = base64.b64encode(json.dumps({f"https://{SERVER}/v1/": {"auth": auth}}).encode()).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "old"}, "type": "kubernetes.io/dockercfg"}
    cluster.apply({**secret, "data": {".dockercfg": content}})
    cluster.apply(private_pod("old", image, "old"))
    cluster.wait("pod/old", "condition=Ready")


# without credentials, or with the wrong ones


def test_without_credentials_the_pull_is_refused(cluster: Cluster, namespace: str, image: str) -> None:
    cluster.apply(private_pod("none", image))
    message = waiting(cluster, "none", "ImagePullBackOff")
    assert message.startswith(f'Back-off pulling image "{image}": ErrImagePull: failed to pull and unpack image')
    assert DENIED in message
    assert "no basic auth credentials" in message
    assert "ImagePullBackOff" in cluster.kubectl("get", "pod", "none")
    wait_for_event(cluster, "none", "BackOff ")
    told = events(cluster, "none")
    for start in (f'Pulling Pulling image "{image}"', f'Failed Failed to pull image "{image}": failed to pull and'):
        assert any(event.startswith(start) for event in told), told
    assert f'BackOff Back-off pulling image "{image}"' in told
    assert "Failed Error: ErrImagePull" in told


def test_a_secret_that_is_missing_is_told_and_starts_the_pod_when_it_comes(
    cluster: Cluster, namespace: str, image: str
) -> None:
    cluster.apply(private_pod("early", image, "late"))
    assert DENIED in waiting(cluster, "early", "ImagePullBackOff")
    wait_for_event(
        cluster,
        "early",
        "FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (late); attempting to pull the image "
        "may not succeed.",
    )
    create_secret(cluster, "late")
    created = cluster.get("secret", "late")["metadata"]["creationTimestamp"]
    cluster.wait("pod/early", "condition=Ready")
    state = cluster.get("pod", "early")["status"]["containerStatuses"][0]["state"]
    took = datetime.fromisoformat(state["running"]["startedAt"]) - datetime.fromisoformat(created)
    assert took.total_seconds() < 8, "it was not the secret that ended the back-off of 10 s"


def test_a_secret_that_comes_ends_the_back_off_of_image_volumes_too(
    cluster: Cluster, namespace: str, image: str, private_registry: Registry, image_cache: Path
) -> None:
    other = f"{SERVER}/{unique('data')}"
    private_registry.push(images.build("busybox", image_cache), f"{other}:latest")
    volumes = [
        {"name": name, "image": {"reference": reference}} for name, reference in (("one", image), ("two", other))
    ]
    main = container(script=f"ls /one/bin /two/bin; {RUN}", volumeMounts=[mount("one", "/one"), mount("two", "/two")])
    cluster.apply(pod("volumes", main, imagePullSecrets=[{"name": "late"}], volumes=volumes))
    assert DENIED in waiting(cluster, "volumes", "ImagePullBackOff")
    # Both have failed once; the next tries, by the clock alone, are 10 s later.
    for reference in (image, other):
        wait_for_event(cluster, "volumes", f'BackOff Back-off pulling image "{reference}"')
    create_secret(cluster, "late")
    created = cluster.get("secret", "late")["metadata"]["creationTimestamp"]
    cluster.wait("pod/volumes", "condition=Ready")
    state = cluster.get("pod", "volumes")["status"]["containerStatuses"][0]["state"]
    took = datetime.fromisoformat(state["running"]["startedAt"]) - datetime.fromisoformat(created)
    assert took.total_seconds() < 6, "it was not the secret that ended the back-off of 10 s"


def test_wrong_credentials_are_refused_until_they_are_put_right(cluster: Cluster, namespace: str, image: str) -> None:
    create_secret(cluster, "wrong", password="looking-glass")
    cluster.apply(private_pod("wrong", image, "wrong"))
    message = waiting(cluster, "wrong", "ImagePullBackOff")
    assert DENIED in message
    assert "the registry refused the credentials" in message
    assert "looking-glass" not in message
    cluster.kubectl("delete", "secret", "wrong")
    create_secret(cluster, "wrong")
    cluster.wait("pod/wrong", "condition=Ready", timeout=8)


def test_several_secrets_are_tried(cluster: Cluster, namespace: str, image: str) -> None:
    create_secret(cluster, "elsewhere", server="elsewhere.azurecr.io")
    create_secret(cluster, "bad", password="bad")
    create_secret(cluster, "good")
    cluster.apply(private_pod("several", image, "elsewhere", "bad", "good"))
    cluster.wait("pod/several", "condition=Ready")


# who may use what is on the node


def test_another_pods_private_image_is_not_for_a_pod_without_credentials(
    cluster: Cluster, namespace: str, image: str
) -> None:
    create_secret(cluster, "key")
    cluster.apply(private_pod("owner", image, "key"))
    cluster.wait("pod/owner", "condition=Ready")
    records = list((cluster.data_dir / "image_manager" / "pulled").iterdir())
    assert any(image in record.read_text() for record in records)

    def check(suffix: str) -> None:
        cluster.apply(private_pod(f"thief-{suffix}", image))
        cluster.apply(private_pod(f"never-{suffix}", image, policy="Never"))
        cluster.apply(private_pod(f"friend-{suffix}", image, "key"))
        assert DENIED in waiting(cluster, f"thief-{suffix}", "ImagePullBackOff")
        missing = f'Container image "{image}" is not present with pull policy of Never'
        assert waiting(cluster, f"never-{suffix}", "ErrImageNeverPull") == missing
        cluster.wait(f"pod/friend-{suffix}", "condition=Ready")
        present = f'Pulled Container image "{image}" already present on machine and can be accessed by the pod'
        wait_for_event(cluster, f"friend-{suffix}", present)

    check("before")
    cluster.down()
    cluster.up()
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    check("after")
    # Under its ID, the same image is no more open.
    identifier = cluster.get("pod", "owner")["status"]["containerStatuses"][0]["imageID"]
    cluster.apply(private_pod("by-digest", identifier))
    assert DENIED in waiting(cluster, "by-digest", "ImagePullBackOff")


# the node's own credentials


def test_the_nodes_own_file_opens_images_for_all_pods(cluster: Cluster, namespace: str, image: str) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path = cluster.data_dir / "auth.json"
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump({"auths": {f"{SERVER}/{image.rpartition('/')[2]}": {"auth": auth}}}, file)
    cluster.apply(private_pod("first", image))
    cluster.wait("pod/first", "condition=Ready")
    path.unlink()
    cluster.apply(private_pod("second", image))
    cluster.wait("pod/second", "condition=Ready")


def test_a_plugin_is_asked_for_its_registry(
    cluster: Cluster, namespace: str, image: str, plugin_record: Path, private_registry: Registry
) -> None:
    names = [f"plugin.azurecr.io/{image.rpartition('/')[2]}", "plugin.azurecr.io/acr-auth-example"]
    for i, name in enumerate(names):
        cluster.apply(private_pod(f"plugin-{i}", name))
        cluster.wait(f"pod/plugin-{i}", "condition=Ready")
    # Once for all of the registry, as the plugin says.
    (request,) = [json.loads(line) for line in plugin_record.read_text().splitlines()]
    assert request == {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": names[0],
    }


# secrets stay secret


class ProcessWatch:
    """What every process of the machine shows of itself (arguments and environment) while the block runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        own = str(os.getpid())
        while not self._stop.wait(0.005):
            for directory in os.scandir("/proc"):
                if directory.name.isdigit() and directory.name != own:
                    try:
                        command = Path(directory.path, "cmdline").read_bytes()
                        # kubectl is the user's own; of ours only those that pull come and go.
                        if b"skopeo" in command or b"podling" in command or b"setpriv" in command:
                            self.seen.add(command)
                            self.seen.add(Path(directory.path, "environ").read_bytes())
                    except OSError:
                        continue


def test_passwords_are_nowhere_to_be_read(cluster: Cluster, namespace: str, image: str) -> None:
    password = "wonder" + "land"
    shapes = [password.encode(), base64.b64encode(f"{USER}:{password}".encode())]
    create_secret(cluster, "key")
    create_secret(cluster, "bad", password="not-this-secret")
    shapes += [b"not-this-secret", base64.b64encode(f"{USER}:not-this-secret".encode())]
    with ProcessWatch() as processes:
        cluster.apply(private_pod("watched", image, "bad", "key", policy="Always"))
        cluster.wait("pod/watched", "condition=Ready")
        cluster.apply(private_pod("refused", image, "bad"))
        assert DENIED in waiting(cluster, "refused", "ImagePullBackOff")
    assert any(b"skopeo" in command and image.encode() in command for command in processes.seen)
    shown = b"\n".join(processes.seen)
    wait_for_event(cluster, "refused", "BackOff ")
    shown += cluster.kubectl("get", "events", "-A", "-o", "json").encode()
    shown += cluster.kubectl("get", "pods", "-A", "-o", "json").encode()
    shown += cluster.kubectl("get", "nodes", "-o", "json").encode()
    for log in (cluster.data_dir / "logs").glob("*.log*"):
        shown += log.read_bytes()
    assert b"agent is ready" in shown
    for shape in shapes:
        assert shape not in shown
    open_to_all = []
    for root in (cluster.data_dir, cluster.run_dir):
        for file in root.rglob("*"):
            # Those of other file systems are pinned namespaces.
            if file.is_file() and not file.is_symlink() and file.stat().st_dev == root.stat().st_dev:
                if not any(shape in file.read_bytes() for shape in shapes):
                    continue
                if file.stat().st_mode & 0o077 and not protected(file, root):
                    open_to_all.append(str(file))
    # The API server's store has them, that is its task.
    assert open_to_all == []


def protected(file: Path, root: Path) -> bool:
    """Whether a directory above keeps others out."""
    return any(not parent.stat().st_mode & 0o007 for parent in file.parents if parent.is_relative_to(root))
