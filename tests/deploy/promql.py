"""The shipped rules, and the metrics that expressions name."""

import promql_parser
import yaml

from deploy.monitoring.render import HERE

RULES = [
    rule
    for path in sorted((HERE / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
# of other exporters, which do not run here
OTHERS = {
    "ALERTS",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_XID_ERRORS",
    "nginx_connections_active",
    "nginx_http_requests_total",
    "nginx_up",
    "probe_ssl_earliest_cert_expiry",
    "probe_success",
    "up",
}


def names(text: str) -> set[str]:
    """The metrics of an expression."""
    found: set[str] = set()

    def visit(node) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        for child in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
            value = getattr(node, child, None)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, promql_parser.Expr | promql_parser.VectorSelector):
                    visit(one)

    visit(promql_parser.parse(text))
    return found
