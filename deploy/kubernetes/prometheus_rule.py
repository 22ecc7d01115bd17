"""deploy/monitoring/rules as a PrometheusRule for the Prometheus operator: the same rules, in another wrapper.

python -m deploy.kubernetes.prometheus_rule     writes components/monitoring/prometheus-rule.yaml
"""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = HERE.parent / "monitoring" / "rules"
MADE = HERE / "components" / "monitoring" / "prometheus-rule.yaml"
_HEAD = "# Made of deploy/monitoring/rules by python -m deploy.kubernetes.prometheus_rule; do not edit.\n"


def manifest() -> str:
    """The manifest as text."""
    groups = [
        group
        for file in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    ]
    made = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "midfill"},
        "spec": {"groups": groups},
    }
    return _HEAD + yaml.safe_dump(made, sort_keys=False, width=160, allow_unicode=True)


if __name__ == "__main__":
    MADE.write_text(manifest(), encoding="utf-8")
