"""Dashboards of the service: objectives, latency, capacity."""

from __future__ import annotations

from deploy.monitoring.panels import Page, Panel, Row, mean, now, quantiles, rate

OVERVIEW = Page(
    "midfill-overview",
    "Midfill: overview",
    "Are the objectives met? What users feel, and what is on fire.",
    (
        Row(
            "Objectives: 99.9 % of requests, 95 % of first tokens within 200 ms",
            (
                Panel(
                    "Answered, three days",
                    {"": '1 - job:midfill_request_errors:ratio_rate3d{job="$job"}'},
                    "percentunit",
                    "number",
                    6,
                ),
                Panel(
                    "First token in time, three days",
                    {"": '1 - job:midfill_first_token_slow:ratio_rate3d{job="$job"}'},
                    "percentunit",
                    "number",
                    6,
                ),
                Panel("Replicas up", {"": 'sum(up{job="$job"})'}, "short", "number", 4),
                Panel("Alerts firing", {"": 'count(ALERTS{alertstate="firing"})'}, "short", "number", 4),
                Panel("Requests a second", {"": 'job:midfill_requests:rate5m{job="$job"}'}, "reqps", "number", 4),
                Panel(
                    "Burn of the error budget",
                    {
                        "5 minutes": 'job:midfill_request_errors:ratio_rate5m{job="$job"} / 0.001',
                        "1 hour": 'job:midfill_request_errors:ratio_rate1h{job="$job"} / 0.001',
                        "6 hours": 'job:midfill_request_errors:ratio_rate6h{job="$job"} / 0.001',
                    },
                    width=12,
                    text="1 uses up the budget in exactly 30 days; alerts at 14.4, 6 and 1.",
                ),
                Panel(
                    "Burn of the latency budget",
                    {
                        "5 minutes": 'job:midfill_first_token_slow:ratio_rate5m{job="$job"} / 0.05',
                        "1 hour": 'job:midfill_first_token_slow:ratio_rate1h{job="$job"} / 0.05',
                        "6 hours": 'job:midfill_first_token_slow:ratio_rate6h{job="$job"} / 0.05',
                    },
                    width=12,
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel("Requests by status", {"{{status}}": rate("requests_total", "status")}, "reqps"),
                Panel("To the first token", quantiles("time_to_first_token_seconds"), "s"),
                Panel("Whole completion", quantiles("e2e_request_latency_seconds"), "s"),
                Panel(
                    "Firing alerts",
                    {"{{alertname}} {{instance}}": 'ALERTS{alertstate="firing"}'},
                    kind="table",
                    width=12,
                ),
                Panel("Served versions", {"": now("model_info")}, kind="table", width=12),
            ),
        ),
    ),
)

LATENCY = Page(
    "midfill-latency",
    "Midfill: latency and engine",
    "Where the time of a completion goes.",
    (
        Row(
            "A request",
            (
                Panel("Wait for the engine", quantiles("request_queue_time_seconds"), "s"),
                Panel("To the first token", quantiles("time_to_first_token_seconds"), "s"),
                Panel("Between tokens", quantiles("inter_token_latency_seconds"), "s"),
                Panel("Running", {"{{instance}}": now("num_requests_running")}),
                Panel("Waiting", {"{{instance}}": now("num_requests_waiting")}),
                Panel("Admitted", {"{{instance}}": now("active_requests")}),
            ),
        ),
        Row(
            "The engine",
            (
                Panel(
                    "A step, on average",
                    {"device": mean("step_device_seconds"), "host": mean("step_host_seconds")},
                    "s",
                    text="Host time is Python's share; on a GPU the device waits for it.",
                ),
                Panel(
                    "Tokens a second",
                    {
                        "prompt": rate("prompt_tokens_total"),
                        "found in the cache": rate("prefix_cache_hits_total"),
                        "generated": rate("generation_tokens_total"),
                        "for nobody": rate("wasted_tokens_total"),
                    },
                ),
                Panel(
                    "Prefix cache hits",
                    {"": f"{rate('prefix_cache_hits_total')} / {rate('prefix_cache_queries_total')}"},
                    "percentunit",
                    most=1,
                ),
                Panel("Guessed tokens taken a step", {"": mean("spec_accepted_length")}),
                Panel("Memory bandwidth used", {"{{instance}}": now("mbu_ratio")}, "percentunit"),
                Panel("Seconds without a step", {"{{instance}}": now("engine_stalled_seconds")}, "s"),
            ),
        ),
        Row(
            "Ended early",
            (
                Panel("Superseded", {"": rate("superseded_total")}, "reqps"),
                Panel("Nobody waited any more", {"{{stage}}": rate("aborted_total", "stage")}, "reqps"),
                Panel("Cut at their deadline", {"": rate("deadline_partial_total")}, "reqps"),
                Panel(
                    "Computed for nobody",
                    {"": 'job:midfill_wasted_tokens:ratio_rate30m{job="$job"}'},
                    "percentunit",
                    most=1,
                ),
                Panel(
                    "Answers given before",
                    {
                        "looked up": rate("response_cache_queries_total"),
                        "found": rate("response_cache_hits_total"),
                        "found by typing on": rate("response_cache_typed_hits_total"),
                    },
                    "reqps",
                ),
                Panel("Response cache", {"{{instance}}": now("response_cache_bytes")}, "bytes"),
            ),
        ),
    ),
)

CAPACITY = Page(
    "midfill-capacity",
    "Midfill: GPU and capacity",
    "What runs full next.",
    (
        Row(
            "The service",
            (
                Panel("Predicted wait of a new request", {"{{instance}}": now("predicted_wait_seconds")}, "s"),
                Panel(
                    "KV cache held by requests", {"{{instance}}": now("kv_cache_usage_ratio")}, "percentunit", most=1
                ),
                Panel("Tokens admitted", {"{{instance}}": now("reserved_tokens")}),
                Panel("Pushed out of the KV cache", {"{{instance}}": rate("preemptions_total", "instance")}, "reqps"),
                Panel(
                    "Refused: 503 saturated, draining or loading",
                    {"{{instance}}": rate("requests_total", "instance", 'status="503"')},
                    "reqps",
                ),
                Panel("Replicas", {"up": 'sum(up{job="$job"})', "known": 'count(up{job="$job"})'}),
            ),
        ),
        Row(
            "GPUs (dcgm-exporter)",
            (
                Panel("Busy", {"{{instance}} {{gpu}}": "DCGM_FI_DEV_GPU_UTIL"}, "percent", most=100),
                Panel(
                    "Memory in use",
                    {"{{instance}} {{gpu}}": "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)"},
                    "percentunit",
                    most=1,
                ),
                Panel("Temperature", {"{{instance}} {{gpu}}": "DCGM_FI_DEV_GPU_TEMP"}, "celsius"),
                Panel("Power", {"{{instance}} {{gpu}}": "DCGM_FI_DEV_POWER_USAGE"}, "watt"),
                Panel("Last fault of the driver (Xid)", {"{{instance}} {{gpu}}": "DCGM_FI_DEV_XID_ERRORS"}),
            ),
        ),
        Row(
            "Around it",
            (
                Panel("Dependencies", {"{{instance}} {{dependency}}": now("dependency_up")}, most=1),
                Panel("Events that wait for the database", {"{{instance}}": now("event_spool_bytes")}, "bytes"),
                Panel(
                    "Completions not recorded",
                    {"{{instance}}": rate("completion_records_dropped_total", "instance")},
                    "reqps",
                ),
                Panel(
                    "Response cache in Redis",
                    {"{{instance}}": now("response_cache_redis_up")},
                    text="0 also where no Redis is configured",
                    most=1,
                ),
                Panel(
                    "Faults of the response cache",
                    {"{{instance}}": rate("response_cache_faults_total", "instance")},
                    "reqps",
                ),
                Panel("Upstream server up", {"{{instance}}": now("upstream_up")}, most=1),
                Panel("Faults of the upstream", {"{{instance}}": rate("upstream_faults_total", "instance")}, "reqps"),
                Panel("nginx: connections", {"{{instance}}": "nginx_connections_active"}),
                Panel(
                    "nginx: requests",
                    {"{{instance}}": "sum by (instance) (rate(nginx_http_requests_total[$__rate_interval]))"},
                    "reqps",
                ),
                Panel("Certificate ends in", {"{{instance}}": "probe_ssl_earliest_cert_expiry - time()"}, "s"),
            ),
        ),
    ),
)
