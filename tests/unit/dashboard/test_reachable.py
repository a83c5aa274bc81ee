"""Every verb of the command line is reachable from a page, or left out with the reason; and every verb on record is one of ours."""

from __future__ import annotations

from tests.unit.test_command_docs import commands
from webhooks.cli import group
from webhooks.dashboard.endpoints import every_endpoint
from webhooks.operations.actions import FACTS, Verb

#: {command: the endpoint that does it, or shows it}
REACHED = {
    "trigger": "send",
    "events list": "events",
    "events show": "event",
    "events tail": "overview",
    "events export": "events",
    "deliveries list": "deliveries",
    "deliveries show": "delivery",
    "deliveries cancel": "change",
    "handlers": "handlers",
    "handlers pause": "pause",
    "handlers resume": "resume",
    "sources": "sources",
    "explain": "event",
    "quarantine list": "quarantine",
    "quarantine show": "quarantined",
    "quarantine retry": "retry_quarantine",
    "quarantine drop": "drop_quarantine",
    "replay": "new_replay",
    "replay list": "replays",
    "replay show": "replay",
    "replay cancel": "cancel_replay",
    "requeue": "change",
    "catch-up": "catch_up",
    "subscriptions list": "subscriptions",
    "subscriptions sync": "sync_subscriptions",
    "subscriptions pause": "pause_subscription",
    "subscriptions resume": "resume_subscription",
    "doctor": "doctor",
    "alarms": "doctor",
    "alarms mute": "mute_alarm",
    "activity list": "activity",
    "activity show": "action",
    "activity undo": "undo_action",
    "stats": "overview",
}

#: {command: why no page has it}
LEFT_OUT = {
    "handlers test": "runs code of a project on the machine where it is written",
    "dev": "starts what the page runs in",
    "handlers rename": "the name is in the code, where formerly= does it; by hand it belongs to a deployment that was taken back",
    "run": "starts a process",
    "worker": "starts a process",
    "feed": "starts a process",
    "init": "writes into a directory",
    "dashboard": "starts the process that serves the pages",
    "dashboard hash": "a password is typed where it is to be kept, not into a page",
    "replay resume": "a worker continues what a page started; what a command started is that command's to continue",
    "prune": "nothing on a page deletes events",
    "subscriptions create": "writes a key into a file of the machine that verifies; the page says the command",
    "subscriptions rotate": "takes minutes and writes a key into a file; the page of the source says its steps, and how far they are",
    "sources listen": "brings a secret, which is written into a file of the machine that verifies",
    "sources confirm": "follows an address of the sender's on behalf of the operator; the page says the command",
    "sources rotate": "reads a key from a terminal, and writes it into a file; the page of the source says the steps",
    "sources test": "reads files of the machine where a source is configured",
    "alarms test": "sends to an address that only the machine's operator sets; the page says the command",
    "db upgrade": "changes tables: a step of a deployment",
    "db downgrade": "as db upgrade",
    "db stamp": "as db upgrade",
    "db current": "doctor says what is behind",
    "db history": "as db upgrade",
    "db check": "as db upgrade",
    "db revision": "writes a file into a project",
    "db partition": "as db upgrade",
    "db quiesce": "as db upgrade",
    "sandbox": "starts a process",
    "completion": "is for a shell",
}


def test_every_command_is_on_a_page_or_left_out_with_a_reason() -> None:
    known = set(commands(group))
    assert known == set(REACHED) | (set(LEFT_OUT) & known), "a new command belongs into one of the two tables"
    assert set(REACHED) & set(LEFT_OUT) == set()
    assert all(len(reason) > 10 for reason in LEFT_OUT.values())


def test_the_endpoint_of_each_is_there() -> None:
    names = {endpoint.name for endpoint in every_endpoint()}
    assert set(REACHED.values()) - names == set()


def test_what_is_taken_back_by_a_verb_has_that_verb() -> None:
    for verb, facts in FACTS.items():
        assert facts.done, verb
        assert (facts.undo is None) == (facts.undo_says == ""), verb
    taken_back = {verb for verb, facts in FACTS.items() if facts.undo is not None}
    assert {
        Verb.PAUSE, Verb.RESUME, Verb.MUTE, Verb.REQUEUE, Verb.CANCEL, Verb.REPLAY, Verb.QUARANTINE_DROP,
    } <= taken_back  # fmt: skip


def test_every_action_on_a_page_wants_a_role_that_acts() -> None:
    posts = [endpoint for endpoint in every_endpoint() if endpoint.method == "POST" and endpoint.name != "log_out"]
    assert [e.name for e in posts if e.needs is not None and e.needs.word != "operator"] == []
    assert [e.name for e in posts if e.needs is None] == ["log_in"]
