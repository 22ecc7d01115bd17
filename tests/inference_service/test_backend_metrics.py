"""What a backend reports becomes proper Prometheus families, in place of what is counted where requests end."""

from prometheus_client.parser import text_string_to_metric_families

from inference_service.metrics import Metrics


def families(gauges):
    metrics = Metrics(lambda: gauges)
    metrics.wasted_tokens.inc(3)
    metrics.aborted.labels(stage="decode").inc()
    page = metrics.render().decode()
    parsed = list(text_string_to_metric_families(page))
    assert len({family.name for family in parsed}) == len(parsed)
    samples = {(one.name, *one.labels.values()): one.value for family in parsed for one in family.samples}
    return {family.name: family.type for family in parsed}, samples


def test_a_backend_that_counts_itself_is_believed():
    reported = {
        "step_host_seconds_sum": 1.5,
        "step_host_seconds_count": 4,
        "mbu_ratio": 0.25,
        "wasted_tokens_total": 70,
        'aborted_total{stage="waiting"}': 1,
        'aborted_total{stage="prefill"}': 2,
    }
    types, samples = families(reported)
    assert types["midfill_step_host_seconds"] == "summary" and types["midfill_mbu_ratio"] == "gauge"
    assert samples["midfill_step_host_seconds_sum",] == 1.5 and samples["midfill_step_host_seconds_count",] == 4
    assert samples["midfill_wasted_tokens_total",] == 70
    assert samples["midfill_aborted_total", "prefill"] == 2 and ("midfill_aborted_total", "decode") not in samples


def test_for_a_backend_that_does_not_the_requests_are_counted():
    _, samples = families({"num_requests_running": 2})
    assert samples["midfill_num_requests_running",] == 2
    assert samples["midfill_wasted_tokens_total",] == 3
    assert samples["midfill_aborted_total", "decode"] == 1 and samples["midfill_aborted_total", "waiting"] == 0
