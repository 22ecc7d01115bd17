"""Dashboards of what people do with it: quality, teams."""

from __future__ import annotations

from deploy.monitoring.panels import OF, Page, Panel, Row, Sql, now, rate


def _accepted(by: str) -> str:
    taken = 'event=~"accepted|partially_accepted"'
    return (
        f"sum by ({by}) (increase(midfill_completion_events_total{{{OF},{taken}}}[$__range]))"
        f' / sum by ({by}) (increase(midfill_completion_events_total{{{OF},event="shown"}}[$__range]))'
    )


QUALITY = Page(
    "midfill-quality",
    "Midfill: quality",
    "Whether what is shown is accepted, by language and by version of the model.",
    (
        Row(
            "In the editors",
            (
                Panel("Accepted, by language", {"{{language}}": _accepted("language")}, "percentunit", "table"),
                Panel(
                    "Accepted, by version", {"{{model_version}}": _accepted("model_version")}, "percentunit", "table"
                ),
                Panel("What became of completions", {"{{event}}": rate("completion_events_total", "event")}, "reqps"),
                Panel(
                    "Accepted of shown, a day and a week",
                    {
                        "day": 'job:midfill_acceptance:ratio_increase1d{job="$job"}',
                        "week": 'job:midfill_acceptance:ratio_increase7d{job="$job"}',
                    },
                    "percentunit",
                    most=1,
                ),
                Panel("Characters accepted a second", {"{{language}}": rate("accepted_chars_total", "language")}),
                Panel(
                    "Held-out lines completed exactly",
                    {
                        "{{model_version}}": f"max by (model_version) ({now('live_exact_match_ratio')})",
                        "floor of {{model_version}}": f"max by (model_version) ({now('live_exact_match_floor')})",
                    },
                    "percentunit",
                    most=1,
                    text="midfill-serve evaluate-live, once a day",
                ),
                Panel(
                    "Last evaluation",
                    {
                        "{{model_version}}": "time() - max by (model_version) "
                        f"({now('live_exact_match_timestamp_seconds')})"
                    },
                    "s",
                    "number",
                ),
            ),
        ),
        Row(
            "Versions and experiments",
            (
                Panel(
                    "Completions by version",
                    {"{{model_version}}": rate("version_completions_total", "model_version")},
                    "reqps",
                ),
                Panel(
                    "Ends by version",
                    {"{{model_version}} {{outcome}}": rate("version_completions_total", "model_version,outcome")},
                    "reqps",
                ),
                Panel(
                    "95th percentile of a completion, by version",
                    {
                        "{{model_version}}": "histogram_quantile(0.95, "
                        + rate("version_completion_seconds_bucket", "model_version,le")
                        + ")"
                    },
                    "s",
                ),
                Panel("Shadow agrees", {"{{agreed}}": rate("shadow_completions_total", "agreed")}, "reqps"),
                Panel(
                    "Experiments taken back",
                    {"{{reason}}": f"sum by (reason) (increase(midfill_experiment_rollbacks_total{{{OF}}}[$__range]))"},
                    kind="number",
                ),
                Panel(
                    "Attempts to activate a version",
                    {"{{result}}": f"sum by (result) (increase(midfill_model_activations_total{{{OF}}}[$__range]))"},
                    kind="number",
                ),
            ),
        ),
    ),
    span="7d",
)

TEAMS = Page(
    "midfill-teams",
    "Midfill: teams, keys and quotas",
    "Who uses it and who meets a limit. From PostgreSQL: teams and keys are not labels of metrics.",
    (
        Row(
            "Refusals",
            (
                Panel(
                    "No or an unknown key",
                    {"{{status}}": rate("requests_total", "status", 'status=~"401|403"')},
                    "reqps",
                ),
                Panel("Over a quota", {"{{instance}}": rate("requests_total", "instance", 'status="429"')}, "reqps"),
            ),
        ),
        Row(
            "Teams",
            (
                Panel(
                    "Completions a quarter of an hour, by team",
                    Sql(
                        "SELECT floor(created_at / 900) * 900 AS time, tenant AS metric, count(*) AS value "
                        "FROM completions WHERE $__unixEpochFilter(created_at) GROUP BY 1, 2 ORDER BY 1"
                    ),
                    width=12,
                ),
                Panel(
                    "Teams",
                    Sql(
                        "SELECT tenant AS team, count(*) AS completions, sum(prompt_tokens) AS prompt_tokens, "
                        "sum(cached_tokens) AS cached_tokens, sum(completion_tokens) AS generated_tokens "
                        "FROM completions WHERE $__unixEpochFilter(created_at) GROUP BY tenant ORDER BY 2 DESC"
                    ),
                    kind="table",
                    width=12,
                ),
                Panel(
                    "Accepted, by team",
                    Sql(
                        "SELECT tenant AS team, count(*) FILTER (WHERE event = 'shown') AS shown, "
                        "count(DISTINCT completion_id) FILTER (WHERE event IN ('accepted', 'partially_accepted')) "
                        "AS accepted FROM events WHERE $__unixEpochFilter(created_at) GROUP BY tenant ORDER BY 2 DESC"
                    ),
                    kind="table",
                    width=12,
                ),
                Panel(
                    "Keys: busiest minute beside the quota",
                    Sql(
                        "SELECT k.id, k.owner, k.requests_per_minute, max(m.requests) AS most_in_a_minute, "
                        "k.tokens_per_minute, max(m.tokens) AS most_tokens_in_a_minute FROM api_keys k JOIN "
                        "(SELECT key_id, floor(created_at / 60) AS minute, count(*) AS requests, "
                        "sum(prompt_tokens + completion_tokens) AS tokens FROM completions "
                        "WHERE $__unixEpochFilter(created_at) "
                        "GROUP BY 1, 2) m ON m.key_id = k.id GROUP BY k.id ORDER BY most_in_a_minute DESC"
                    ),
                    kind="table",
                    width=12,
                ),
                Panel(
                    "Keys: last use and end",
                    Sql(
                        "SELECT k.id, k.owner, k.tenant AS team, k.scopes, "
                        "to_timestamp(max(c.created_at)) AS last_use, "
                        "to_timestamp(k.expires_at) AS expires, to_timestamp(k.revoked_at) AS revoked "
                        "FROM api_keys k LEFT JOIN completions c ON c.key_id = k.id "
                        "GROUP BY k.id ORDER BY last_use DESC NULLS LAST"
                    ),
                    kind="table",
                    width=24,
                ),
            ),
        ),
    ),
    span="24h",
)
