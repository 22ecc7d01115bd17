"""Writes Prometheus's configuration for one machine: the shipped one, with other targets.

python -m deploy.monitoring.render FOLDER --target 127.0.0.1:8001 --target 127.0.0.1:8002
prometheus --config.file=FOLDER/prometheus.yml --storage.tsdb.path=FOLDER/data --web.listen-address=127.0.0.1:9090
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
_RUNBOOKS = "deploy/runbooks/"


def render(
    folder: Path,
    targets: Sequence[str],
    *,
    interval: str = "15s",
    alertmanager: str | None = None,
    key_file: Path | None = None,
    runbooks: str = _RUNBOOKS,
) -> Path:
    """The path of the new prometheus.yml; `folder` gets the rules, too. `interval` is that of scrapes and rules."""
    config: dict[str, Any] = yaml.safe_load((HERE / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "midfill")
    del job["dns_sd_configs"], job["file_sd_configs"], job["authorization"]
    job["static_configs"] = [{"targets": list(targets)}]
    if key_file:
        job["authorization"] = {"credentials_file": str(key_file.resolve())}
    # exporters are told by files in FOLDER/targets; without one their jobs have nothing to do
    others = [one for one in config["scrape_configs"] if one is not job and "file_sd_configs" in one]
    config["scrape_configs"] = [job, *others]
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    for source in sorted((HERE / "rules").glob("*.yml")):
        rules = source.read_text(encoding="utf-8").replace(f"runbook_url: {_RUNBOOKS}", f"runbook_url: {runbooks}")
        (folder / "rules" / source.name).write_text(rules, encoding="utf-8")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write Prometheus's configuration for one machine.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", action="append", required=True, metavar="HOST:PORT", help="a replica; repeatable")
    parser.add_argument("--interval", default="15s", help="between scrapes, and between evaluations of the rules")
    parser.add_argument("--alertmanager", metavar="HOST:PORT")
    parser.add_argument("--key-file", type=Path, help="file with an API key of the scope metrics")
    parser.add_argument("--runbooks", default=_RUNBOOKS, metavar="URL", help="where deploy/runbooks/ can be read")
    options = parser.parse_args(arguments)
    path = render(
        options.folder,
        options.target,
        interval=options.interval,
        alertmanager=options.alertmanager,
        key_file=options.key_file,
        runbooks=options.runbooks,
    )
    print(path)


if __name__ == "__main__":
    main()
