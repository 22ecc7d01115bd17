"""Every rendered manifest is what the API server of an old and of a new cluster knows, field by field."""

from __future__ import annotations

import kubernetes_validate
import pytest

from tests.deploy.manifests import EVERYTHING, rendered

# kinds that are not Kubernetes's own, with the fields that a mistake would be made in
CUSTOM = {
    ("gateway.networking.k8s.io/v1", "Gateway"): {"gatewayClassName", "listeners", "infrastructure"},
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {"parentRefs", "hostnames", "rules"},
    ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy"): {
        *("targetRefs", "loadBalancer", "retry", "healthCheck", "timeout"),
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {"jobLabel", "selector", "podTargetLabels", "podMetricsEndpoints"},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
    ("keda.sh/v1alpha1", "ScaledObject"): {
        *(
            "scaleTargetRef",
            "minReplicaCount",
            "maxReplicaCount",
            "pollingInterval",
            "fallback",
            "advanced",
            "triggers",
        ),
    },
}


@pytest.mark.parametrize("version", ["1.32", "1.37"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_manifests_fit_the_schemas(name: str, version: str):
    for manifest in rendered(name):
        kind = (manifest["apiVersion"], manifest["kind"])
        if kind in CUSTOM:
            assert set(manifest["spec"]) <= CUSTOM[kind], kind
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_found():
    manifest = next(one for one in rendered("onprem") if one["kind"] == "Deployment")
    wrong = {**manifest, "spec": {**manifest["spec"], "replica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)
