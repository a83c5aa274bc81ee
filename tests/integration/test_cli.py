"""Commands as an operator types them: data on stdout, prose on stderr, exit codes, one clear line for what is wrong."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tests.forkserver import ForkServer
from tests.support import Clock, each, wait_until
from webhooks.app import Webhooks
from webhooks.cli import COMMANDS, group
from webhooks.database import tables as schema
from webhooks.delivery import handler_rows
from webhooks.errors import PayloadTooLarge, StorageUnavailable
from webhooks.model import AttemptOutcome, DeliveryClass, DeliveryState, Event, Headers, InboundRequest
from webhooks.operations import DetachedReplays
from webhooks.operations.events import as_curl, export, follow
from webhooks.operations.trigger import PostAnswer
from webhooks.routing import SUCCEEDED, Registry, Verdict
from webhooks.selection import Selection
from webhooks.settings import Secret
from webhooks.sources import make_source
from webhooks.store.deliveries import Finished
from webhooks.version import VERSION

pytestmark = pytest.mark.one_database

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


class Cli:
    """Runs commands in this process, on one instance."""

    def __init__(self, instance: Webhooks) -> None:
        self.instance = instance
        # what Flask's own command line hands over
        self._info = SimpleNamespace(load_app=lambda: SimpleNamespace(extensions={"webhooks": instance}))

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(group, list(arguments), obj=self._info, catch_exceptions=False)

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def refused(self, *arguments: str, code: int) -> str:
        """The line that a wrong command is answered with; nothing is on stdout."""
        result = self(*arguments)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        return result.stderr

    def receive(self, body: bytes) -> int:
        source = self.instance.sources["close"]
        headers = Headers(dict(source.sign(body, self.instance.clock())))
        accepted = self.instance.ingest.accept(self.instance.sources["close"], InboundRequest(headers, body, id="r1"))
        assert accepted.receipts[0].event_id is not None
        return accepted.receipts[0].event_id

    def run(self, handler: str, verdict: Verdict = SUCCEEDED, *, holds_lane: bool = False) -> int:
        store = self.instance.store
        quotas = {(handler, kind): 100 for kind in DeliveryClass}
        claimed = store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
        store.deliveries.finish([Finished(one.delivery, verdict, holds_lane=holds_lane) for one in claimed])
        return len(claimed)


DEAD = Verdict(DeliveryState.DEAD, AttemptOutcome.FAILED, reason="ValueError: \x1b[31mno", error="Traceback …\nno")


def mirror(event: Event) -> None:
    """A handler."""


@pytest.fixture
def cli(database_url: str, clock: Clock) -> Iterator[Cli]:
    registry = Registry()
    registry.add(mirror, "activity.whatsapp_message.**", name="mirror")
    instance = Webhooks(
        registry=registry,
        overrides={"database_url": database_url, "sources": {"close": {"secret": KEY}}},
        environ={},
        clock=clock,
    ).assemble(role="cli")
    yield Cli(instance)
    instance.close()


@pytest.fixture
def filled(cli: Cli, payload: Any) -> Cli:
    """With a message, its edit, the edit's revision, and a lead that nobody asked for."""
    for name in (
        "whatsapp_message_created_incoming",
        "whatsapp_message_updated",
        "whatsapp_message_updated_revision",
        "lead_merged",
    ):
        cli.receive(payload(name))
    return cli


