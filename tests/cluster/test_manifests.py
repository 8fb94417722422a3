"""Kubernetes manifests against the published CustomResourceDefinitions, strictly: a field that the schema lacks is an
error.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.processes import ROOT

CRDS = ROOT.parent / "shared" / "data" / "crds"
MANIFESTS = {"trainjob": "crd_trainjob.yaml", "rayjob": "crd_rayjob.yaml"}
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": NAME, "maxLength": 63},
        "namespace": {"type": "string", "pattern": NAME},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}


def strict(schema: Any) -> Any:
    """A structural schema as JSON Schema that refuses unknown fields, as ``kubectl --validate=strict`` does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: strict(inner) for name, inner in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
    }
    if (
        "properties" in schema
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        made["additionalProperties"] = False
    if schema.get("nullable") and "type" in schema:
        made["type"] = [schema["type"], "null"]
    return made


@functools.cache  # more than a megabyte of YAML
def definition(name: str) -> Any:
    path = CRDS / MANIFESTS[name]
    if not path.is_file():
        pytest.skip(f"the CustomResourceDefinition {path.name} is not on this machine")
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def manifest(name: str) -> Any:
    (document,) = list(yaml.safe_load_all((ROOT / "launch" / "k8s" / f"{name}.yaml").read_text()))
    return document


def errors(name: str, document: Any) -> list[str]:
    crd = definition(name)["spec"]
    group, _, version = str(document["apiVersion"]).partition("/")
    assert (group, document["kind"]) == (crd["group"], crd["names"]["kind"])
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in crd["versions"] if v["name"] == version and v["served"]]
    made = strict(schema)
    made["properties"]["metadata"] = METADATA
    return [
        f"{'.'.join(map(str, e.absolute_path))}: {e.message}"
        for e in jsonschema.Draft202012Validator(made).iter_errors(document)
    ]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifest_satisfies_its_definition(name: str) -> None:
    assert errors(name, manifest(name)) == []


@pytest.mark.parametrize(
    ("name", "where", "old", "new"),
    [
        ("trainjob", ("spec", "trainer"), "numNodes", "numNode"),
        ("trainjob", ("spec",), "runtimeRef", "runtimeref"),
        (
            "trainjob",
            (
                "spec",
                "runtimePatches",
                0,
                "trainingRuntimeSpec",
                "template",
                "spec",
                "replicatedJobs",
                0,
                "template",
                "spec",
                "template",
                "spec",
            ),
            "volumes",
            "volume",
        ),
        ("rayjob", ("spec", "rayClusterSpec"), "authOptions", "authOption"),
        ("rayjob", ("spec", "rayClusterSpec", "workerGroupSpecs", 0), "groupName", "name"),
        (
            "rayjob",
            ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0),
            "volumeMounts",
            "volumeMount",
        ),
        ("rayjob", ("metadata",), "name", "nme"),
    ],
)
def test_a_misspelt_field_fails(name: str, where: tuple[Any, ...], old: str, new: str) -> None:
    document = copy.deepcopy(manifest(name))
    inner = document
    for key in where:
        inner = inner[key]
    inner[new] = inner.pop(old)
    assert errors(name, document)


@pytest.mark.parametrize("value", ["two", None, {"of": 2}])
def test_a_wrong_type_fails(value: Any) -> None:
    document = copy.deepcopy(manifest("trainjob"))
    document["spec"]["trainer"]["numNodes"] = value
    assert errors("trainjob", document)


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_are_not_root_and_have_shared_memory(name: str) -> None:
    def pods(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, dict):
            own = [node] if "containers" in node else []
            return own + [pod for value in node.values() for pod in pods(value)]
        return [pod for value in node for pod in pods(value)] if isinstance(node, list) else []

    found = pods(manifest(name))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        memory = {v["name"] for v in pod["volumes"] if v.get("emptyDir", {}).get("medium") == "Memory"}
        for container in pod["containers"]:
            mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
            assert mounts["/dev/shm"] in memory and "/runs" in mounts
            assert set(mounts.values()) <= {v["name"] for v in pod["volumes"]}, "a mount without its volume"


def test_every_manifest_is_checked_and_says_its_command() -> None:
    files = sorted((ROOT / "launch" / "k8s").glob("*.yaml"))
    assert {p.stem for p in files} == set(MANIFESTS)
    for path in files:
        assert path.read_text().startswith(f"# kubectl apply -f launch/k8s/{path.name}"), path.name


def test_versions_agree_with_the_pins() -> None:
    pins = Path(ROOT / "constraints.txt").read_text()
    assert f"ray=={manifest('rayjob')['spec']['rayClusterSpec']['rayVersion']}\n" in pins
