"""What is deployed beside us says what the code says: the rules for Prometheus, and the dashboard for Grafana."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from deploy.grafana.dashboard import ROWS, as_json
from deploy.prometheus.rules import RULES, as_yaml
from tests.support import ROOT
from webhooks.cli import group
from webhooks.http.metrics import METRICS

RULE_FILE = ROOT / "deploy" / "prometheus" / "webhooks.rules.yml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "webhooks.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "webhooks.json"

SERIES = {series for metric in METRICS for series in metric.series}
LABELS = {series: metric.labels for metric in METRICS for series in metric.series}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def test_the_files_are_the_ones_that_their_tables_make() -> None:
    assert RULE_FILE.read_text("utf-8") == as_yaml(), "run: .venv/bin/python -m deploy.prometheus"
    assert DASHBOARD.read_text("utf-8") == as_json(), "run: .venv/bin/python -m deploy.grafana"


EXPRESSIONS = [
    *(rule.expression for rule in RULES),
    *(expression for _, row in ROWS for panel in row for expression, _ in panel.queries),
]


def test_expressions_ask_for_metrics_and_labels_that_there_are() -> None:
    for expression in EXPRESSIONS:
        found = re.findall(r"\b(webhooks_\w+)(?:\{([^}]*)\})?", expression)
        assert found or "ALERTS" in expression, expression
        for series, matchers in found:
            assert series in SERIES, expression
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= set(LABELS[series]), expression
        grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(",")}
        assert grouped <= {"le", "instance", *(label for series, _ in found for label in LABELS[series])}, expression


def test_every_metric_is_in_the_dashboard() -> None:
    shown = {series for expression in EXPRESSIONS for series in re.findall(r"\bwebhooks_\w+", expression)}
    assert [metric.name for metric in METRICS if not shown & set(metric.series)] == []


def test_the_dashboard_can_be_imported_for_any_data_source() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    panels = dashboard["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [title for title, _ in ROWS]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_every_alarm_has_a_test_a_severity_and_a_command_that_exists() -> None:
    told = RULE_TESTS.read_text("utf-8")
    for rule in RULES:
        assert f"alarm: {rule.alarm}" in told
        assert rule.severity in ("critical", "warning", "info")
        words = rule.command.split()
        assert words[0] == "curl" or words[1] in group.commands or group.get_command(None, words[1])  # type: ignore[arg-type]


@promtool
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", RULE_FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.thorough
@promtool
def test_the_rules_fire_and_rest_when_they_should() -> None:
    done = subprocess.run(["promtool", "test", "rules", RULE_TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
