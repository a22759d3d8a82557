"""Prometheus's configuration for a service: what it asks, and the rules by which it reckons and alerts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from modelport.errors import EnvironmentUnfitError, UsageError

TRITON, GATEWAY, SUPERVISOR = JOBS = ("triton", "gateway", "supervisor")
CONFIG, RULES = "prometheus.yml", "rules"
_PLACE = re.compile(r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}")
_HEAD = """\
# Written by 'modelport prometheus'; docs/metrics.md says what there is to see.
#
#   prometheus --config.file=prometheus.yml --web.listen-address=127.0.0.1:9090
global:
  scrape_interval: {interval}
  evaluation_interval: {interval}

rule_files:
  - rules/*.yml

"""
_ALERTING = """\
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{place}"]

"""
_JOB = """\
  - job_name: {job}
    static_configs:
      - targets: ["{place}"]
"""
_TRIALS = """\
    metric_relabel_configs:
      # A version that is on trial is loaded under another name for a moment.
      - source_labels: [model]
        regex: .*\\.trial
        action: drop
"""


def rules() -> dict[str, str]:
    """The files of rules, by their names."""
    folder = resources.files(__package__) / RULES
    return {entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".yml")}


def config(places: Mapping[str, str], *, interval_s: float = 15.0, alertmanager: str = "") -> str:
    """The text of `prometheus.yml`.

    Args:
        places: Job, one of `JOBS`, to `HOST:PORT`.
        interval_s: Seconds between two questions; whole milliseconds.
        alertmanager: `HOST:PORT` of the Alertmanager that sends alerts on; empty for none.

    Raises:
        UsageError: A place is none.
    """
    for who, place in {**places, **({"Alertmanager": alertmanager} if alertmanager else {})}.items():
        if not _PLACE.fullmatch(place):
            raise UsageError(
                f"{place!r} is no place of the {who}", why="it is not HOST:PORT", fix="give it as 127.0.0.1:8002"
            )
    milliseconds = round(1000 * interval_s)
    interval = f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
    jobs = [
        _JOB.format(job=job, place=places[job]) + (_TRIALS if job == TRITON else "") for job in JOBS if job in places
    ]
    alerting = _ALERTING.format(place=alertmanager) if alertmanager else ""
    return _HEAD.format(interval=interval) + alerting + "scrape_configs:\n" + "\n".join(jobs)


def write(folder: Path, places: Mapping[str, str], *, interval_s: float = 15.0, alertmanager: str = "") -> list[Path]:
    """Write configuration and rules into a folder, over what is there. Gives the files.

    Raises:
        UsageError: As `config`.
        EnvironmentUnfitError: The disk refuses.
    """
    text = config(places, interval_s=interval_s, alertmanager=alertmanager)
    content = {CONFIG: text, **{f"{RULES}/{k}": v for k, v in rules().items()}}
    try:
        (folder / RULES).mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            (folder / name).write_text(text)
    except OSError as exc:
        raise EnvironmentUnfitError(
            f"Prometheus's configuration cannot be written into {folder}",
            why=f"{exc.strerror or exc}: {exc.filename}",
            fix="name a folder that you may write into",
        ) from exc
    return [folder / name for name in content]