# -- help ------------------------------------------------------------------------------------------------------


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command; a group that only holds others is left out."""
    if not isinstance(command, click.Group) or command.invoke_without_command or path in ((), ("replay",)):
        yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


@pytest.mark.parametrize("path", list(commands(group)), ids=lambda path: " ".join(path) or "webhooks")
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(group, [*path, "--help"])
    assert result.exit_code == 0
    named = COMMANDS.get(path[0], ("", ""))[1] if len(path) == 1 else "."
    assert named.endswith(".")
    assert re.search(r"Example:\s", result.output), result.output


def test_the_version_is_told_however_it_is_installed() -> None:
    assert CliRunner().invoke(group, ["--version"]).output == f"webhooks, version {VERSION}\n"


def test_the_list_of_commands_costs_no_imports() -> None:
    code = (
        "import sys, webhooks.cli; from click.testing import CliRunner; "
        "CliRunner().invoke(webhooks.cli.group, ['--help']); "
        "print([name for name in ('sqlalchemy', 'flask', 'alembic', 'rich', 'msgspec') if name in sys.modules])"
    )
    from sys import executable

    assert subprocess.run([executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_looking_at_events_does_not_import_what_it_does_not_need(cli: Cli, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom webhooks.cli import main\n"
        "try: main(['events', 'list'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print([n for n in ('flask', 'alembic', 'rich', 'structlog', 'gunicorn', 'handlers.broken') if n in sys.modules])"
    )
    from sys import executable

    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "broken.py").write_text("1 / 0")
    environment = {
        **os.environ,
        "DATABASE_URL": cli.instance.settings.database_url,
        "WEBHOOKS_SOURCES__close__SECRET": KEY,
    }
    done = subprocess.run([executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "[]\n", done.stderr


def test_an_unknown_command_is_answered_with_the_nearest(cli: Cli) -> None:
    assert cli.refused("evnts", code=2) == "webhooks: no command 'evnts' (did you mean 'events'?)\n"
    assert "did you mean 'list'?" in cli.refused("events", "lst", code=2)
    assert "did you mean 'show'?" in cli.refused("replay", "shwo", code=2)


# -- looking ---------------------------------------------------------------------------------------------------


def test_events_are_listed_in_plain_columns_in_a_pipe(filled: Cli) -> None:
    result = filled("events", "list")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "RECEIVED", "SOURCE", "TYPE", "KEY", "RECEIPT", "DELIVERIES"]
    assert len(lines) == 5
    assert "lead.merged" in lines[1]
    assert lines[1].endswith("unrouted")
    assert "revision" in lines[2]
    assert lines[2].endswith("1 pending")
    assert "\x1b" not in result.stdout


def test_events_in_json_have_ids_as_text(filled: Cli) -> None:
    events = filled.json("events", "list", "--type", "activity.**")["events"]
    assert [event["receipt"] for event in events] == ["revision", "stored", "stored"]
    assert all(isinstance(event["id"], str) for event in events)
    assert events[0]["previous_id"] == events[1]["id"]
    assert set(events[0]) == {
        "id", "source", "type", "key", "revision", "receipt", "previous_id", "object_id", "lead_id", "occurred_at",
        "received_at", "origin", "key_label", "request_id", "body_bytes", "deliveries",
    }  # fmt: skip


def test_a_selection_with_where_reads_the_content(filled: Cli) -> None:
    events = filled.json("events", "list", "--where", 'data.direction == "incoming" and changed_fields == []')["events"]
    assert [event["type"] for event in events] == ["activity.whatsapp_message.created"]


def test_an_event_is_shown_by_id_and_by_its_senders_key(filled: Cli) -> None:
    (first,) = filled.json("events", "list", "--type", "**.created")["events"]
    shown = filled("events", "show", first["id"]).stdout
    assert "Timeline" in shown
    assert '"direction": "incoming"' in shown
    assert filled("events", "show", first["key"]).stdout == shown


def test_a_key_shows_the_newest_revision_with_what_it_changed(filled: Cli) -> None:
    newest, before = filled.json("events", "list", "--type", "**.updated")["events"]
    assert newest["key"] == before["key"]
    shown = filled("events", "show", newest["key"]).stdout
    assert f"other copies  {before['id']}" in shown
    assert f"Changed since revision {before['id']}" in shown
    assert '+    "date_updated"' in filled("events", "show", newest["id"], "--diff").stdout


def test_a_payload_comes_out_as_it_came_in(filled: Cli, payload: Any) -> None:
    (event,) = filled.json("events", "list", "--type", "**.created")["events"]
    assert filled("events", "show", event["id"], "--payload").stdout_bytes == payload(
        "whatsapp_message_created_incoming"
    )


def test_an_event_in_json_has_payload_attempts_and_deliveries(filled: Cli) -> None:
    filled.run("mirror", DEAD)
    (event,) = filled.json("events", "list", "--type", "**.created")["events"]
    shown = filled.json("events", "show", event["id"])
    assert shown["payload"]["event"]["id"] == event["key"]
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed"]
    assert [delivery["state"] for delivery in shown["delivery_list"]] == ["dead"]


def test_the_curl_command_posts_the_same_bytes_rightly_signed(filled: Cli) -> None:
    (event,) = filled.json("events", "list", "--type", "**.created")["events"]
    command = filled("events", "show", event["id"], "--curl").stdout
    assert "close-sig-hash" in command
    assert command.startswith("printf ")  # it is not plain ASCII


@pytest.mark.parametrize(
    "body", [b'{"a": "it\'s"}', "é 🏠 %d \\n".encode(), bytes(range(256)), b"", b"a\r\n\tb'\"$`\\"], ids=range(5)
)
def test_bytes_survive_the_shell(body: bytes, tmp_path: Path) -> None:
    fake = tmp_path / "curl"
    fake.write_text(
        '#!/bin/sh\nfor last; do :; done\nif [ "$last" = @-\n]; then cat; else printf %s "$last"; fi\n'.replace(
            "@-\n]", "@- ]"
        )
    )
    fake.chmod(0o755)
    command = as_curl(body, "http://127.0.0.1/x", {"a": "b c"})
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment, check=True)
    assert done.stdout == body


def test_stored_text_cannot_steer_a_terminal(filled: Cli) -> None:
    filled.run("mirror", DEAD)
    for command in (("deliveries", "list"), ("deliveries", "list", "--group")):
        assert "\\x1b[" in filled(*command).stdout
        assert "\x1b" not in filled(*command).stdout


HOSTILE = "\x1b]0;owned\x07\u202e"


@pytest.fixture
def hostile(cli: Cli, payload: Any) -> dict[str, object]:
    """Ids of an event, its delivery and what was kept aside, of which every text is hostile; a replay's reason is too."""
    body = json.loads(payload("whatsapp_message_created_incoming"))
    body["event"] |= {"id": f"ev_{HOSTILE}", "object_id": HOSTILE, "request_id": HOSTILE, "action": f"created{HOSTILE}"}
    event = cli.receive(json.dumps(body).encode())
    cli.run("mirror", dataclasses.replace(DEAD, reason=f"ValueError: {HOSTILE}", error=f"Traceback\n{HOSTILE}"))
    store, now = cli.instance.store, cli.instance.clock()
    kept = store.quarantine.put("close", HOSTILE.encode(), reason=HOSTILE, kind="k", received_at=now, headers="{}")
    cli("replay", "--all", "--why", HOSTILE)
    delivery = cli.json("deliveries", "list", "--state", "dead")["deliveries"][0]["id"]
    return {"event": event, "delivery": delivery, "kept": kept}


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
@each(
    "command",
    [
        "events list", "events tail --no-follow", "events show {event}", "explain {event}", "deliveries list",
        "deliveries show {delivery}", "deliveries list --group", "quarantine list", "quarantine show {kept}",
        "handlers", "sources", "stats", "replay list", "replay --all --dry-run",
    ],
)  # fmt: skip
def test_no_text_that_a_sender_or_a_handler_wrote_reaches_the_terminal_as_it_is(
    cli: Cli, hostile: dict[str, object], monkeypatch: pytest.MonkeyPatch, command: str, is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setattr("webhooks.cli.output.is_terminal", lambda: True)
        monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    result = cli(*command.format(**hostile).split())
    assert result.exit_code == 0
    for character in ("\x1b]", "\x07", "\u202e"):
        assert character not in result.output


def test_failures_are_grouped(filled: Cli) -> None:
    filled.run("mirror", DEAD)
    (failure,) = filled.json("deliveries", "list", "--group")["failures"]
    assert (failure["handler"], failure["count"]) == ("mirror", 3)


def test_a_delivery_is_shown_with_its_attempts(filled: Cli) -> None:
    filled.run("mirror", DEAD)
    (delivery, *_) = filled.json("deliveries", "list")["deliveries"]
    assert "Attempt 1: failed" in filled("deliveries", "show", delivery["id"]).stdout
    assert f"{delivery['event_id']} is an event" in filled.refused("deliveries", "show", delivery["event_id"], code=1)


def test_handlers_sources_and_figures_are_shown(filled: Cli) -> None:
    (handler,) = filled.json("handlers")["handlers"]
    assert (handler["name"], handler["patterns"]) == ("mirror", ["activity.whatsapp_message.**"])
    ran = [handler[name] for name in ("workers", "succeeded_at", "failed_at", "error")]
    assert ran == [0, None, None, None]
    assert filled.json("handlers")["replies"] == []
    (source,) = filled.json("sources")["sources"]
    assert (source["name"], source["path"]) == ("close", "/webhooks/close")
    assert KEY not in filled("sources").output
    assert filled.json("stats", "--window", "999w")["sources"][0]["events"] == 4
    for command in ("handlers", "sources", "stats"):
        assert filled(command).exit_code == 0


def test_replies_are_listed_below_the_handlers(filled: Cli) -> None:
    def check(event: Any) -> None: ...

    replies = filled.instance.registry.replies
    replies._frozen = False  # a test is a start of its own
    replies.add(check, "view_submission", "command.*", source="slack", name="check")
    answers = {"name": "check", "patterns": ["view_submission", "command.*"], "source": "slack"}
    assert filled.json("handlers")["replies"] == [{**answers, "content_type": "text/plain; charset=utf-8"}]
    shown = filled("handlers").stdout
    assert re.search(r"REPLY +PATTERNS +SOURCE\ncheck +view_submission, command\.\* +slack\n", shown)


def test_handlers_are_shown_with_their_latest_runs_and_live_workers(filled: Cli) -> None:
    filled.run("mirror", DEAD)
    store = filled.instance.store
    store.handlers.register(handler_rows(filled.instance.registry))
    for id in ("one", "other"):
        store.processes.beat(id, "worker", "1", ["mirror"])
    store.processes.beat("third", "web", "1", ["mirror"])
    (handler,) = filled.json("handlers")["handlers"]
    assert (handler["workers"], handler["succeeded_at"]) == (2, None)
    assert handler["error"] == "ValueError: \x1b[31mno"
    assert handler["failed_at"] is not None
    shown = filled("handlers").stdout
    assert "ValueError: \\x1b[31mno" in shown
    for id in ("one", "other"):
        store.processes.forget(id)
    assert "none live" in filled("handlers").stdout


def test_a_handler_is_paused_and_resumed(filled: Cli) -> None:
    assert filled("handlers", "pause", "mirror").exit_code == 0
    assert filled.json("handlers")["handlers"][0]["state"] == "paused"
    assert "paused already" in filled("handlers", "pause", "mirror").stderr
    assert filled("handlers", "resume", "mirror").exit_code == 0
    assert filled.json("handlers")["handlers"][0]["state"] == "running"
    assert "not paused" in filled("handlers", "resume", "mirror").stderr
    assert "did you mean 'mirror'?" in filled.refused("handlers", "pause", "mirorr", code=1)
    told = [filled.json("handlers", command, "mirror") for command in ("pause", "pause", "resume", "resume")]
    assert [(one["handler"], one["is_paused"], one["changed"]) for one in told] == [
        ("mirror", True, True),
        ("mirror", True, False),
        ("mirror", False, True),
        ("mirror", False, False),
    ]


# -- quarantine ------------------------------------------------------------------------------------------------


@pytest.fixture
def held(cli: Cli) -> list[str]:
    """Ids of two requests that cannot be read."""
    put, now = cli.instance.store.quarantine.put, cli.instance.clock()
    return [
        str(put("close", body, reason="r", kind="unparseable", received_at=now, headers='{"a": "b"}'))
        for body in (b"one", b"two")
    ]


def test_quarantined_requests_are_given_up_and_shown(cli: Cli, held: list[str]) -> None:
    first, second = held
    assert {row["id"] for row in cli.json("quarantine", "list")["quarantine"]} == set(held)
    assert cli("quarantine", "drop", first).stderr == f"{first} is dropped\n"
    assert cli("quarantine", "drop", first).stderr == f"{first} is dropped already\n"
    assert cli.json("quarantine", "drop", first, second)["results"] == [
        {"id": first, "state": "dropped", "changed": False},
        {"id": second, "state": "dropped", "changed": True},
    ]
    assert cli.json("quarantine", "list") == {"quarantine": []}
    assert cli.json("quarantine", "show", second)["body_base64"] == "dHdv"


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_one_unknown_id_leaves_all_that_is_quarantined_as_it_is(cli: Cli, held: list[str], command: str) -> None:
    before = cli.json("quarantine", "list")
    assert "nothing is quarantined under 5" in cli.refused("quarantine", command, *held, "5", code=1)
    assert cli.json("quarantine", "list") == before


# -- following and exporting -----------------------------------------------------------------------------------


def test_tail_shows_the_latest_and_then_what_comes_each_once(cli: Cli, payload: Any) -> None:
    first = cli.receive(payload("lead_merged"))
    later: list[bytes] = [payload("lead_deleted"), payload("contact_updated_by_merge")]
    turns: Iterator[Callable[[], int | None]] = iter(
        [lambda: cli.receive(later[0]), lambda: None, lambda: cli.receive(later[1]), lambda: None]
    )
    arrived: list[int] = []

    def pause() -> bool:
        turn = next(turns, None)
        if turn is None:
            return False
        if (id := turn()) is not None:
            arrived.append(id)
        return True

    shown = [s.id for step in follow(cli.instance.store, Selection(), backlog=10, pause=pause) for s in step]
    assert shown == [first, *arrived]


def test_tail_without_follow_ends(filled: Cli) -> None:
    result = filled("events", "tail", "--no-follow", "-n", "2", "--json")
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == [
        "activity.whatsapp_message.updated",
        "lead.merged",
    ]


def test_an_export_goes_on_where_it_stopped(filled: Cli) -> None:
    first = filled("events", "export", "--limit", "3")
    place = first.stderr.strip().rpartition(" ")[2]
    second = filled("events", "export", "--after", place)
    lines = [json.loads(line) for line in (first.stdout + second.stdout).splitlines()]
    assert len(lines) == len({line["id"] for line in lines}) == 4
    assert lines[0]["payload"]["event"]["action"] == "created"
    assert "is not a place" in filled.refused("events", "export", "--after", "yesterday", code=2)


def test_an_export_holds_no_transaction_open_between_lines(filled: Cli) -> None:
    lines = export(filled.instance.store, Selection(), None)
    next(lines)
    with filled.instance.database.write() as connection:
        connection.exec_driver_sql("update webhooks_events set request_id = 'x'")
    assert len(list(lines)) == 3


# -- replay, requeue, cancel -----------------------------------------------------------------------------------


def test_a_dry_run_counts_and_changes_nothing(filled: Cli) -> None:
    result = filled("replay", "--type", "activity.whatsapp_message.**", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["mirror", "3", "0", "0"]
    assert "3 events selected" in result.stderr
    assert filled.json("replay", "list") == {"replays": []}


def test_a_replay_prints_its_id_and_is_shown(filled: Cli) -> None:
    filled.run("mirror")
    id = filled("replay", "--type", "**.created", "--why", "a test").stdout.strip()
    assert filled.run("mirror") == 1
    shown = filled.json("replay", "show", id)
    assert (shown["state"], shown["deliveries"], shown["why"]) == ("done", 1, "a test")
    assert shown["states"] == {"succeeded": 1}
    assert id in filled("replay", "list").stdout
    assert "a test" in filled("replay", "show", id).stdout


@pytest.mark.parametrize(
    ("verdict", "code", "stand"), [(SUCCEEDED, 0, {"succeeded": 3}), (DEAD, 1, {"dead": 3})], ids=["well", "badly"]
)
def test_a_replay_can_be_waited_for(
    filled: Cli, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, code: int, stand: dict[str, int]
) -> None:
    filled.run("mirror")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            filled.run("mirror", verdict)

    monkeypatch.setattr("webhooks.cli.replay.sleep", sleep)
    result = filled("replay", "--all", "--wait")
    assert (result.exit_code, slept) == (code, [0.5, 0.5])
    assert result.stderr.splitlines()[-1] == ", ".join(f"{number} {state}" for state, number in stand.items())
    assert filled.json("replay", "show", result.stdout.strip())["states"] == stand
    slept.clear()
    assert json.loads(filled("replay", "--all", "--wait", "--json").stdout)["replay"]["states"] == stand


def test_a_detached_replay_is_put_on_record_and_made_by_a_worker(filled: Cli) -> None:
    filled.run("mirror")
    result = filled("replay", "--all", "--detach")
    id = result.stdout.strip()
    assert "a worker makes its deliveries, and runs them after fresh ones" in result.stderr
    shown = filled.json("replay", "show", id)
    assert (shown["state"], shown["deliveries"], shown["options"]["detached"]) == ("open", 0, True)
    assert f"a worker makes them; to do it here: webhooks replay resume {id}" in filled("replay", "show", id).stderr
    assert f"replay {id} of the same events" in filled("replay", "--all").stderr, "asked for twice"
    make_detached(filled)
    shown = filled.json("replay", "show", id)
    assert (shown["state"], shown["deliveries"], shown["states"]) == ("done", 3, {"pending": 3})


def make_detached(cli: Cli) -> None:
    """Do what a worker does with replays that are on record."""
    duty = DetachedReplays(cli.instance.make_replayer, cli.instance.store)
    duty.tick("w")
    wait_until(lambda: not duty.is_running, timedelta(seconds=30), "the replays are made")


def test_a_detached_replay_can_be_waited_for(filled: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.run("mirror")

    def sleep(seconds: float) -> None:
        make_detached(filled)
        filled.run("mirror")

    monkeypatch.setattr("webhooks.cli.replay.sleep", sleep)
    made = json.loads(filled("replay", "--all", "--detach", "--wait", "--json").stdout)["replay"]
    assert (made["state"], made["deliveries"], made["states"]) == ("done", 3, {"succeeded": 3})


def test_who_waits_for_a_replay_hears_that_it_was_cancelled(filled: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        (replay,) = filled.json("replay", "list")["replays"]
        filled("replay", "cancel", replay["id"])

    monkeypatch.setattr("webhooks.cli.replay.sleep", sleep)
    result = filled("replay", "--all", "--wait")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "3 cancelled")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (StorageUnavailable, 1)])
def test_who_no_longer_waits_for_a_replay_leaves_it_as_it_is(
    filled: Cli, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int
) -> None:
    def sleep(seconds: float) -> None:
        raise error("it is away")

    with monkeypatch.context() as patch:
        patch.setattr("webhooks.cli.replay.sleep", sleep)
        result = filled("replay", "--all", "--wait")
    assert result.exit_code == code
    id = result.stdout.splitlines()[0]
    assert f"no longer waiting; replay {id} continues all the same" in result.stderr
    shown = filled.json("replay", "show", id)
    assert (shown["state"], shown["states"]) == ("done", {"pending": 3})


def test_a_replay_without_a_running_worker_says_so(filled: Cli) -> None:
    said = "no worker runs; start one: webhooks worker"
    assert said in filled("replay", "--all").stderr
    processes = filled.instance.store.processes
    processes.beat("w", "worker", "1", ["mirror"])
    assert said not in filled("replay", "--type", "**.created").stderr
    with filled.instance.database.write() as connection:
        long_ago = processes.database.now(connection) - timedelta(minutes=3)
        connection.execute(schema.processes.update().values(heartbeat_at=long_ago))
    assert said in filled("replay", "--type", "**.updated").stderr


def test_a_replay_over_pruned_events_says_how_many_are_gone(filled: Cli) -> None:
    with filled.instance.database.write() as connection:
        connection.exec_driver_sql("delete from webhooks_events where type = 'lead.merged'")
    said = "at least 1 event of that time was pruned, and cannot be replayed"
    assert said in filled("replay", "--all", "--dry-run").stderr
    assert filled.json("replay", "--all", "--dry-run")["plan"]["pruned"] == 1
    started = filled("replay", "--all")
    assert said in started.stderr
    id = started.stdout.strip()
    assert said in filled("replay", "show", id).stderr
    assert filled.json("replay", "show", id)["pruned"] == 1
    with filled.instance.database.write() as connection:
        connection.exec_driver_sql("delete from webhooks_events")
    assert "at least 3 events of that time were pruned" in filled("replay", "--all", "--dry-run").stderr
    assert filled.json("replay", "show", id)["pruned"] == 1


def test_nothing_is_replayed_without_a_selection(filled: Cli) -> None:
    assert "type --all" in filled.refused("replay", code=2)
    assert "leave it out" in filled.refused("replay", "--all", "--since", "1h", code=2)
    assert filled.json("replay", "--all")["replay"]["deliveries"] == 3


def test_an_empty_option_is_not_everything(filled: Cli) -> None:
    assert "type: nothing given" in filled.refused("replay", "--type", "", code=2)


def test_more_than_a_thousand_need_yes(filled: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.cli.changing.UNASKED", 2)
    assert "add --yes" in filled.refused("replay", "--all", code=2)
    assert filled.json("replay", "list") == {"replays": []}
    assert filled("replay", "--all", "--yes").exit_code == 0
    filled.run("mirror", DEAD)
    assert "add --yes" in filled.refused("requeue", "--all", code=2)
    assert filled("requeue", "--all", "--yes").exit_code == 0
    assert "add --yes" in filled.refused("deliveries", "cancel", "--all", code=2)


def test_a_cancelled_replay_is_cancelled_once(filled: Cli) -> None:
    id = filled("replay", "--all").stdout.strip()
    assert filled.json("replay", "cancel", id)["deliveries"] == 3
    assert "was cancelled already" in filled.refused("replay", "cancel", id, code=1)
    assert "nothing to resume" in filled.refused("replay", "resume", id, code=1)
    assert "no replay 5" in filled.refused("replay", "show", "5", code=1)


def test_dead_deliveries_are_requeued_by_selection_and_by_id(filled: Cli) -> None:
    filled.run("mirror", DEAD)
    assert filled("requeue", "--handler", "mirror", "--dry-run").stderr == "3 deliveries would be requeued\n"
    (delivery, *_) = filled.json("deliveries", "list", "--state", "dead")["deliveries"]
    assert filled.json("requeue", delivery["id"]) == {"deliveries": 1, "done": True}
    assert f"delivery {delivery['id']} is pending" in filled.refused("requeue", delivery["id"], code=1)
    assert filled.json("requeue", "--error", "*ValueError*")["deliveries"] == 2
    assert filled.run("mirror") == 3
    assert "cannot be requeued" in filled.refused("requeue", "--state", "succeeded", code=2)
    assert "no delivery 5" in filled.refused("requeue", "5", code=1)


def test_a_look_that_is_over_says_how_far_it_came_and_how_to_go_on(
    filled: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.store.listings.limits.WINDOW", 1)
    result = filled("events", "list", "--error", "nowhere", "--patience", "0s")
    assert result.exit_code == 0
    assert "the time was over before all was looked at: 1 event, to 20" in result.stderr
    further = re.findall(r"look further: (--after \S+), or for longer: --patience 1m", result.stderr)
    assert "1 event" in filled("events", "list", "--error", "nowhere", "--patience", "0s", *further[0].split()).stderr
    document = filled.json("events", "list", "--error", "nowhere", "--patience", "0s")
    assert (document["events"], document["looked_at"], document["is_complete"]) == ([], 1, False)
    assert document["after"] == further[0].split()[1]
    assert filled.json("events", "list", "--error", "nowhere")["is_complete"]

    result = filled("deliveries", "list", "--error", "nowhere", "--patience", "0s")
    assert "1 delivery, to 20" in result.stderr
    (before,) = re.findall(r"look further: --before (\d+),", result.stderr)
    assert filled.json("deliveries", "list", "--before", before)["deliveries"][0]["id"] < before
    assert not filled.json("deliveries", "list", "--error", "nowhere", "--patience", "0s")["is_complete"]
    assert "continues a list" in filled.refused("deliveries", "list", "--before", before, "--group", code=2)


def test_waiting_retries_are_made_due_now_by_selection_and_by_id(filled: Cli) -> None:
    later = Verdict(DeliveryState.PENDING, AttemptOutcome.FAILED, wait=timedelta(hours=6), reason="ValueError: no")
    assert filled.run("mirror", later) == 3
    assert filled.run("mirror") == 0, "not due"
    assert filled("requeue", "--state", "pending", "--dry-run").stderr == "3 deliveries would be made due now\n"
    (delivery, *_) = filled.json("deliveries", "list", "--handler", "mirror")["deliveries"]
    assert filled.json("requeue", delivery["id"]) == {"deliveries": 1, "done": True}
    assert "is pending and due already" in filled.refused("requeue", delivery["id"], code=1)
    result = filled("requeue", "--state", "pending", "--handler", "mirror", "--rate", "60/h")
    assert result.stderr == "2 deliveries requeued\nthe last is due in 1 min\n"
    assert filled.json("requeue", "--state", "pending")["deliveries"] == 1, "the last, in haste after all"
    assert filled.run("mirror") == 3
    assert "--state pending makes those that wait" in filled.refused("requeue", "--state", "running", code=2)
    assert "is not a rate" in filled.refused("requeue", "--all", "--rate", "fast", code=2)
    assert f"webhooks replay {delivery['event_id']}" in filled.refused("requeue", delivery["id"], code=1)


def test_blocked_lanes_are_listed_with_what_frees_them(cli: Cli, payload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("deliveries", "list", "--blocked").stderr == "no lane is blocked\n"
    registry = Registry()
    registry.add(mirror, "activity.whatsapp_message.**", name="mirror", ordered_by=lambda event: "lane 7")
    monkeypatch.setattr(cli.instance, "registry", registry)
    monkeypatch.setattr(cli.instance.ingest, "registry", registry)
    for name in ("whatsapp_message_created_incoming", "whatsapp_message_updated"):
        cli.receive(payload(name))
    cli.run("mirror", DEAD, holds_lane=True)
    (lane,) = cli.json("deliveries", "list", "--blocked")["lanes"]
    id = lane["holder"]["id"]
    assert (lane["handler"], lane["lane"], lane["waiting"]) == ("mirror", "lane 7", 1)
    assert (lane["holder"]["state"], lane["holder"]["lane"]) == ("dead", "lane 7")
    assert lane["commands"] == [f"webhooks requeue {id}", f"webhooks deliveries cancel {id}"]
    shown = cli("deliveries", "list", "--blocked")
    assert shown.stdout.splitlines()[0].split() == ["HANDLER", "LANE", "WAITING", "DEAD", "SINCE", "REASON"]
    assert re.search(rf"mirror +lane 7 +1 +{id} ", shown.stdout)
    for command in lane["commands"]:
        assert command in shown.stderr
    assert "leave out" in cli.refused("deliveries", "list", "--blocked", "--group", code=2)
    assert "leave out" in cli.refused("deliveries", "list", "--blocked", "--state", "pending", code=2)
    assert cli.json("deliveries", "list", "--blocked", "--handler", "mirror", "--error", "KeyError*") == {"lanes": []}
    assert cli(*lane["commands"][1].split()[1:]).exit_code == 0
    assert cli.json("deliveries", "list", "--blocked") == {"lanes": []}
    assert cli.run("mirror") == 1


def test_pending_deliveries_are_cancelled_by_selection_and_by_id(filled: Cli) -> None:
    (delivery, *_) = filled.json("deliveries", "list")["deliveries"]
    assert filled("deliveries", "cancel", delivery["id"], "--reason", "no use").exit_code == 0
    shown = filled.json("deliveries", "show", delivery["id"])
    assert shown["state"] == "cancelled"
    assert shown["reason"].endswith(": no use")
    assert "is cancelled; only pending ones" in filled.refused("deliveries", "cancel", delivery["id"], code=1)
    said = "succeeded deliveries cannot be cancelled, only pending and dead ones"
    assert said in filled.refused("deliveries", "cancel", "--state", "pending,succeeded", code=2)
    assert filled.json("deliveries", "cancel", "--handler", "mirror")["deliveries"] == 2
    assert filled.run("mirror") == 0
    assert "type --all" in filled.refused("deliveries", "cancel", code=2)


# -- what is wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("events show 5", 1, "no event 5"),
        ("events show ev_nothing", 1, "no event 'ev_nothing'"),
        ("events list --since 6x", 2, "  6x\n   ^"),
        ("events list --where 'data.x = 1'", 2, "       ^"),
        ("events list --source clsoe", 2, "did you mean 'close'?"),
        ("events list --handler mirorr", 2, "did you mean 'mirror'?"),
        ("events list --state ded", 2, "did you mean 'dead'?"),
        ("events list --type lead..x", 2, "empty segment"),
        ("replay --rate fast --all", 2, "is not a rate"),
        ("replay 5", 1, "no event 5"),
        ("replay show x", 2, "'x' is no replay's id: ids are decimal numbers"),
        ("replay --all --limit 0", 2, " replay [EVENT]... [OPTIONS]\n"),
        ("replay --handler mirorr --all", 2, "did you mean 'mirror'?"),
        ("trigger activity.whatsap_message.created", 1, "did you mean 'activity.whatsapp_message.created'?"),
        ("trigger lead.created --source clsoe", 1, "did you mean 'close'?"),
        ("trigger lead.created --to nowhere", 2, "is no address"),
        ("trigger lead.created --set nothing", 2, "is not path=value"),
        ("trigger lead.created --set data.nme.x=1 --to http://127.0.0.1:1/", 2, "there is no 'nme' here"),
        ("trigger lead.created --to http://127.0.0.1:1/webhooks/close", 1, "start a server first: webhooks dev"),
    ],
)
def test_what_is_wrong_gets_one_clear_line(filled: Cli, arguments: str, code: int, says: str) -> None:
    assert says in filled.refused(*shlex.split(arguments), code=code)
    assert filled.json("replay", "list") == {"replays": []}


@pytest.mark.parametrize(
    ("since", "is_told"), [("yesterday 9:00", True), ("today", True), ("6h", False), ("2020-01-01", False)]
)
def test_a_time_of_the_terminal_s_day_is_repeated_in_utc(filled: Cli, since: str, is_told: bool) -> None:
    result = filled("events", "list", "--since", since, "--json")
    assert result.exit_code == 0
    assert bool(re.search(r"^since: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", result.stderr, re.MULTILINE)) is is_told
    assert "events" in json.loads(result.stdout)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("lead.mergd", "no type that is known matches 'lead.mergd'; did you mean 'lead.merged'?\n"),
        ("activity.whatsap.*", "did you mean 'activity.whatsapp_message.*'?"),
        ("q.w.e.r", "no type that is known matches 'q.w.e.r'\n"),
        ("custom.made", ""),
        ("lead.merged", ""),
        ("activity.**", ""),
    ],
)
def test_a_type_that_nobody_knows_is_no_mistake_and_not_passed_over(filled: Cli, pattern: str, says: str) -> None:
    with filled.instance.database.write() as connection:
        connection.exec_driver_sql("update webhooks_events set type = 'custom.made' where type = 'lead.merged'")
    result = filled("replay", "--type", pattern, "--dry-run")
    assert result.exit_code == 0
    assert says in result.stderr
    assert ("no type" in result.stderr) is bool(says)


