"""One table of alarms: what Prometheus is given says the same, and every command is one of ours."""

from __future__ import annotations

import shlex

from deploy.prometheus.rules import RULES
from webhooks.cli import COMMANDS
from webhooks.operations.alarms import ALARMS, Severity


def test_rules_for_prometheus_are_those_of_the_table() -> None:
    assert {rule.alarm for rule in RULES} == ALARMS.keys()
    for rule in RULES:
        assert Severity.of(rule.severity) is ALARMS[rule.alarm].severity, rule.alarm


def test_every_alarm_names_a_command_that_exists() -> None:
    for alarm in ALARMS.values():
        words = shlex.split(alarm.command.format(subject="x"))
        assert words[0] == "curl" or words[1] in COMMANDS, alarm.name
        assert ("{subject}" not in alarm.command) or alarm.about, alarm.name


def test_the_worst_comes_first() -> None:
    severities = [alarm.severity for alarm in ALARMS.values()]
    assert severities == sorted(severities, reverse=True)
