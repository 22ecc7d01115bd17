"""docs/metrics.md lists what a service exports."""

from tools.metrics_docs import PAGE, page


def test_the_page_is_generated_from_the_service():
    assert PAGE.read_text() == page(), "run python -m tools.metrics_docs"


def test_the_metrics_of_the_contract_are_on_the_page():
    text = PAGE.read_text()
    for name in (
        *("num_requests_running", "kv_cache_usage_ratio", "prefix_cache_hits_total", "time_to_first_token_seconds"),
        *("requests_total", "superseded_total", "wasted_tokens_total", "completion_events_total", "model_info"),
    ):
        assert f"`midfill_{name}`" in text
