"""What one manifest says of another is so: names, labels, ports, and times that have to fit into each other."""

from __future__ import annotations

import re

import pytest

from deploy.kubernetes.prometheus_rule import MADE, manifest
from inference_service.http_server import _GRACE_S
from inference_service.settings import Settings, load
from tests.deploy.manifests import EVERYTHING, JOBS, VARIANTS, Manifest, of_kind, pods, rendered, selects

# made by the operator: docs/kubernetes.md
SECRETS = {
    "midfill-stores": {"database", "redis"},
    "midfill-data-stores": {"password"},
    "midfill-metrics": {"key"},
    "midfill-quality-check": {"key"},
    "midfill-object-store": {"access-key-id", "secret-access-key"},
}


def inference(name: str) -> list[Manifest]:
    """The Deployments of the service itself."""
    found = [
        one
        for one in of_kind(name, "Deployment")
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "inference"
    ]
    assert found
    return found


def settings(name: str, deployment: Manifest) -> Settings:
    """What the service makes of the environment that its pods get."""
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    environment = {"MIDFILL_DATABASE": "postgresql://host/name"}
    for source in container["envFrom"]:
        [found] = [
            one for one in of_kind(name, "ConfigMap") if one["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        environment |= found["data"]
    environment |= {one["name"]: one["value"] for one in container["env"] if "value" in one}
    return load([], environment)


@pytest.mark.parametrize("name", VARIANTS)
def test_all_namespaced_manifests_are_in_the_namespace(name: str):
    for one in rendered(name):
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "midfill", one["metadata"]["name"]


@pytest.mark.parametrize("name", EVERYTHING)
def test_workloads_select_their_own_pods_and_nobody_elses(name: str):
    workloads = of_kind(name, "Deployment", "StatefulSet")
    for one in workloads:
        chosen = [
            other["metadata"]["name"]
            for other in workloads
            if selects(one["spec"]["selector"], other["spec"]["template"]["metadata"]["labels"])
        ]
        assert chosen == [one["metadata"]["name"]]


@pytest.mark.parametrize("name", EVERYTHING)
def test_services_reach_one_workload_and_a_port_that_it_has(name: str):
    for service in of_kind(name, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        [template] = [pod for _, pod in pods(name) if selects(selector, pod["metadata"]["labels"])]
        ports = {port["name"] for container in template["spec"]["containers"] for port in container.get("ports", [])}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, service["metadata"]["name"]


@pytest.mark.parametrize("name", VARIANTS)
def test_routes_lead_to_services(name: str):
    services = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]} for one in of_kind(name, "Service")
    }
    named = {port["name"] for one in of_kind(name, "Service") for port in one["spec"]["ports"]}
    [gateway] = of_kind(name, "Gateway")
    [route] = of_kind(name, "HTTPRoute")
    assert route["spec"]["parentRefs"][0]["name"] == gateway["metadata"]["name"]
    assert route["spec"]["parentRefs"][0]["sectionName"] in {one["name"] for one in gateway["spec"]["listeners"]}
    for rule in route["spec"]["rules"]:
        for backend in rule["backendRefs"]:
            assert backend["port"] in services[backend["name"]]
    for ingress in of_kind(name, "Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            assert path["backend"]["service"]["name"] in services
            assert path["backend"]["service"]["port"]["name"] in named


@pytest.mark.parametrize("name", VARIANTS)
def test_a_document_stays_with_its_replica(name: str):
    [policy] = of_kind(name, "BackendTrafficPolicy")
    [route] = of_kind(name, "HTTPRoute")
    assert policy["spec"]["targetRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route["metadata"]["name"]}
    ]
    assert policy["spec"]["loadBalancer"]["consistentHash"]["header"]["name"] == "X-Midfill-Session"
    for ingress in of_kind(name, "Ingress"):
        assert (
            "$http_x_midfill_session"
            in ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/upstream-hash-by"]
        )


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_for_operators_is_not_routed(name: str):
    for rule in of_kind(name, "HTTPRoute")[0]["spec"]["rules"]:
        if any("headers" in match for match in rule["matches"]):
            continue
        for match in rule["matches"]:
            for closed in ("/admin/models", "/metrics"):
                assert not closed.startswith(match["path"]["value"])


@pytest.mark.parametrize("name", VARIANTS)
def test_probes_ask_the_three_endpoints(name: str):
    for deployment in inference(name):
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe, path in (("startupProbe", "/health"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert ports["http"] == settings(name, deployment).port


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pod_may_finish_what_it_has_begun(name: str):
    for deployment in inference(name):
        pod = deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        stop = container["lifecycle"]["preStop"]["exec"]["command"]
        assert stop[0] == "sleep"
        chosen = settings(name, deployment)
        needed = float(stop[1]) + chosen.drain_wait_s + chosen.drain_s + _GRACE_S
        assert needed < pod["terminationGracePeriodSeconds"]
        # /readyz says no for longer than the load balancer needs to hear it
        probe = container["readinessProbe"]
        assert chosen.drain_wait_s > probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"])
        startup = container["startupProbe"]
        assert startup["failureThreshold"] * startup["periodSeconds"] < deployment["spec"]["progressDeadlineSeconds"]
        # the process ends itself after 2 * watchdog_s; the kubelet should be there first, and not at once
        liveness = container["livenessProbe"]
        assert 30 <= liveness["failureThreshold"] * liveness["periodSeconds"] <= chosen.watchdog_s


@pytest.mark.parametrize("name", VARIANTS)
def test_a_drained_node_takes_one_replica(name: str):
    [budget] = of_kind(name, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    [scaler] = of_kind(name, "HorizontalPodAutoscaler", "ScaledObject")
    assert scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount")) > 1
    for deployment in inference(name):
        assert selects(budget["spec"]["selector"], deployment["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize("name", VARIANTS)
def test_the_autoscaler_has_its_target_to_itself(name: str):
    [scaler] = of_kind(name, "HorizontalPodAutoscaler", "ScaledObject")
    target = scaler["spec"]["scaleTargetRef"]
    [deployment] = [one for one in inference(name) if one["metadata"]["name"] == target["name"]]
    assert deployment["kind"] == target["kind"]
    assert "replicas" not in deployment["spec"], "an apply would undo what the autoscaler decided"
    assert all("replicas" in one["spec"] for one in inference(name) if one is not deployment)
    assert "cpu" not in str(scaler["spec"])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_roll_out_fits_where_every_gpu_is_taken(name: str):
    for deployment in inference(name):
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        update = deployment["spec"]["strategy"]["rollingUpdate"]
        if "nvidia.com/gpu" in container["resources"]["limits"]:
            assert update == {"maxSurge": 0, "maxUnavailable": 1}
            assert settings(name, deployment).device == "cuda"
        else:
            assert update == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("name", VARIANTS)
def test_replicas_are_spread_over_zones_and_nodes(name: str):
    for deployment in inference(name):
        template = deployment["spec"]["template"]
        constraints = template["spec"]["topologySpreadConstraints"]
        assert {one["topologyKey"] for one in constraints} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        for one in constraints:
            assert selects(one["labelSelector"], template["metadata"]["labels"])


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_pods_refer_to_is_there(name: str):
    there = {
        kind: {one["metadata"]["name"] for one in rendered(name) if one["kind"] == kind}
        for kind in ("ConfigMap", "PersistentVolumeClaim", "ServiceAccount")
    }
    if name in JOBS:  # applied beside an overlay, or after jobs/volume
        there["ServiceAccount"].add("midfill")
        there["PersistentVolumeClaim"].add("midfill-training")
    for workload, template in pods(name):
        spec = template["spec"]
        assert spec.get("serviceAccountName", "midfill") in there["ServiceAccount"]
        claimed = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in spec["volumes"]} | claimed
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in there["PersistentVolumeClaim"]
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in there["ConfigMap"]
            for variable in container.get("env", []):
                if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert secret["key"] in SECRETS[secret["name"]]


@pytest.mark.parametrize("name", EVERYTHING)
def test_images_have_a_registry_and_a_version(name: str):
    for workload, template in pods(name):
        for container in template["spec"]["containers"]:
            image = container["image"]
            assert re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", image), image
            assert not image.endswith(":latest")
            if "midfill" in workload["metadata"]["name"]:
                assert "/" in image, f"{image} is a placeholder that the overlay does not replace"


def test_the_canary_gets_a_tenth_and_whoever_asks_for_it():
    name = "onprem with canary and GPUs"
    [route] = of_kind(name, "HTTPRoute")
    share, pinned = route["spec"]["rules"]
    assert [(one["name"], one["weight"]) for one in share["backendRefs"]] == [("midfill", 90), ("midfill-canary", 10)]
    assert pinned["matches"][0]["headers"] == [{"name": "X-Midfill-Track", "value": "canary"}]
    assert [one["name"] for one in pinned["backendRefs"]] == ["midfill-canary"]
    images = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0]["image"] for one in inference(name)
    }
    assert images["midfill-canary"] != images["midfill"]
    mounted = {
        one["metadata"]["name"]: {volume["name"] for volume in one["spec"]["template"]["spec"]["volumes"]}
        for one in inference(name)
    }
    assert mounted["midfill-canary"] == mounted["midfill"], "the canary has other models"


def test_green_gets_nothing_until_the_switch():
    name = "aws with blue and green"
    services = {one["metadata"]["name"]: one["spec"]["selector"]["slot"] for one in of_kind(name, "Service")}
    assert services == {"midfill": "blue", "midfill-green": "green"}
    [route] = of_kind(name, "HTTPRoute")
    assert {one["name"] for rule in route["spec"]["rules"] for one in rule["backendRefs"]} == {"midfill"}
    assert len({one["spec"]["template"]["spec"]["containers"][0]["image"] for one in inference(name)}) == 2


@pytest.mark.parametrize("name", VARIANTS)
def test_the_network_denies_what_is_not_listed(name: str):
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(name, "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for _, template in pods(name):
        labels = template["metadata"]["labels"]
        own = [one for key, one in policies.items() if one["podSelector"] and selects(one["podSelector"], labels)]
        assert own, f"nothing may reach {labels}, and it may reach nothing"
    for policy in policies.values():
        for rule in policy.get("ingress", []):
            assert rule.get("from"), "an entry for everybody"
            assert rule.get("ports")


@pytest.mark.parametrize("name", VARIANTS)
def test_prometheus_finds_the_replicas(name: str):
    [monitor] = of_kind(name, "PodMonitor")
    for deployment in inference(name):
        template = deployment["spec"]["template"]
        assert selects(monitor["spec"]["selector"], template["metadata"]["labels"])
        # the rules look for this job
        assert template["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "midfill"
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "http"
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["key"] in SECRETS[credentials["name"]]


def test_the_operator_gets_the_rules_that_are_tested():
    assert MADE.read_text(encoding="utf-8") == manifest(), "run python -m deploy.kubernetes.prometheus_rule"
    [rules] = of_kind("aws", "PrometheusRule")
    assert len(rules["spec"]["groups"]) > 1


def test_nodes_of_a_training_find_each_other():
    [service] = of_kind("jobs/train", "Service")
    [job] = of_kind("jobs/train", "Job")
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    command = container["args"][0]
    assert service["spec"]["clusterIP"] == "None"
    assert pod["subdomain"] == service["metadata"]["name"]
    # the pod of index 0 is called JOB-0, and SERVICE makes a name in the DNS of it
    assert f"--rdzv-endpoint={job['metadata']['name']}-0.{service['metadata']['name']}:29400" in command
    assert service["spec"]["ports"][0]["port"] == 29400
    least, most = re.search(r"--nnodes=(\d+):(\d+)", command).groups()
    assert int(least) < int(most) == job["spec"]["completions"] == job["spec"]["parallelism"]
    gpus = re.search(r"--nproc-per-node=(\d+)", command)[1]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == gpus
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"


@pytest.mark.parametrize("name", ["jobs/collect", "jobs/prepare"])
def test_every_part_of_the_data_has_a_pod(name: str):
    [job] = of_kind(name, "Job")
    assert job["spec"]["completionMode"] == "Indexed"
    command = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    assert f'--shard "$JOB_COMPLETION_INDEX/{job["spec"]["completions"]}"' in command
