"""The generated types against the OpenAPI definitions that they come from."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from podling.api import codec, shape
from podling.api.batch import v1 as batch
from podling.api.core import v1 as core
from podling.api.meta import v1 as meta
from podling.api.types import Object

ROOT = Path(__file__).parents[2]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_api", ROOT / "tools" / "generate_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()
GROUPS = sorted(generator.GROUPS)
DEFINITIONS: dict[str, dict[str, Any]] = generator.load()


def structs(package: str) -> dict[str, type[Object]]:
    module = importlib.import_module(f"podling.api.{package}.v1")
    prefix = generator.GROUPS[package][1]
    names = [name.removeprefix(prefix) for name in DEFINITIONS if name.startswith(prefix)]
    return {name: getattr(module, name) for name in names if prefix + name not in generator.SCALARS}


def test_the_checked_in_modules_are_what_the_generator_writes(tmp_path: Path) -> None:
    generator.generate(tmp_path)
    for package in GROUPS:
        written = (tmp_path / package / "v1.py").read_text()
        assert written == (ROOT / "src" / "podling" / "api" / package / "v1.py").read_text()


@pytest.mark.parametrize("package", GROUPS)
def test_every_field_has_its_wire_name(package: str) -> None:
    prefix = generator.GROUPS[package][1]
    for name, struct in structs(package).items():
        wire = {field.encode_name for field in msgspec.structs.fields(struct)}
        assert wire == set(DEFINITIONS[prefix + name]["properties"]), name


@pytest.mark.parametrize("package", GROUPS)
def test_an_empty_object_encodes_its_required_fields(package: str) -> None:
    prefix = generator.GROUPS[package][1]
    for name, struct in structs(package).items():
        encoded = set(json.loads(codec.encode(struct())))
        for field in DEFINITIONS[prefix + name].get("required", []):
            reference = DEFINITIONS[prefix + name]["properties"][field].get("$ref", "")
            pointer = f"{package}.{name}.{field}" in generator.POINTERS
            if not pointer and not reference.endswith(("Time", "MicroTime", "RawExtension")):
                assert field in encoded, f"{name}.{field}"


@pytest.mark.parametrize("package", GROUPS)
def test_every_field_has_a_shape_and_merge_keys_name_fields_of_the_items(package: str) -> None:
    for name, struct in structs(package).items():
        for field in shape.fields(struct).values():
            item = field.shape.item
            for key in {field.merge.key, *field.merge.list_map_keys} - {""}:
                assert item is not None, name
                assert item.struct is not None, name
                assert key in shape.fields(item.struct), f"{name}.{field.name}"


def test_kinds_encode_what_they_are_and_their_values() -> None:
    assert json.loads(codec.encode(core.Pod())) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {"containers": []},
        "status": {},
    }
    assert json.loads(codec.encode(core.PodList())) == {
        "apiVersion": "v1",
        "kind": "PodList",
        "metadata": {},
        "items": [],
    }
    assert json.loads(codec.encode(batch.CronJob()))["apiVersion"] == "batch/v1"


def test_a_container_status_keeps_its_zeros() -> None:
    assert json.loads(codec.encode(core.ContainerStatus())) == {
        "name": "",
        "image": "",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {},
        "lastState": {},
    }


def test_acronyms_and_keywords_keep_their_wire_names() -> None:
    spec = core.PodSpec(host_ipc=True, set_hostname_as_fqdn=True)
    assert json.loads(codec.encode(spec)) == {"containers": [], "hostIPC": True, "setHostnameAsFQDN": True}
    status = core.PodStatus(pod_ip="10.0.0.1", pod_ips=[core.PodIP(ip="10.0.0.1")], host_ip="10.0.0.2")
    assert json.loads(codec.encode(status)) == {
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "hostIP": "10.0.0.2",
    }
    assert json.loads(codec.encode(meta.ListMeta(continue_="x"))) == {"continue": "x"}


def test_an_empty_storage_class_differs_from_none() -> None:
    empty = codec.decode(core.PersistentVolumeClaimSpec, b'{"storageClassName":""}')
    assert empty.storage_class_name == ""
    assert json.loads(codec.encode(empty))["storageClassName"] == ""
    assert codec.decode(core.PersistentVolumeClaimSpec, b"{}").storage_class_name is None


def test_two_objects_share_no_defaults() -> None:
    one, other = core.Pod(), core.Pod()
    one.metadata.labels["a"] = "b"
    one.spec.containers.append(core.Container(name="c"))
    assert other == core.Pod()


def test_merge_metadata_follows_the_definitions() -> None:
    fields = shape.fields(core.PodSpec)
    assert fields["containers"].merge.strategies == ("merge",)
    assert fields["containers"].merge.list_map_keys == ("name",)
    assert fields["volumes"].merge.strategies == ("merge", "retainKeys")
    assert fields["tolerations"].merge.strategies == ()
    assert fields["nodeSelector"].merge.map_type == "atomic"
    assert shape.fields(core.ServiceSpec)["ports"].merge.key == "port"
    assert shape.is_atomic(core.SecretKeySelector)
    assert not shape.is_atomic(core.Container)


def test_importing_the_types_reads_no_schema() -> None:
    code = "import sys, podling.api.scheme; print({'kubernetes_validate', 'yaml'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_booleans_that_are_no_pointers_in_go_are_not_written_when_false() -> None:
    pod = {
        "metadata": {"name": "a"},
        "spec": {
            "hostNetwork": False,
            "hostPID": True,
            "hostUsers": False,
            "containers": [{"name": "a", "stdin": False, "volumeMounts": [{"name": "b", "readOnly": False}]}],
        },
    }
    spec = codec.to_builtins(codec.convert(pod, core.Pod))["spec"]
    assert "hostNetwork" not in spec
    assert spec["hostPID"] is True
    assert spec["hostUsers"] is False, "a pointer: false is not the same as absent"
    assert "stdin" not in spec["containers"][0]
    assert "readOnly" not in spec["containers"][0]["volumeMounts"][0]
