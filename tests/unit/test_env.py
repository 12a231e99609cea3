"""The environment of containers: order, references, expansion, services."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.core.v1 import (
    ConfigMap,
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    Pod,
    PodSpec,
    ResourceFieldSelector,
    ResourceRequirements,
    Secret,
    SecretKeySelector,
    Service,
    ServicePort,
    ServiceSpec,
)
from podling.api.meta.v1 import ObjectMeta
from podling.api.quantity import Quantity
from podling.kubelet import downward
from podling.kubelet.env import ConfigError, Room, container_env, service_env
from podling.kubelet.expansion import MOST, expand


class Objects:
    """What the API server would answer."""

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        data = {"key": "value", "bad=name": "x"}
        if name == "large":
            return ConfigMap(data={"key": "x" * 100_000})
        return ConfigMap(data=data, binary_data={"binary": b"\xff"}) if name == "settings" else None

    async def secret(self, namespace: str, name: str) -> Secret | None:
        return Secret(data={"password": b"s3cret"}) if name == "hidden" else None


def env(container: Container, services: list[Service] | None = None) -> dict[str, str]:
    pod = Pod(
        metadata=ObjectMeta(name="p", namespace="ns", labels={"tier": "front"}),
        spec=PodSpec(containers=[container], node_name="n", service_account_name="default"),
    )
    pod.status.pod_ip = "10.0.0.7"
    allocatable = {"cpu": Quantity("2"), "memory": Quantity("1Gi")}
    return dict(asyncio.run(container_env(pod, container, Objects(), services or [], allocatable, Room())))


def source(**what: object) -> EnvVarSource:
    return EnvVarSource(**what)  # type: ignore[arg-type]


def test_values_refer_to_what_stands_before_them() -> None:
    found = env(
        Container(
            name="c",
            env=[
                EnvVar(name="A", value="1"),
                EnvVar(name="B", value="$(A)-$(C)-$$(A)"),
                EnvVar(name="C", value="3"),
            ],
        )
    )
    assert found == {"A": "1", "B": "1-$(C)-$(A)", "C": "3"}


def test_env_from_is_overridden_by_env_and_skips_names_that_cannot_be() -> None:
    found = env(
        Container(
            name="c",
            env_from=[EnvFromSource(prefix="P_", config_map_ref=ConfigMapEnvSource(name="settings"))],
            env=[EnvVar(name="P_key", value="mine")],
        )
    )
    assert found == {"P_key": "mine"}


def test_fields_resources_and_keys() -> None:
    found = env(
        Container(
            name="c",
            resources=ResourceRequirements(requests={"cpu": Quantity("125m")}, limits={"memory": Quantity("64Mi")}),
            env=[
                EnvVar(name="NODE", value_from=source(field_ref=ObjectFieldSelector(field_path="spec.nodeName"))),
                EnvVar(name="IP", value_from=source(field_ref=ObjectFieldSelector(field_path="status.podIP"))),
                EnvVar(
                    name="TIER", value_from=source(field_ref=ObjectFieldSelector(field_path="metadata.labels['tier']"))
                ),
                EnvVar(
                    name="CPU", value_from=source(resource_field_ref=ResourceFieldSelector(resource="requests.cpu"))
                ),
                EnvVar(
                    name="MILLI",
                    value_from=source(
                        resource_field_ref=ResourceFieldSelector(resource="requests.cpu", divisor=Quantity("1m"))
                    ),
                ),
                EnvVar(
                    name="MIB",
                    value_from=source(
                        resource_field_ref=ResourceFieldSelector(resource="limits.memory", divisor=Quantity("1Mi"))
                    ),
                ),
                EnvVar(name="ALL", value_from=source(resource_field_ref=ResourceFieldSelector(resource="limits.cpu"))),
                EnvVar(
                    name="KEY", value_from=source(config_map_key_ref=ConfigMapKeySelector(name="settings", key="key"))
                ),
                EnvVar(name="PASS", value_from=source(secret_key_ref=SecretKeySelector(name="hidden", key="password"))),
                EnvVar(
                    name="NONE",
                    value_from=source(secret_key_ref=SecretKeySelector(name="gone", key="x", optional=True)),
                ),
            ],
        )
    )
    assert found == {
        "NODE": "n",
        "IP": "10.0.0.7",
        "TIER": "front",
        "CPU": "1",
        "MILLI": "125",
        "MIB": "64",
        "ALL": "2",
        "KEY": "value",
        "PASS": "s3cret",
    }


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (source(config_map_key_ref=ConfigMapKeySelector(name="gone", key="k")), 'configmap "gone" not found'),
        (source(secret_key_ref=SecretKeySelector(name="gone", key="k")), 'secret "gone" not found'),
        (
            source(config_map_key_ref=ConfigMapKeySelector(name="settings", key="k")),
            "couldn't find key k in ConfigMap ns/settings",
        ),
        (source(secret_key_ref=SecretKeySelector(name="hidden", key="k")), "couldn't find key k in Secret ns/hidden"),
    ],
)
def test_missing_references_are_named(reference: EnvVarSource, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        env(Container(name="c", env=[EnvVar(name="X", value_from=reference)]))


def service(name: str, namespace: str, ip: str, *ports: ServicePort) -> Service:
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace), spec=ServiceSpec(cluster_ip=ip, ports=list(ports))
    )


def test_services_of_the_namespace_and_the_kubernetes_service() -> None:
    services = [
        service("kubernetes", "default", "10.0.0.1", ServicePort(name="https", port=443)),
        service(
            "redis-main", "ns", "10.0.0.11", ServicePort(port=6379), ServicePort(name="x", port=53, protocol="UDP")
        ),
        service("headless", "ns", "None", ServicePort(port=1)),
        service("other", "elsewhere", "10.0.0.12", ServicePort(port=1)),
    ]
    found = service_env(services, "ns", links=True)
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert found["KUBERNETES_PORT"] == "tcp://10.0.0.1:443"
    assert found["REDIS_MAIN_SERVICE_HOST"] == "10.0.0.11"
    assert found["REDIS_MAIN_PORT_53_UDP"] == "udp://10.0.0.11:53"
    assert not any(name.startswith(("HEADLESS", "OTHER")) for name in found)
    assert {name.split("_")[0] for name in service_env(services, "ns", links=False)} == {"KUBERNETES"}


@given(st.text(alphabet="$()AB ", max_size=20))
def test_expansion_without_variables_only_unescapes_dollars(text: str) -> None:
    assert expand(text, {}).count("$") <= text.count("$")
    if "$$" not in text:
        assert expand(text, {}) == text


KILOBYTE = EnvVar(name="V0", value="x" * 1024)
LARGE = source(config_map_key_ref=ConfigMapKeySelector(name="large", key="key"))
BOMBS = {
    "each refers twice to the one before it": [
        KILOBYTE,
        *(EnvVar(name=f"V{i}", value=f"$(V{i - 1})" * 2) for i in range(1, 16)),
    ],
    "one refers often": [KILOBYTE, EnvVar(name="V1", value="$(V0)" * 10_000)],
    "many take the same": [KILOBYTE, *(EnvVar(name=f"V{i}", value="$(V0)") for i in range(1, 10_000))],
    "one is set again and again": [KILOBYTE, *(EnvVar(name="V1", value="$(V0)") for i in range(1, 10_000))],
    "many take the same key": [EnvVar(name=f"V{i}", value_from=LARGE) for i in range(1000)],
}


@pytest.mark.parametrize("variables", BOMBS.values(), ids=BOMBS)
def test_an_environment_is_no_longer_than_a_program_can_be_given(variables: list[EnvVar]) -> None:
    with pytest.raises(ConfigError, match=f"longer than {MOST} bytes"):
        env(Container(name="c", env=variables))


def test_a_config_map_taken_again_and_again_is_no_longer_than_a_program_can_be_given() -> None:
    every = [EnvFromSource(prefix=f"P{i}", config_map_ref=ConfigMapEnvSource(name="large")) for i in range(1000)]
    with pytest.raises(ConfigError, match=f"longer than {MOST} bytes"):
        env(Container(name="c", env_from=every))


def test_arguments_and_environment_share_what_a_program_can_be_given() -> None:
    room, known = Room(), {"A": "x" * 1024}
    half = ["$(A)"] * (MOST // 2048)
    assert room.expand_all(half, known) == [known["A"]] * len(half)
    room.expand_all(half, known)
    with pytest.raises(ConfigError, match=f"longer than {MOST} bytes"):
        room.expand_all(["$(A)"], known)


def test_a_variable_does_not_cost_more_where_there_are_many() -> None:
    """So many fit in one Pod. If each of them looked at all others, this test would not end within its time."""
    variables = [EnvVar(name=f"V{i}", value="x") for i in range(150_000)]
    assert len(env(Container(name="c", env=variables))) == 150_000


def test_binary_data_of_a_config_map_is_for_files_only() -> None:
    every = [EnvFromSource(config_map_ref=ConfigMapEnvSource(name="settings"))]
    assert "binary" not in env(Container(name="c", env_from=every))
    one = source(config_map_key_ref=ConfigMapKeySelector(name="settings", key="binary"))
    with pytest.raises(ConfigError, match="couldn't find key binary in ConfigMap ns/settings"):
        env(Container(name="c", env=[EnvVar(name="V", value_from=one)]))


def test_annotations_are_quoted_as_go_quotes_them() -> None:
    pod = Pod(metadata=ObjectMeta(annotations={"b": 'say "é"\r\n', "a": "\x01"}))
    text = downward.field(pod, ObjectFieldSelector(field_path="metadata.annotations"))
    assert text == 'a="\\x01"\nb="say \\"é\\"\\r\\n"'