def test_a_database_that_is_away_gets_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        group,
        ["events", "list"],
        env={
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
        },
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("webhooks: the database cannot be reached: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_schema_that_is_missing_names_the_command(empty_database_url: str) -> None:
    environment = {"DATABASE_URL": empty_database_url, "WEBHOOKS_SOURCES__close__SECRET": KEY}
    result = CliRunner().invoke(group, ["events", "list"], env=environment)
    assert result.exit_code == 1
    assert "webhooks db upgrade" in result.stderr


@pytest.fixture
def looked_at(tmp_path: Path, fork_server: ForkServer) -> Callable[..., Result]:
    """Run a command that shows handlers or sources on a database, in a directory with a handler; what it does."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "mine.py").write_text(
        "from webhooks import on\n\n@on('lead.*', name='mine')\ndef mine(event): pass\n"
    )

    def run(url: str, *arguments: str) -> Result:
        environment = {**os.environ, "DATABASE_URL": url, "WEBHOOKS_SOURCES__close__SECRET": KEY}
        done = fork_server.run([sys.executable, "-m", "webhooks", *arguments], cwd=tmp_path, env=environment)
        return Result(CliRunner(), done.stdout, done.stderr, b"", None, done.returncode, None)

    return run


def test_handlers_and_sources_are_shown_without_tables(
    empty_database_url: str, looked_at: Callable[..., Result]
) -> None:
    handlers = looked_at(empty_database_url, "handlers", "--json")
    assert handlers.exit_code == 0, handlers.stderr
    (mine,) = json.loads(handlers.stdout)["handlers"]
    assert (mine["name"], mine["patterns"], mine["state"], mine["seen_at"]) == ("mine", ["lead.*"], "unknown", None)
    sources = looked_at(empty_database_url, "sources")
    assert sources.exit_code == 0, sources.stderr
    assert re.search(r"close +close +/webhooks/close +1 +30 d +whole body +unknown", sources.stdout), sources.stdout
    for result in (handlers, sources):
        (line,) = result.stderr.splitlines()
        assert line.startswith("shown without what the database knows: ")
        assert line.endswith("run: webhooks db upgrade")


def test_handlers_and_sources_are_shown_without_a_database(tmp_path: Path, looked_at: Callable[..., Result]) -> None:
    for url, why in (
        ("postgresql://nobody@127.0.0.1:1/nothing", "the database cannot be reached: "),
        ("sqlite:///absent.db", "there is no file 'absent.db'; run: webhooks db upgrade"),
    ):
        for command in ("handlers", "sources"):
            result = looked_at(url, command)
            assert result.exit_code == 0, result.stderr
            assert ("mine" if command == "handlers" else "/webhooks/close") in result.stdout
            (line,) = result.stderr.splitlines()
            assert line.startswith(f"shown without what the database knows: {why}")
    assert not (tmp_path / "absent.db").exists()


def test_no_source_names_the_line_to_add() -> None:
    result = CliRunner().invoke(group, ["events", "list"])
    assert result.exit_code == 1
    assert "WEBHOOKS_SOURCES__close__SECRET" in result.stderr


# -- trigger ---------------------------------------------------------------------------------------------------


class Collector(http.server.BaseHTTPRequestHandler):
    """Answers 200, or 401 when the instance refuses the signature, and keeps what was posted."""

    posts: list[tuple[dict[str, str], bytes]]
    instance: Webhooks

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).posts.append((dict(self.headers.items()), body))
        request = InboundRequest(Headers(dict(self.headers.items())), body)
        try:
            self.instance.sources["close"].verify(request, self.instance.clock())
            status = 200
        except Exception:
            status = 401
        self.send_response(status)
        self.send_header("content-length", "17")
        self.end_headers()
        self.wfile.write(b'{"status":"\x1bsto"}')

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def posts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[dict[str, str], bytes]]]:
    """What was posted to the server that `trigger` finds by PORT."""
    Collector.posts, Collector.instance = [], cli.instance
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("webhooks.cli.demo.running_url", lambda directory: url)
    yield Collector.posts
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_sample_is_posted_as_a_new_event_rightly_signed(cli: Cli, posts: Sequence[tuple[Any, bytes]]) -> None:
    result = cli("trigger", "activity.whatsapp_message.created")
    assert result.exit_code == 0
    assert result.stdout.startswith("200 ")
    assert "\x1b" not in result.stdout
    cli("trigger", "activity.whatsapp_message.created")
    ids = {json.loads(body)["event"]["id"] for _, body in posts}
    assert len(ids) == 2


def test_duplicates_are_the_same_bytes(cli: Cli, posts: Sequence[tuple[Any, bytes]]) -> None:
    assert cli("trigger", "lead.created", "--duplicate", "2").exit_code == 0
    assert len(posts) == 3
    assert len({body for _, body in posts}) == 1


def test_values_are_set(cli: Cli, posts: Sequence[tuple[Any, bytes]]) -> None:
    arguments = ("--set", "data.direction=outgoing", "--set", "event.data.attachments=[]", "--set", "data.users=x=y")
    assert cli("trigger", "activity.whatsapp_message.created", *arguments).exit_code == 0
    data = json.loads(posts[0][1])["event"]["data"]
    assert (data["direction"], data["attachments"], data["users"]) == ("outgoing", [], "x=y")


def test_wrong_and_old_signatures_are_refused(cli: Cli, posts: Sequence[tuple[Any, bytes]]) -> None:
    assert cli("trigger", "lead.created", "--bad-signature").exit_code == 1
    assert cli("trigger", "lead.created", "--age", "40d").exit_code == 1
    assert cli("trigger", "lead.created", "--age", "1h").exit_code == 0
    assert cli.refused("trigger", "lead.created", "--age", "soon", code=2)


def test_a_quarantined_request_is_explained_by_each_id_that_its_sender_was_given(cli: Cli) -> None:
    ingest = cli.instance.ingest
    ticks = iter(range(100))
    cli.instance.background.write_soon = lambda write: write()
    cli.instance.rejections.monotonic = lambda: float(next(ticks))
    body = b"no json \x1b[2J"
    headers = Headers(dict(cli.instance.sources["close"].sign(body, cli.instance.clock())))
    ids = [f"{number:016x}" for number in (1, 2)]
    source = cli.instance.sources["close"]
    kept = {ingest.accept(source, InboundRequest(headers, body, id=id)).quarantine_id for id in ids}
    assert len(kept) == 1
    (quarantine_id,) = kept
    for id in (ids[0], str(quarantine_id)):
        found = cli.json("explain", id)
        assert (found["kind"], found["quarantine_id"], found["copies"]) == ("quarantined", str(quarantine_id), 2)
        assert f"webhooks quarantine show {quarantine_id}" in cli("explain", id).stdout
    resent = cli.json("explain", ids[1])
    assert (resent["kind"], resent["status"]) == ("quarantined", 200)
    assert f"webhooks quarantine show {quarantine_id}" in resent["reason"]


def test_a_refused_request_is_explained_with_its_kind_and_an_unknown_one_by_what_is_kept(cli: Cli) -> None:
    instance = cli.instance
    instance.background.write_soon = lambda write: write()
    error = PayloadTooLarge("20000 bytes declared; at most 10000 are taken")
    instance.refusals.record(
        error,
        source="close",
        request_id="00000000000000aa",
        request=InboundRequest(Headers(), b"", id="00000000000000aa"),
    )
    found = cli.json("explain", "00000000000000aa")
    assert (found["kind"], found["status"], found["source"]) == ("too_large", 413, "close")
    unknown = cli.refused("explain", "00000000000000ab", code=1)
    assert "explain the event_id" in unknown
    assert "a line for each" not in unknown


def test_a_server_with_another_secret_is_explained_once_beside_its_answer(
    cli: Cli, posts: Sequence[tuple[Any, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = cli.instance.sources.values()
    other = make_source(dataclasses.replace(source.settings, secrets=(Secret(KEY[::-1], "other"),)))
    monkeypatch.setattr(Collector, "instance", SimpleNamespace(sources={"close": other}, clock=cli.instance.clock))
    result = cli("trigger", "lead.created", "--duplicate", "2", "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == [401] * 3
    assert len(posts) == 3
    assert result.stderr.count("has another secret for source 'close' than this command") == 1
    assert "webhooks explain" in result.stderr


def test_a_server_that_cannot_store_is_explained_once(
    cli: Cli, posts: Sequence[tuple[Any, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.operations.trigger.post", lambda url, body, headers: PostAnswer(503, None, "no"))
    result = cli("trigger", "lead.created", "--duplicate", "2")
    assert result.exit_code == 1
    assert result.stdout == "503 no\n" * 3
    assert result.stderr.count("the server cannot store it now") == 1
    assert "webhooks doctor" in result.stderr


def test_a_file_is_posted_byte_for_byte(cli: Cli, posts: Sequence[tuple[Any, bytes]], tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(b'{ "a" : 1 }\n')
    cli("trigger", "body.json")
    assert posts[0][1] == b'{ "a" : 1 }\n'


def test_samples_are_listed(cli: Cli) -> None:
    assert "activity.whatsapp_message.created" in cli("trigger").stdout


# -- init, completion, db --------------------------------------------------------------------------------------


def test_a_starter_project_is_written_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["init", "project"])
    assert result.exit_code == 0
    assert set(result.stdout.split()) == {
        ".gitignore", "Makefile", "gunicorn.conf.py", "handlers/hello.py", "pytest.ini", "tests/test_handlers.py",
        "webhooks.toml", "wsgi.py",
    }  # fmt: skip
    again = CliRunner().invoke(group, ["init", "project"])
    assert again.exit_code == 1
    assert "is not empty: .gitignore, Makefile, gunicorn.conf.py, handlers, pytest.ini and 3 more" in again.stderr


def test_what_our_commands_left_before_is_no_hindrance_to_a_starter_project(tmp_path: Path) -> None:
    assert CliRunner().invoke(group, ["db", "upgrade"]).exit_code == 0
    for name in ("webhooks.db-wal", "webhooks.db-shm", "webhooks.demo-secret", ".webhooks.demo-secret.lock"):
        (tmp_path / name).touch()
    (tmp_path / ".webhooks").mkdir()
    before = (tmp_path / "webhooks.db").read_bytes()
    result = CliRunner().invoke(group, ["init"])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "webhooks.db").read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "webhooks.dbx").touch()
    assert "is not empty: webhooks.dbx" in CliRunner().invoke(group, ["init", "other"]).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_completion(shell: str) -> None:
    assert "_WEBHOOKS_COMPLETE" in CliRunner().invoke(group, ["completion", shell]).stdout


def test_the_schema_is_applied_and_checked_without_a_source(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(group, ["db", "current"]).exit_code == 1
    assert "core nothing -> " in runner.invoke(group, ["db", "upgrade"]).stderr
    assert runner.invoke(group, ["db", "upgrade"]).stderr == "nothing to do\n"
    assert runner.invoke(group, ["db", "current"]).exit_code == 0
    assert runner.invoke(group, ["db", "check"]).exit_code == 0
    assert "0001" in runner.invoke(group, ["db", "history"]).stdout
    refused = runner.invoke(group, ["db", "downgrade", "base"])
    assert refused.exit_code == 2
    assert "add --yes" in refused.stderr
    assert runner.invoke(group, ["db", "downgrade", "base", "--yes"]).exit_code == 0
    (change,) = json.loads(runner.invoke(group, ["db", "upgrade", "--json"]).stdout)["changes"]
    assert (change["history"], change["before"]) == ("core", None)
    assert runner.invoke(group, ["db", "upgrade", "--json"]).stdout == '{"changes": []}\n'
    down = json.loads(runner.invoke(group, ["db", "downgrade", "0001", "--yes", "--json"]).stdout)["changes"]
    assert down == [{"history": "core", "before": change["after"], "after": "0001"}]
    stamped = json.loads(runner.invoke(group, ["db", "stamp", change["after"], "--json"]).stdout)["changes"]
    assert stamped == [{"history": "core", "before": "0001", "after": change["after"]}]


def test_an_ordering_key_that_failed_is_computed_again(cli: Cli, payload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    works = [False]

    def ordering(event: Event) -> str:
        if not works[0]:
            raise ValueError("not yet")
        return "lane_1"

    registry = Registry()
    registry.add(mirror, "lead.**", name="ordered", ordered_by=ordering)
    monkeypatch.setattr(cli.instance, "registry", registry)
    monkeypatch.setattr(cli.instance.ingest, "registry", registry)
    cli.receive(payload("lead_merged"))
    result = cli("requeue", "--handler", "ordered")
    assert "stays dead: ordered_by failed again: ValueError: not yet" in result.stderr
    assert "0 deliveries requeued" in result.stderr
    works[0] = True
    assert cli.json("requeue", "--handler", "ordered")["deliveries"] == 1
    (delivery,) = cli.json("deliveries", "list")["deliveries"]
    assert (delivery["state"], delivery["lane"]) == ("pending", "lane_1")


@pytest.mark.parametrize("key", ["x" * 300, "a\0b", "a\ud800"], ids=["long", "NUL", "surrogate"])
def test_an_ordering_key_that_cannot_be_stored_is_refused_by_requeue_as_by_ingest_and_replay(
    cli: Cli, payload: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    registry = Registry()
    registry.add(mirror, "lead.**", name="ordered", ordered_by=lambda event: key)
    monkeypatch.setattr(cli.instance, "registry", registry)
    monkeypatch.setattr(cli.instance.ingest, "registry", registry)
    cli.receive(payload("lead_merged"))
    result = cli("requeue", "--handler", "ordered")
    assert "stays dead: ordered_by failed again: ValueError: an ordering key" in result.stderr
    cli("replay", "--handler", "ordered", "--all", "--yes")
    made = cli.json("deliveries", "list")["deliveries"]
    assert {each["state"] for each in made} == {"dead"}
    assert all("ordered_by failed: ValueError: an ordering key" in each["reason"] for each in made)


def test_what_was_typed_is_quoted_without_what_acts_on_a_terminal(cli: Cli) -> None:
    for arguments in (
        ["events", "--\x1b[31m"],
        ["events", "list", "--limit", "\x9b2J\u202e"],
        ["ev\x07ents"],
        ["replay", "\x1b]0;x"],
    ):
        output = cli(*arguments).output
        assert output
        assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(output)


# -- alarms ----------------------------------------------------------------------------------------------------


@pytest.fixture
def told(database_url: str, clock: Clock, tmp_path: Path) -> Iterator[Cli]:
    """With a target that is a program, and an alarm that it was told of."""
    from webhooks.store import AlarmRow, TargetState, Told

    program = [sys.executable, "-c", f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read())"]
    targets = {
        "ops": {"kind": "command", "command": program},
        "away": {"kind": "slack", "url_file": str(tmp_path / "none.txt")},
    }
    instance = Webhooks(
        registry=Registry(),
        overrides={"database_url": database_url, "sources": {"close": {"secret": KEY}}, "alarms": targets},
        environ={},
        clock=clock,
    ).assemble(role="cli")
    at, store = instance.database.now(), instance.store.alarms
    store.put([AlarmRow("dead", "mirror", at, 2, "2 died", 2, 77, told={"ops": Told(at, 2, at)})])
    store.put([AlarmRow("dead", "old", at, 2, "1 died", 1, ended_at=at, told={"away": Told(at, 2, at)})])
    store.put_target(TargetState("away", at, 3, at, "it answered 500"))
    yield Cli(instance)
    instance.close()


def test_alarms_shows_what_stands_and_how_targets_take_it(told: Cli) -> None:
    shown = told("alarms")
    assert "2 died" in shown.stdout
    assert "1 died" not in shown.stdout
    assert "it answered 500" in shown.stdout
    assert "no process has looked at alarms yet" in shown.stderr
    found = told.json("alarms")
    (alarm,) = found["alarms"]
    assert (alarm["name"], alarm["severity"], list(alarm["told"])) == ("dead", "warning", ["ops"])
    assert alarm["command"] == "webhooks deliveries list --state dead --handler mirror"
    assert [(each["name"], each["error"]) for each in found["targets"]] == [("ops", None), ("away", "it answered 500")]


def test_an_alarm_is_muted_and_told_again(told: Cli) -> None:
    until = told.json("alarms", "mute", "dead", "mirror", "--for", "30m")["muted_until"]
    assert told.json("alarms")["alarms"][0]["muted_until"] == until
    assert "dead is muted for 2 h" in told("alarms", "mute", "dead").stderr
    assert {each["subject"] for each in told.json("alarms")["alarms"]} == {"*", "mirror"}
    assert "dead is told again" in told("alarms", "mute", "dead", "--off").stderr
    assert "did you mean 'dead'?" in told.refused("alarms", "mute", "deed", code=2)


def test_a_target_is_tried(told: Cli, tmp_path: Path) -> None:
    assert told.json("alarms", "test", "ops") == {"target": "ops", "is_told": True}
    assert json.loads((tmp_path / "got").read_text())["type"] == "alarm.test"
    assert "target away was not told: its file 'none.txt' cannot be read" in told.refused(
        "alarms", "test", "away", code=1
    )
    assert "configured: ops, away" in told.refused("alarms", "test", "pager", code=2)


def test_without_a_target_alarms_says_how_to_have_one(cli: Cli) -> None:
    shown = cli("alarms")
    assert "no alarm stands" in shown.output
    assert "docs/alarms.md" in shown.stderr


# -- the health of a worker --------------------------------------------------------------------------------------


def test_a_machines_worker_is_well_while_it_reports(filled: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "m1")
    processes = filled.instance.store.processes
    for id, kind in (("m2:1:a", "worker"), ("m1:1:a", "web"), ("m11:1:a", "worker")):
        processes.beat(id, kind, "1", [])
    assert filled("worker", "--health").exit_code == 1
    processes.beat("m1:7:a", "worker", "1", [])
    result = filled("worker", "--health")
    assert (result.exit_code, result.output.startswith("m1:7:a reported at ")) == (0, True)


def test_a_worker_is_not_to_blame_for_its_database(filled: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise StorageUnavailable("nothing listens")

    monkeypatch.setattr(type(filled.instance.store.processes), "running", fail)
    result = filled("worker", "--health")
    assert (result.exit_code, "nothing listens" in result.output) == (0, True)
