"""What `doctor` concludes from facts: each finding, its level, and the command that it names."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT, each
from webhooks.database import History, Unmigrated
from webhooks.operations import Finding, Level, Wanted, diagnose
from webhooks.operations.alarms import ALARMS
from webhooks.operations.doctor import CHECKS, Facts, Fix, HandlerFacts, SourceFacts, expected_silence
from webhooks.operations.doctor.checks import code_of
from webhooks.sources import Subscription, Topic
from webhooks.store.handlers import BreakerState, HandlerState
from webhooks.store.health import Backlog, Missed, TypeActivity
from webhooks.store.positions import LogPosition
from webhooks.store.processes import Process
from webhooks.store.retention.partitions import Problem, Trouble

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
URL = "https://x.example/webhooks/close"
GOOD = Subscription("whsub_1", URL, "active", (Topic("lead.created"),), health_status="healthy")

#: A source with which nothing is wrong.
WELL = SourceFacts(
    "close",
    NOW,
    NOW,
    has_log=True,
    subscriptions=[GOOD],
    every=[GOOD],
    public_url=URL,
    path="/webhooks/close",
    wanted=Wanted(frozenset({"lead.created"})),
    seen={"lead.created": TypeActivity(3, NOW)},
    labels=["whsub_1"],
    key_uses={"whsub_1": NOW - MINUTE},
    arrivals=[NOW - HOUR * (40 - n) for n in range(40)],
    skews=[timedelta(seconds=1), timedelta(minutes=20)],
    api_ahead=timedelta(seconds=1),
    mark=LogPosition("close", mark_at=NOW - HOUR, ran_at=NOW - HOUR),
)
STATE = HandlerState(
    name="h",
    patterns=("lead.created",),
    source="close",
    concurrency=None,
    rate=None,
    paused=False,
    paused_by=None,
    breaker=BreakerState.CLOSED,
    breaker_failures=0,
    breaker_until=None,
    seen_at=NOW,
)
HANDLER = HandlerFacts("h", is_registered=True, is_running=True, backlog=Backlog("h"), state=STATE)
WORKER = Process("host:1", "worker", NOW - HOUR, NOW, "1.0", ("h",))


def of(source: SourceFacts | None = None, handler: HandlerFacts | None = None, **facts: Any) -> list[Finding]:
    return diagnose(
        Facts(
            NOW,
            facts.pop("sources", [source or WELL]),
            facts.pop("handlers", [handler or HANDLER]),
            facts.pop("processes", [WORKER]),
            **facts,
        )
    )


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_where_all_is_well_nothing_is_found() -> None:
    assert of() == []


def with_subscription(**changes: Any) -> SourceFacts:
    changed = replace(GOOD, **changes)
    return replace(WELL, subscriptions=[changed], every=[changed])


@each(
    ("source", "level", "code", "words", "command", "fix"),
    [
        (
            with_subscription(status="paused", pause_reason="backlog"),
            Level.ERROR,
            "subscription-paused",
            "subscription whsub_1 is paused (backlog): nothing is sent",
            "webhooks subscriptions resume whsub_1",
            Fix.RESUME,
        ),
        (
            with_subscription(status="paused", pause_reason="api", paused_by_call=True),
            Level.ERROR,
            "subscription-paused",
            "it was paused on purpose, by a call",
            "webhooks subscriptions resume whsub_1",
            None,
        ),
        (
            with_subscription(url="https://old.example/webhooks/close"),
            Level.ERROR,
            "subscription-url",
            "posts to https://old.example/webhooks/close, not to the public_url https://x.example/webhooks/close",
            "webhooks subscriptions sync",
            None,
        ),
        (
            with_subscription(health_status="failing", latest_error="HTTP 500"),
            Level.WARNING,
            "subscription-failing",
            "its health is 'failing'; its latest error is 'HTTP 500'",
            "webhooks sources",
            None,
        ),
        (
            replace(WELL, wanted=Wanted(frozenset({"lead.created", "a.b", "c.d", "e.f", "g.h"}))),
            Level.ERROR,
            "types-not-subscribed",
            "handlers want a.b, c.d, e.f and 1 more of close, which no subscription asks for",
            "webhooks subscriptions sync",
            Fix.SUBSCRIBE,
        ),
        (
            with_subscription(topics=(Topic("lead.created"), Topic("lead.updated"))),
            Level.NOTE,
            "types-not-handled",
            "subscriptions bring lead.updated of close, which no handler wants",
            "webhooks subscriptions sync --dry-run",
            None,
        ),
        (
            replace(WELL, wanted=Wanted(frozenset({"lead.created"}), ("outcome.*",))),
            Level.NOTE,
            "types-unknown",
            "handlers want outcome.*, which close does not publish",
            "webhooks handlers",
            None,
        ),
        (
            replace(WELL, seen={"contact.created": TypeActivity(1, NOW)}),
            Level.NOTE,
            "types-never-seen",
            "of close, lead.created never came in the last 30 days",
            "webhooks catch-up close --since 30d --dry-run",
            None,
        ),
        (
            replace(WELL, subscriptions=[], every=[GOOD], public_url=""),
            Level.ERROR,
            "no-subscription",
            "no subscription is known to post to close",
            "webhooks subscriptions sync --url https://YOUR-HOST/webhooks/close",
            None,
        ),
        (
            replace(WELL, subscriptions=None, every=(), why_not="there is no API key; set X"),
            Level.NOTE,
            "not-checked",
            "the subscriptions of close were not checked: there is no API key; set X",
            "webhooks subscriptions list --source close",
            None,
        ),
        (
            replace(WELL, subscriptions=None, every=(), why_not="Close does not know the API key", is_refused=True),
            Level.ERROR,
            "api-refused",
            "Close does not know the API key",
            "webhooks subscriptions list --source close",
            None,
        ),
        (
            replace(WELL, labels=["whsub_2"], every=[GOOD, replace(GOOD, id="whsub_2")], key_uses={}),
            Level.ERROR,
            "key-missing",
            "the key of subscription whsub_1 is not held, so its deliveries are refused with 401",
            "webhooks subscriptions sync",
            Fix.FETCH_KEY,
        ),
        (
            replace(
                WELL,
                labels=["whsub_1", "whsub_2"],
                subscriptions=[GOOD, replace(GOOD, id="whsub_2")],
                every=[GOOD, replace(GOOD, id="whsub_2")],
            ),
            Level.WARNING,
            "key-never-matched",
            "the key 'whsub_2' of close never matched a delivery, although its subscription is active",
            "webhooks subscriptions rotate whsub_2",
            None,
        ),
        (
            replace(WELL, labels=["whsub_1", "whsub_gone"], id_labels=["whsub_1", "whsub_gone"]),
            Level.WARNING,
            "key-never-matched",
            "no subscription has this id any more",
            "webhooks subscriptions list",
            None,
        ),
        (
            replace(WELL, arrivals=[NOW - HOUR * (45 - n) for n in range(40)]),
            Level.WARNING,
            "source-silent",
            "nothing came from close for 6 h; after what came before, 1 h 30 min would be long",
            "webhooks catch-up close",
            Fix.CATCH_UP,
        ),
        (
            replace(WELL, arrivals=[NOW - HOUR], verified_at=NOW - MINUTE * 50, expect_within=MINUTE * 45),
            Level.ERROR,
            "source-silent",
            "close has sent nothing for 50 min; expected within 45 min",
            "webhooks catch-up close",
            Fix.CATCH_UP,
        ),
        (
            replace(WELL, refused=9, refused_at=NOW - MINUTE, verified_at=NOW - HOUR),
            Level.ERROR,
            "refusing",
            "at least 9 requests were refused for their signature within 15 minutes, and none passed: probably a wrong key",
            "webhooks explain",
            None,
        ),
        (
            replace(WELL, refused=9, refused_at=NOW - MINUTE, verified_at=NOW),
            Level.WARNING,
            "refusing",
            "while others passed: one of its keys is missing or wrong",
            "webhooks explain",
            None,
        ),
        (
            replace(WELL, skews=[timedelta(seconds=200), timedelta(seconds=90)]),
            Level.WARNING,
            "clock-skew",
            "every delivery of close was signed at least 1 min 30 s before it came",
            "timedatectl set-ntp true",
            None,
        ),
        (
            replace(WELL, skews=[timedelta(seconds=1), timedelta(seconds=-100)]),
            Level.WARNING,
            "clock-skew",
            "deliveries of close were signed 1 min 40 s after they came: this machine's clock is behind",
            "timedatectl set-ntp true",
            None,
        ),
        (
            replace(WELL, api_ahead=timedelta(minutes=-3)),
            Level.WARNING,
            "clock-skew",
            "this machine's clock is 3 min behind that of close's API",
            "timedatectl set-ntp true",
            None,
        ),
        (
            replace(WELL, mark=LogPosition("close", ran_at=NOW, error="the network is away")),
            Level.ERROR,
            "catch-up-failed",
            "the last catch-up of close failed: the network is away",
            "webhooks catch-up close",
            Fix.CATCH_UP,
        ),
        (
            replace(WELL, mark=LogPosition("close", ran_at=NOW - HOUR * 5)),
            Level.WARNING,
            "catch-up-late",
            "was 5 h ago, and workers do it hourly",
            "webhooks catch-up close",
            Fix.CATCH_UP,
        ),
        (
            replace(WELL, mark=LogPosition("close", ran_at=NOW, stripped_at=NOW - HOUR)),
            Level.ERROR,
            "events-without-content",
            "since 2026-03-10T13:00:00Z there are events of close",
            "webhooks catch-up close",
            None,
        ),
        (
            replace(WELL, quarantined=2),
            Level.WARNING,
            "quarantine",
            "of close, 2 requests could not be read",
            "webhooks quarantine list --source close",
            None,
        ),
    ],
)
def test_what_is_wrong_with_a_source_is_one_finding_with_its_command(
    source: SourceFacts, level: Level, code: str, words: str, command: str | None, fix: Fix | None
) -> None:
    finding = only(of(source))
    assert (finding.level, finding.code, finding.command, finding.fix) == (level, code, command, fix)
    assert words in finding.text


@pytest.mark.parametrize(
    ("handler", "level", "code", "words", "command"),
    [
        (
            replace(HANDLER, is_registered=False, is_running=False, backlog=Backlog("h", pending=2, running=1)),
            Level.WARNING,
            "orphaned-deliveries",
            "handler 'h', which neither this directory nor any running process has, has 3 deliveries waiting",
            "webhooks deliveries cancel --handler h --dry-run",
        ),
        (
            replace(HANDLER, backlog=Backlog("h", dead=1, lanes=1, held=7, pending=7, eldest_at=NOW)),
            Level.ERROR,
            "lane-blocked",
            "handler 'h' has 1 lane stuck behind a dead delivery, with 7 deliveries waiting there",
            "webhooks requeue --handler h --state dead",
        ),
        (
            replace(HANDLER, backlog=Backlog("h", dead=4)),
            Level.WARNING,
            "dead-deliveries",
            "handler 'h' has 4 dead deliveries: their attempts",
            "webhooks deliveries list --handler h --state dead --group",
        ),
        (
            replace(HANDLER, backlog=Backlog("h", pending=4, dead=10_001, is_more=True)),
            Level.WARNING,
            "dead-deliveries",
            "handler 'h' has at least 10,001 dead deliveries: their attempts",
            "webhooks deliveries list --handler h --state dead --group",
        ),
        (
            replace(HANDLER, backlog=Backlog("h", pending=4, retrying=2, failures=5, failing_since=NOW)),
            Level.WARNING,
            "handler-failing",
            "2 deliveries failed 5 times and wait for a retry; once it is mended: webhooks requeue --handler h --state pending",
            "webhooks deliveries list --handler h --state pending --group",
        ),
        (
            replace(HANDLER, state=replace(STATE, paused=True, paused_by="ines")),
            Level.WARNING,
            "handler-paused",
            "handler 'h' was paused by ines",
            "webhooks handlers resume h",
        ),
        (
            replace(HANDLER, state=replace(STATE, breaker=BreakerState.OPEN, breaker_failures=10)),
            Level.WARNING,
            "breaker-open",
            "the circuit breaker of handler 'h' is open after 10 failures in a row",
            "webhooks deliveries list --handler h --group",
        ),
        (
            replace(HANDLER, missed={"close": Missed(3, NOW - HOUR, NOW)}),
            Level.WARNING,
            "events-without-delivery",
            "for handler 'h' there are 3 events of close from 2026-03-10T13:00:00Z on without a delivery: older code",
            "webhooks replay --handler h --source close --since 2026-03-10T13:00:00Z --until 2026-03-10T14:00:01Z",
        ),
        (
            replace(HANDLER, missed={"close": Missed(3, NOW - HOUR, NOW)}, is_new=True),
            Level.NOTE,
            "events-without-delivery",
            "it never ran here before",
            "webhooks replay --handler h --source close --since 2026-03-10T13:00:00Z --until 2026-03-10T14:00:01Z",
        ),
    ],
)
def test_what_is_wrong_with_a_handler_is_one_finding_with_its_command(
    handler: HandlerFacts, level: Level, code: str, words: str, command: str
) -> None:
    finding = only(of(handler=handler))
    assert (finding.level, finding.code, finding.command) == (level, code, command)
    assert words in finding.text


def test_deliveries_of_a_handler_that_another_process_runs_are_no_orphans() -> None:
    assert of(handler=replace(HANDLER, is_registered=False, backlog=Backlog("h", running=1))) == []


def test_an_engine_to_which_nothing_is_offered_is_an_error_with_the_way_out() -> None:
    due = replace(HANDLER, backlog=Backlog("h", pending=5, due=5, due_since=NOW - HOUR))
    celery = Process("c", "celery", NOW, NOW, "1", ("h",))
    finding = only(of(handler=due, processes=[celery]))
    assert (finding.level, finding.code, finding.command) == (Level.ERROR, "engine-silent", "webhooks worker")
    feeder = Process("f", "feeder", NOW, NOW, "1", ())
    assert of(handler=due, processes=[celery, feeder]) == []
    assert [each.code for each in of(processes=[celery, replace(feeder, silent_since=NOW - HOUR)])] == ["engine-silent"]


def test_a_queue_without_a_worker_is_an_error_after_a_minute_with_the_command() -> None:
    waiting = replace(
        HANDLER,
        is_running=False,
        queue="video",
        is_queue_served=False,
        backlog=Backlog("h", pending=5, due=5, due_since=NOW - HOUR),
    )
    other = replace(waiting, name="g", backlog=Backlog("g"))
    finding = only(of(handlers=[waiting, other]))
    assert (finding.level, finding.code, finding.subject) == (Level.ERROR, "queue-without-worker", "video")
    assert finding.text == "no worker runs the queue 'video', with 5 deliveries of 1 handler due, the oldest for 1 h"
    assert finding.command == "webhooks worker --queues video"
    assert of(handler=replace(waiting, is_queue_served=True)) == []
    assert of(handler=replace(waiting, backlog=replace(waiting.backlog, due_since=NOW))) == []
    assert [each.code for each in of(handler=waiting, processes=[])] == ["no-worker"], "one of them says it"


def test_work_without_a_worker_is_an_error_after_a_minute() -> None:
    waiting = replace(HANDLER, backlog=Backlog("h", pending=5, eldest_at=NOW - HOUR))
    finding = only(of(handler=waiting, processes=[replace(WORKER, kind="web")]))
    assert (finding.code, finding.command) == ("no-worker", "webhooks worker")
    assert finding.text == "no worker runs, with 5 deliveries waiting, the oldest for 1 h"
    assert of(handler=waiting) == []
    fresh = replace(HANDLER, backlog=Backlog("h", pending=5, eldest_at=NOW - timedelta(seconds=5)))
    assert of(handler=fresh, processes=[]) == []
    later = replace(HANDLER, backlog=Backlog("h", pending=5, scheduled=5, eldest_at=NOW - HOUR))
    assert of(handler=later, processes=[]) == [], "what is due later does not wait for a worker"


def test_a_handler_that_failed_once_or_twice_or_is_held_by_its_breaker_is_not_called_failing() -> None:
    backlog = Backlog("h", pending=2, retrying=2, failures=2, failing_since=NOW)
    assert of(handler=replace(HANDLER, backlog=backlog)) == []
    held = replace(HANDLER, backlog=replace(backlog, failures=9), state=replace(STATE, breaker=BreakerState.OPEN))
    assert only(of(handler=held)).code == "breaker-open"


plugin_history = History("garden", Path("garden"), "webhooks_version_garden", "garden_", "handlers.garden")


@pytest.mark.parametrize(
    ("facts", "code", "command"),
    [
        ({"schema_is_current": False}, "schema-behind", "webhooks db upgrade"),
        ({"database_problem": "refused"}, "database-away", None),
        (
            {"unmigrated": [Unmigrated(plugin_history, ("garden_beds",))]},
            "table-without-migration",
            "webhooks db revision garden -m 'add garden_beds'",
        ),
        ({"database_ahead": timedelta(minutes=2)}, "clock-skew", "timedatectl set-ntp true"),
        ({"database_ahead": timedelta(minutes=-2)}, "clock-skew", "timedatectl set-ntp true"),
    ],
)
def test_what_is_wrong_with_the_database_is_found(facts: dict[str, Any], code: str, command: str | None) -> None:
    finding = only(of(**facts))
    assert (finding.code, finding.command) == (code, command)


@pytest.mark.parametrize(
    ("trouble", "level", "code"),
    [
        (Trouble.HELD, Level.WARNING, "partition-held"),
        (Trouble.ENDING, Level.WARNING, "partitions-ending"),
        (Trouble.STRAYS, Level.NOTE, "partition-strays"),
    ],
)
def test_what_is_wrong_with_partitions_is_a_finding_with_the_command_that_they_name(
    trouble: Trouble, level: Level, code: str
) -> None:
    finding = only(of(partitions=[Problem(trouble, "a partition is in trouble", "webhooks db partition")]))
    assert (finding.level, finding.code, finding.subject) == (level, code, "database")
    assert (finding.text, finding.command) == ("a partition is in trouble", "webhooks db partition")


def test_the_worst_comes_first() -> None:
    source = replace(
        WELL, quarantined=1, mark=LogPosition("close", ran_at=NOW, error="x"), seen={"a.b": TypeActivity(1, NOW)}
    )
    assert [finding.level for finding in of(source)] == [Level.ERROR, Level.WARNING, Level.NOTE]


def test_a_key_under_a_free_label_is_not_taken_for_missing_once_it_matched() -> None:
    assert of(replace(WELL, labels=["1"], key_uses={"1": NOW})) == []
    assert only(of(replace(WELL, labels=["1"], key_uses={}))).code == "key-missing"


def test_nothing_is_said_of_keys_before_anything_came() -> None:
    fresh = replace(WELL, labels=["whsub_1", "whsub_2"], arrivals=[], key_uses={}, every=[])
    assert of(fresh) == []


# -- silence ------------------------------------------------------------------------------------------------


def test_too_little_history_says_nothing_about_silence() -> None:
    assert expected_silence([]) is None
    assert expected_silence([NOW + HOUR * n for n in range(10)]) is None
    assert expected_silence([NOW + HOUR * n for n in range(11)]) == HOUR * 1.5


def test_bursts_count_as_one_arrival() -> None:
    assert expected_silence([NOW + timedelta(seconds=n) for n in range(500)]) is None


def test_a_weekend_that_was_silent_before_is_no_alarm() -> None:
    week = [NOW + HOUR * n for n in range(12)]
    later = [instant + timedelta(days=3) for instant in week]
    expected = expected_silence([*week, *later])
    assert expected is not None
    assert expected > timedelta(days=2, hours=13)


@given(st.lists(st.integers(1, 10**6), min_size=11, max_size=50))
def test_no_gap_that_was_there_before_is_ever_taken_for_silence(gaps: list[int]) -> None:
    arrivals = [NOW]
    for gap in gaps:
        arrivals.append(arrivals[-1] + timedelta(seconds=gap))
    expected = expected_silence(arrivals)
    assert expected is None or expected > timedelta(seconds=max(gaps))


# -- documentation ------------------------------------------------------------------------------------------


def test_of_equally_bad_findings_that_which_holds_up_most_comes_first() -> None:
    waiting = Backlog("busy", pending=508, failures=20)
    open_now = replace(STATE, name="busy", breaker=BreakerState.OPEN, breaker_failures=10)
    idle = HandlerFacts("idle", is_registered=True, is_running=True, backlog=Backlog("idle", dead=3), state=STATE)
    busy = HandlerFacts("busy", is_registered=True, is_running=True, backlog=waiting, state=open_now)
    found = of(handlers=[idle, busy])
    assert [(finding.code, finding.held) for finding in found] == [("breaker-open", 508), ("dead-deliveries", 3)]
    assert "with 508 deliveries waiting" in found[0].text


def test_a_key_of_a_sender_without_subscriptions_names_a_command_that_it_has() -> None:
    source = replace(
        WELL,
        has_log=False,
        subscriptions=None,
        every=(),
        labels=["a", "b"],
        key_uses={"a": NOW},
        wanted=Wanted(frozenset()),
    )
    [finding] = [each for each in of(source) if each.code == "key-never-matched"]
    assert finding.command == "webhooks sources"


def test_the_runbook_has_every_finding_and_every_alarm_and_nothing_else() -> None:
    checked = [code_of(check) for _, check in CHECKS]
    assert len(checked) == len(set(checked))
    rooms = sorted((ROOT / "webhooks" / "store" / "durability").glob("*.py"))
    durability = "".join(path.read_text() for path in rooms)
    others = {"settings", *re.findall(r'Doubt\(\s*"([a-z-]+)"', durability)}
    page = (ROOT / "docs" / "runbook.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    documented = [code for row in rows for code in re.findall(r"`([a-z-]+)`", row[1])]
    assert sorted(documented) == sorted({*checked, *others, *ALARMS})
    for row in rows:
        assert len(row) == 6, row
        assert all(cell.strip() for cell in row[1:5]), row
