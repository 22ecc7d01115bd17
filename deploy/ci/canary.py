"""Give a release a tenth of the requests, watch it beside the one that serves, and promote it or take it back.

    python deploy/ci/canary.py REGISTRY/midfill@sha256:… --prometheus http://prometheus:9090

The overlay must have the component canary. Exit status: 0 promoted, 1 taken back. For a new model the service's own
experiments are finer (docs/models-and-rollout.md); this is for a new image or new settings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass

_COUNT = 'sum(increase(midfill_requests_total{{namespace="midfill",slot="{slot}"}}[{window}]))'
_FAILED = 'sum(increase(midfill_requests_total{{namespace="midfill",slot="{slot}",status=~"5.."}}[{window}]))'
_FIRST = (
    "histogram_quantile(0.95, sum by (le) "
    '(rate(midfill_time_to_first_token_seconds_bucket{{namespace="midfill",slot="{slot}"}}[{window}])))'
)


@dataclass(frozen=True)
class Seen:
    """What one slot did within the window: `first_s` is the 95th percentile of the time to the first token."""

    requests: float
    failed: float
    first_s: float


def objection(canary: Seen, stable: Seen, max_error_rate: float, max_ratio: float) -> str:
    """Why the canary must not go on, or ""."""
    rate = canary.failed / max(canary.requests, 1)
    if rate > max_error_rate and canary.failed > 2:
        return f"{rate:.1%} of its {canary.requests:.0f} requests failed"
    # below 50 ms twice as long is noise
    if canary.first_s > max(stable.first_s * max_ratio, 0.05):
        return f"its first token takes {canary.first_s * 1000:.0f} ms, that of the other {stable.first_s * 1000:.0f} ms"
    return ""


def ask(prometheus: str, query: str) -> float:
    """The value of an instant query; 0 where there is no series or no number. Raises OSError."""
    url = f"{prometheus.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    if not url.startswith(("http://", "https://")):
        raise OSError(f"{prometheus} is no http:// or https:// URL")
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (the scheme is checked above)
        result = json.load(answer)["data"]["result"]
    value = float(result[0]["value"][1]) if result else 0.0
    return value if value == value else 0.0  # histogram_quantile of nothing is NaN


def look(prometheus: str, slot: str, window: str) -> Seen:
    """Asks for the three figures of a slot."""
    return Seen(*(ask(prometheus, query.format(slot=slot, window=window)) for query in (_COUNT, _FAILED, _FIRST)))


def kubectl(*arguments: str) -> None:
    """Raises CalledProcessError."""
    subprocess.run(["kubectl", "--namespace", "midfill", *arguments], check=True)


def weigh(percent: int) -> None:
    """Send `percent` of the requests to the canary."""
    patch = [
        {"op": "replace", "path": f"/spec/rules/0/backendRefs/{index}/weight", "value": weight}
        for index, weight in enumerate((100 - percent, percent))
    ]
    kubectl("patch", "httproute/midfill", "--type", "json", "--patch", json.dumps(patch))


def take_back() -> None:
    """Nothing goes to the canary any more, and it ends once it has finished what it has."""
    weigh(0)
    kubectl("scale", "deployment/midfill-canary", "--replicas", "0")


def run(options: argparse.Namespace) -> str:
    """Try the image; returns why it was taken back, or "" when it was promoted."""
    kubectl("set", "image", "deployment/midfill-canary", f"midfill={options.image}")
    kubectl("scale", "deployment/midfill-canary", "--replicas", "1")
    kubectl("rollout", "status", "deployment/midfill-canary", "--timeout", "900s")
    weigh(options.percent)
    window = f"{max(int(options.minutes * 60), 60)}s"
    end = time.monotonic() + options.minutes * 60
    canary = Seen(0, 0, 0)
    while time.monotonic() < end:
        time.sleep(options.interval_s)
        canary = look(options.prometheus, "canary", window)
        stable = look(options.prometheus, "blue", window)
        if why := objection(canary, stable, options.max_error_rate, options.max_latency_ratio):
            return why
    if canary.requests < options.min_requests:
        return f"{canary.requests:.0f} requests in {options.minutes:g} minutes are too few to judge by"
    kubectl("set", "image", "deployment/midfill", f"midfill={options.image}")
    kubectl("rollout", "status", "deployment/midfill", "--timeout", "1800s")
    take_back()
    return ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="canary.py", description="Try an image on a share of the requests.")
    parser.add_argument("image", help="by digest")
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--percent", type=int, default=10, help="of the requests; %(default)s")
    parser.add_argument("--minutes", type=float, default=30, help="%(default)s")
    parser.add_argument("--interval-s", type=float, default=15, help="between looks; %(default)s")
    parser.add_argument("--min-requests", type=float, default=200, help="fewer prove nothing; %(default)s")
    parser.add_argument("--max-error-rate", type=float, default=0.01, help="%(default)s")
    parser.add_argument("--max-latency-ratio", type=float, default=1.5, help="of the 95th percentiles; %(default)s")
    options = parser.parse_args(argv)
    if "@sha256:" not in options.image:
        parser.error("name the image by its digest, not by a tag that may move")
    try:
        why = run(options)
    except (OSError, ValueError, LookupError, subprocess.CalledProcessError) as error:
        # what cannot be watched is not left on
        why = f"it could not be watched: {error}"
    if why:
        print(f"canary.py: taken back: {why}", file=sys.stderr)
        take_back()
        return 1
    print("canary.py: promoted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
