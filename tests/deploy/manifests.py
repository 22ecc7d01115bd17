"""The kustomizations of deploy/kubernetes, rendered, and what tests ask of manifests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.programs import program

Manifest = dict[str, Any]
DEPLOY = Path(__file__).parent.parent.parent / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# an overlay as it is shipped, or with components that its owner adds
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "onprem": ("onprem", ()),
    "aws": ("aws", ()),
    "aliyun": ("aliyun", ()),
    "tencent": ("tencent", ()),
    "onprem with canary and GPUs": ("onprem", ("canary", "gpu")),
    "aws with blue and green": ("aws", ("blue-green",)),
    "tencent with an Ingress": ("tencent", ("ingress",)),
}
JOBS = [f"jobs/{path.name}" for path in sorted((KUBERNETES / "jobs").iterdir())]
EVERYTHING = [*VARIANTS, *JOBS]


@cache
def rendered(name: str) -> tuple[Manifest, ...]:
    """What `kubectl kustomize` makes of a variant, or of `jobs/NAME`."""
    kubectl = program("kubectl", "kubernetes-client of Debian 13 or later")
    with tempfile.TemporaryDirectory() as folder:
        path = KUBERNETES / name if name in JOBS else _overlay(Path(folder), *VARIANTS[name])
        made = subprocess.run([kubectl, "kustomize", path], capture_output=True, text=True, timeout=280)
    assert made.returncode == 0, made.stderr
    assert "deprecated" not in made.stderr, made.stderr
    return tuple(document for document in yaml.safe_load_all(made.stdout) if document)


def _overlay(folder: Path, overlay: str, added: tuple[str, ...]) -> Path:
    """The overlay's folder; where components are added, that of a copy in which its file names them, too."""
    if not added:
        return KUBERNETES / "overlays" / overlay
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    file = copy / "overlays" / overlay / "kustomization.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    # a second set of replicas needs the route; what changes all sets comes after it
    place = content["components"].index("../../components/gateway") + 1
    content["components"][place:place] = [f"../../components/{name}" for name in added]
    content["images"] += [
        {"name": f"midfill-{slot}", "newName": "registry.example.com/midfill", "newTag": "0.2.0-cpu"}
        for slot in ("canary", "green")
    ]
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file.parent


def of_kind(name: str, *kinds: str) -> list[Manifest]:
    """The rendered manifests of these kinds."""
    return [one for one in rendered(name) if one["kind"] in kinds]


def pods(name: str) -> Iterator[tuple[Manifest, Manifest]]:
    """(workload, pod template) of everything that starts pods."""
    for one in of_kind(name, "Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield one, one["spec"]["template"]
    for one in of_kind(name, "CronJob"):
        yield one, one["spec"]["jobTemplate"]["spec"]["template"]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels, and matchExpressions with In) is true of `labels`."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
