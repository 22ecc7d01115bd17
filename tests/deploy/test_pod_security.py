"""Every pod that deploy/kubernetes starts passes the "restricted" Pod Security Standard, and more than that."""

from __future__ import annotations

import pytest

from tests.deploy.manifests import EVERYTHING, VARIANTS, Manifest, of_kind, pods

RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
WITH_PODS = [name for name in EVERYTHING if name != "jobs/volume"]


def violations(spec: Manifest) -> list[str]:
    """What the standard (v1.37) forbids in a pod's spec, in its words."""
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    found += [
        f"volume {volume['name']} is a {kind}"
        for volume in spec.get("volumes", [])
        for kind in volume.keys() - {"name"} - RESTRICTED_VOLUMES
    ]
    pod = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        context = {**pod, **container.get("securityContext", {})}
        name = container["name"]
        if context.get("privileged") or context.get("procMount", "Default") != "Default":
            found.append(f"{name} is privileged")
        if context.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name} may escalate its privileges")
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            found.append(f"{name} may run as root")
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(f"{name} has no seccomp profile")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
            found.append(f"{name} keeps capabilities")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append(f"{name} takes a port of its node")
    return found


@pytest.mark.parametrize("name", WITH_PODS)
def test_pods_are_restricted(name: str):
    templates = list(pods(name))
    assert templates
    for workload, template in templates:
        assert violations(template["spec"]) == [], workload["metadata"]["name"]


@pytest.mark.parametrize("name", WITH_PODS)
def test_roots_are_read_only_and_tokens_are_not_mounted(name: str):
    for workload, template in pods(name):
        spec, who = template["spec"], workload["metadata"]["name"]
        assert spec["automountServiceAccountToken"] is False, who
        assert spec["enableServiceLinks"] is False, who
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, who
            assert "memory" in container["resources"]["limits"], who
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), who
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert "/tmp" in written, who


@pytest.mark.parametrize("name", VARIANTS)
def test_the_namespace_lets_only_such_pods_in(name: str):
    [namespace] = of_kind(name, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for account in of_kind(name, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not of_kind(name, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret")


@pytest.mark.parametrize(
    "change",
    [
        {"hostNetwork": True},
        {"securityContext": {}},
        {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
        {"containers": [{"name": "bare"}]},
    ],
)
def test_a_pod_that_is_not_restricted_is_found(change: Manifest):
    _, template = next(pods("onprem"))
    assert violations({**template["spec"], **change}) != []
