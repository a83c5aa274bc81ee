"""`webhooks dev`, `run` and `worker` as processes: one screen, one port, and no child left behind."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.support import Process, Processes, free_port, send
from tests.forkserver import ForkServer
from tests.support import ROOT, pairs, some, wait_until

pytestmark = pytest.mark.forks

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends while it is read
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> bytes:
    """Its words, each with a NUL behind it; none where it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def key_in(secret: Path) -> str:
    (key,) = re.findall("[0-9a-f]{64}", secret.read_text())
    return str(key)


def start_demo(processes: Processes, *options: str, **env: str) -> Process:
    return processes.start("webhooks", "dev", "--demo", *options, env={"PORT": str(free_port()), **env})


@dataclass(frozen=True)
class Told:
    """A demo that has told its story, and what starts commands beside it."""

    demo: Process
    processes: Processes

    def make_contact(self, body: bytes) -> int:
        """The status of the local Close's answer."""
        url = self.demo.wait_for(r"curl -u api_local\.admin: (\S+contact/)")[1]
        authorization = "Basic " + base64.b64encode(b"api_local.admin:").decode()
        return send(url, body, {"Authorization": authorization}).status


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Iterator[Told]:
    """One for the tests that leave its screen and its database to the next one."""
    processes = Processes(tmp_path_factory.mktemp("told"), tmp_path_factory.mktemp("logs"), fork_server, "all")
    try:
        demo = start_demo(processes)
        demo.wait_for("next, in another terminal", STORY_LIMIT)
        yield Told(demo, processes)
        assert demo.stop() == 0
        assert not list((processes.directory / ".webhooks").iterdir())
    finally:
        processes.end()


def test_the_demo_shows_an_event_handled_in_an_empty_directory(processes: Processes) -> None:
    demo = start_demo(processes, "--once")
    assert demo.wait() == 0, demo.output
    shown = demo.output
    for pattern in (
        r"serving +http://127\.0\.0\.1:\d+",
        r"received +activity\.whatsapp_message\.created",
        r"stored +as event \d+; answered 200 in ",
        r"handled +by demo\.hello \d+ ms after it was stored",
        r"webhooks events show \d+",
    ):
        assert re.search(pattern, shown), shown
    secret = processes.directory / "webhooks.demo-secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert key_in(secret) not in shown
    assert not (processes.directory / ".webhooks" / "dev.json").exists()


@pytest.mark.thorough
def test_the_demo_works_in_a_starter_project_and_again(processes: Processes) -> None:
    assert processes.run("webhooks", "init").wait() == 0
    for _ in range(2):
        demo = start_demo(processes, "--once")
        assert demo.wait() == 0, demo.output
        assert "handled    by hello.whatsapp" in demo.output
        assert "stored" in demo.output


@pytest.mark.thorough
def test_commands_beside_a_running_dev_find_it_and_know_its_handlers(processes: Processes) -> None:
    demo = start_demo(processes)
    demo.wait_for("next, in another terminal", STORY_LIMIT)
    trigger = processes.run("webhooks", "trigger", "lead.created")
    assert trigger.wait() == 0, trigger.output
    assert '"status":"stored"' in trigger.output.replace(" ", "")
    listed = processes.run("webhooks", "events", "list", "--limit", "1", "--json")
    assert listed.wait() == 0
    assert [event["type"] for event in json.loads(listed.output)["events"]] == ["lead.created"]
    dry = processes.run("webhooks", "replay", "--type", "activity.whatsapp_message.**", "--dry-run")
    assert dry.wait() == 0
    assert "would get none now" not in dry.output
    assert "4 events selected" in dry.output
    assert re.search(r"^demo\.hello +3 ", dry.output, re.MULTILINE), dry.output
    assert re.search(r"^demo\.follow +1 ", dry.output, re.MULTILINE), dry.output
    assert demo.stop() == 0
    after = processes.run("webhooks", "replay", "--type", "activity.whatsapp_message.**", "--dry-run")
    assert "4 events that no handler gets" in after.output


@pytest.mark.thorough
@pytest.mark.together
def test_trigger_finds_the_path_at_an_address_and_says_which_one_was_not_there(told: Told) -> None:
    url = told.demo.wait_for(r"serving +(http://127\.0\.0\.1:\d+)\n")[1]
    found = told.processes.run("webhooks", "trigger", "lead.created", "--to", url)
    assert found.wait() == 0, found.output
    missed = told.processes.run("webhooks", "trigger", "lead.created", "--to", f"{url}/webhook/close")
    assert missed.wait() == 1
    assert f"nothing takes posts at /webhook/close of {url}" in missed.output
    assert f"--to {url}/webhooks/close" in missed.output


def test_each_refusal_beside_a_running_dev_is_explained(processes: Processes) -> None:
    dev = processes.start("webhooks", "dev", "--no-worker", env={"PORT": str(free_port())})
    dev.wait_for("try: webhooks trigger")
    refused = processes.run("webhooks", "trigger", "lead.created", "--bad-signature", "--duplicate", "2", "--json")
    assert refused.wait() == 1
    requests = re.findall(r'"request_id": *"(\w+)"', refused.output)
    assert len(requests) == 3
    for request in requests:
        explained = processes.run("webhooks", "explain", request)
        assert explained.wait() == 0, explained.output
        assert "secrets made this signature" in explained.output
    assert dev.stop() == 0


# -- the story of the local Close ------------------------------------------------------------------------------

#: Twelve steps of half a second, on a machine that does something else as well.
STORY_LIMIT = timedelta(seconds=60)


def handled_by(processes: Processes, **env: str) -> dict[str, dict[str, int]]:
    """{event type: {state: deliveries in it}} of all that is stored."""
    listed = processes.run("webhooks", "events", "list", "--limit", "200", "--json", env=env)
    counts: dict[str, dict[str, int]] = {}
    for event in json.loads(listed.output)["events"]:
        states = counts.setdefault(event["type"], {})
        for state, number in event["deliveries"].items():
            states[state] = states.get(state, 0) + number
    return counts


@pytest.mark.thorough
def test_the_story_reaches_its_end_with_every_event_handled_and_can_be_told_again(processes: Processes) -> None:
    for _ in range(2):  # in the same database: no event of the second time is one of the first
        demo = start_demo(processes)
        demo.wait_for("next, in another terminal", STORY_LIMIT)
        for number in range(1, 13):
            assert re.search(rf"^ ?{number}/12 +[A-Z].+\.$", demo.output, re.MULTILINE), demo.output
        assert re.search(r"^the end +19 events, every one handled$", demo.output, re.MULTILINE), demo.output
        assert len(re.findall(r"^ +stored +\S+ +demo\.\w+ \S+ m?s$", demo.output, re.MULTILINE)) == 19, demo.output
        assert not re.search(r"[^\x20-\x7e\n…]", demo.output), "control characters"
        assert max(map(len, demo.output.splitlines())) <= 80 + len(str(processes.directory))
        assert key_in(processes.directory / "webhooks.demo-secret") not in demo.output
        assert demo.stop() == 0
    assert sum(states["succeeded"] for states in handled_by(processes).values()) == 40
    assert all(set(states) == {"succeeded"} for states in handled_by(processes).values())


@pytest.mark.thorough
def test_the_shipped_plugins_handle_the_story(processes: Processes) -> None:
    shutil.copytree(ROOT / "handlers", processes.directory / "handlers")
    demo = start_demo(processes)
    demo.wait_for("next, in another terminal", STORY_LIMIT)
    assert re.search(r"the end +19 events, every one handled\n", demo.output), demo.output
    assert re.search(r"activity\.opportunity_status_change\.created +demo\.won \S+ m?s$", demo.output, re.MULTILINE)
    for name in ("leads.mirror", "leads.mirror_members", "whatsapp.mirror", "outcomes.count", "emails.track"):
        assert re.search(rf"{name} \S+ m?s$", demo.output, re.MULTILINE), demo.output
    assert all(set(states) <= {"succeeded", "cancelled"} for states in handled_by(processes).values())


@pytest.mark.thorough
@pytest.mark.together
def test_what_is_changed_at_the_local_close_afterwards_is_shown(told: Told) -> None:
    assert told.make_contact(b'{"name": "Ada \\u001b[31m"}') == 200
    told.demo.wait_for(
        r"-d [^\n]+\n(?s:.*) +stored +lead\.created +demo\.follow [^\n]+\n +stored +contact\.created +demo\.follow"
    )
    assert "\x1b" not in told.demo.output
    assert "Ada \\" not in told.demo.output


@pytest.mark.thorough
@pytest.mark.together
def test_the_local_close_of_a_demo_can_be_asked_from_beside_it(told: Told) -> None:
    """Subscriptions, doctor and catch-up work at it with nothing configured."""

    def run(*command: str, code: int = 0) -> Process:
        process = told.processes.run("webhooks", *command)
        assert process.wait() == code, process.output
        return process

    (subscription,) = json.loads(run("subscriptions", "list", "--json").output)["subscriptions"]
    assert subscription["status"] == "active"
    assert subscription["is_key_held"]
    assert "not-checked" not in run("doctor", "--json").output
    assert "exactly what the handlers want" in run("subscriptions", "sync", "--keep").output
    run("subscriptions", "pause")
    assert told.make_contact(b'{"name": "Ada"}') == 200
    caught_up = run("catch-up", "close", "--since", "1h", "--json")
    assert json.loads(caught_up.output)["added"] == {"lead.created": 1, "contact.created": 1}
    assert f"webhooks subscriptions resume {subscription['id']}" in run("doctor", code=1).output
    run("subscriptions", "resume")
    before = len(told.demo.output)
    assert told.make_contact(b'{"name": "Grace"}') == 200
    told.demo.wait_for(rf"(?s)\A.{{{before}}}.* stored +lead\.created [^\n]+\n +stored +contact\.created [^\n]+\n")


@pytest.mark.thorough
def test_what_a_local_close_did_while_dev_was_down_is_fetched_from_its_log(processes: Processes) -> None:
    port = str(free_port())
    dev = processes.start("webhooks", "dev", env={"PORT": port})
    dev.wait_for("try: webhooks trigger")
    sandbox = processes.start("webhooks", "sandbox", "--port", "0", "--rule", "retry_base=3600")
    url = sandbox.wait_for(r"a local Close listens at (http://127\.0\.0\.1:\d+/api/v1/)")[1]
    authorization = {"Authorization": "Basic " + base64.b64encode(b"api_local.admin:").decode()}
    assert send(f"{url}lead/", b'{"name": "Ada"}', authorization).status == 200
    sandbox.wait_for(r"200 lead\.created")
    assert dev.stop() == 0
    assert send(f"{url}lead/", b'{"name": "Grace"}', authorization).status == 200
    sandbox.wait_for(r"--- lead\.created \S+ no answer")
    for repaired in (1, 0):
        caught_up = processes.run("webhooks", "catch-up", "close", "--since", "1h", "--json")
        assert json.loads(caught_up.output)["repaired"] == repaired, caught_up.output
    sandbox.signal(signal.SIGTERM)
    assert sandbox.wait() == 0
    assert "no API key" in processes.run("webhooks", "catch-up", "close", "--since", "1h").output


@pytest.mark.thorough
def test_the_story_is_not_told_to_handlers_of_a_source_that_is_somebodys(processes: Processes) -> None:
    env = {"WEBHOOKS_SOURCES__close__SECRET": KEY}
    demo = start_demo(processes, **env)
    demo.wait_for("webhooks sandbox ")
    assert "signed     with your source's first secret" in demo.output
    assert demo.stop() == 0
    assert "1/12" not in demo.output
    assert list(handled_by(processes, **env)) == ["activity.whatsapp_message.created"]


@pytest.mark.thorough
@pytest.mark.parametrize("number", some(signal.SIGINT, signal.SIGTERM), ids=lambda number: number.name)
def test_a_sandbox_beside_dev_posts_to_it_signed_with_its_secret(processes: Processes, number: signal.Signals) -> None:
    dev = processes.start("webhooks", "dev", env={"PORT": str(free_port())})
    dev.wait_for("serving at")
    sandbox = processes.start("webhooks", "sandbox", "--port", "0")
    url = sandbox.wait_for(r"a local Close listens at (http://127\.0\.0\.1:\d+)/")[1]
    assert send(f"{url}/sandbox/story", b"{}").status == 200
    sandbox.wait_for(r"200 activity\.email\.sent ev_\w+\n", timedelta(seconds=40))
    assert "not taken" not in sandbox.output
    assert key_in(processes.directory / "webhooks.demo-secret") not in sandbox.output
    sandbox.signal(number)
    assert sandbox.wait() == 0, sandbox.output
    assert "Traceback" not in sandbox.output
    assert dev.stop() == 0


@pytest.mark.parametrize(
    "number", [*some(signal.SIGTERM, signal.SIGINT), signal.SIGKILL], ids=lambda number: number.name
)
def test_dev_leaves_no_child_behind_however_it_ends(processes: Processes, number: signal.Signals) -> None:
    demo = start_demo(processes)
    close = demo.wait_for(r"a Close of your own at (http://127\.0\.0\.1:\d+)/")  # in the middle of its story
    url = re.search(r"http://127\.0\.0\.1:\d+", demo.output)
    assert url is not None
    family = children(demo.pid)
    assert len(family) >= 4  # gunicorn, the worker, and a guard for each
    demo.signal(number)
    code = demo.wait()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0), demo.output
    wait_until(lambda: not any(alive(pid) for pid in family), timedelta(seconds=20), "the children to end")
    for address in (url[0] + "/healthz", close[1] + "/sandbox/state"):
        with pytest.raises(OSError, match="refused"):
            send(address)


@pytest.mark.thorough
@pytest.mark.together
def test_a_worker_that_dies_is_started_again(told: Told) -> None:
    def workers() -> list[int]:
        return [pid for pid in children(told.demo.pid) if b"\0worker\0" in command_of(pid)]

    (first,) = workers()
    os.kill(first, signal.SIGKILL)
    told.demo.wait_for("the worker ended with -9; starting it again")
    wait_until(lambda: workers() not in ([], [first]), timedelta(seconds=20), "another worker")


def test_a_port_that_is_taken_is_named(processes: Processes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start_demo(processes, "--once", PORT=str(port))
        assert demo.wait() == 1
        assert f"port {port} is taken" in demo.output


def test_bad_settings_stop_the_start_with_every_mistake(processes: Processes) -> None:
    demo = start_demo(processes, "--once", WEBHOOKS_LEASE="soon", WEBHOOKS_SOURCES__close__SECRET="short")
    assert demo.wait() == 1
    assert "WEBHOOKS_LEASE" in demo.output
    assert "Traceback" not in demo.output


def test_a_handler_that_does_not_import_stops_the_start(processes: Processes) -> None:
    handlers = processes.directory / "handlers"
    handlers.mkdir()
    (handlers / "broken.py").write_text("import nothing_of_that_name\n")
    demo = start_demo(processes, "--once")
    assert demo.wait() == 1
    assert "broken.py" in demo.output
    assert "Traceback" not in demo.output


def test_a_database_that_is_away_stops_dev_with_what_to_do(processes: Processes) -> None:
    demo = start_demo(processes, "--once", DATABASE_URL=f"postgresql://nobody:hidden@127.0.0.1:{free_port()}/nothing")
    assert demo.wait() == 1
    (line,) = demo.output.splitlines()
    assert line.startswith(
        "webhooks: the database that DATABASE_URL, or database_url in webhooks.toml, names cannot be reached;"
    )
    assert "Connection refused" in line
    assert "hidden" not in line


@pytest.mark.thorough
def test_a_handler_that_never_ends_is_told_when_its_time_is_up(processes: Processes) -> None:
    assert processes.run("webhooks", "init").wait() == 0
    (processes.directory / "handlers" / "hello.py").write_text(
        "import time\nfrom datetime import timedelta\nfrom webhooks import RetryPolicy, on\n\n"
        "@on('activity.whatsapp_message.created', name='stuck', timeout=timedelta(milliseconds=300),\n"
        "    retry=RetryPolicy(max_attempts=2, base=timedelta(seconds=1), cap=timedelta(seconds=1)))\n"
        "def stuck(event): time.sleep(600)\n"
    )
    demo = start_demo(processes, "--once")
    assert demo.wait() == 1, demo.output
    again = r"^failed     for stuck, again in \S+ m?s: AttemptTimeout: it ran longer than its timeout of 0\.3 s"
    assert re.search(again, demo.output, re.MULTILINE), demo.output
    dead = r"^dead       for stuck: AttemptTimeout: it ran longer than its timeout of 0\.3 s \(attempt 2 of 2\)$"
    assert re.search(dead, demo.output, re.MULTILINE), demo.output


@pytest.mark.parametrize(
    ("number", "database_url"), some(*pairs(signal.SIGTERM, signal.SIGKILL)), indirect=["database_url"]
)
def test_run_with_a_worker_handles_and_ends_whole(
    processes: Processes, database_url: str, number: signal.Signals
) -> None:
    port = free_port()
    environment = {"DATABASE_URL": database_url, "WEBHOOKS_SOURCES__close__SECRET": KEY}
    run = processes.start("webhooks", "run", "--with-worker", "--", "--bind", f"127.0.0.1:{port}", env=environment)
    wait_until(lambda: _is_ready(port), timedelta(seconds=20), f"{run} to be ready: {run.output}")
    to = f"http://127.0.0.1:{port}/webhooks/close"
    trigger = processes.run("webhooks", "trigger", "lead.created", "--to", to, env=environment)
    assert trigger.wait() == 0, trigger.output
    family = children(run.pid)
    run.signal(number)
    assert run.wait() == (0 if number == signal.SIGTERM else -9), run.output
    wait_until(lambda: not any(alive(pid) for pid in family), timedelta(seconds=20), "the children to end")


def test_a_worker_waits_for_its_tables(processes: Processes, empty_database_url: str) -> None:
    environment = {"DATABASE_URL": empty_database_url, "WEBHOOKS_SOURCES__close__SECRET": KEY}
    worker = processes.start("webhooks", "worker", env=environment)
    worker.wait_for("the worker cannot start yet, trying again in .*: .* run: webhooks db upgrade")
    assert processes.run("webhooks", "db", "upgrade", env=environment).wait() == 0
    worker.wait_for("started with 0 handlers")
    assert worker.stop() == 0
    assert "Traceback" not in worker.output


def test_a_worker_waits_for_its_database(processes: Processes) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    worker = processes.start("webhooks", "worker", env={"DATABASE_URL": away, "WEBHOOKS_SOURCES__close__SECRET": KEY})
    worker.wait_for("the worker cannot start yet, trying again in 1 s: the database cannot be reached: .*refused")
    assert worker.stop() == 0
    assert "Traceback" not in worker.output


def test_a_worker_by_itself_applies_the_schema_to_the_default_database(processes: Processes) -> None:
    worker = processes.start("webhooks", "worker", env={"WEBHOOKS_SOURCES__close__SECRET": KEY})
    worker.wait_for("started with 0 handlers")
    assert worker.stop() == 0


def _is_ready(port: int) -> bool:
    try:
        return send(f"http://127.0.0.1:{port}/readyz").status == 200
    except OSError:
        return False


def test_a_replay_that_is_interrupted_is_resumed(processes: Processes, sqlite_url: str) -> None:
    """kill -9 in the middle of a replay, and again: every delivery is made once."""
    from datetime import UTC, datetime

    from webhooks.database.connect import connect
    from webhooks.model import new_id
    from webhooks.store import Store
    from webhooks.store.intake import Item

    (processes.directory / "handlers").mkdir()
    (processes.directory / "handlers" / "one.py").write_text(
        "from webhooks import on\n\n@on('lead.**', name='one')\ndef one(event): pass\n"
    )
    database = connect(sqlite_url)
    try:
        store = Store(database, {})
        now = datetime.now(UTC)
        for start in range(0, 6000, 1000):
            store.intake.record(
                [Item(new_id(), "close", f"ev_{start + n}", 1, "lead.updated", now, now, b"{}") for n in range(1000)]
            )
        environment = {"DATABASE_URL": sqlite_url, "WEBHOOKS_SOURCES__close__SECRET": KEY}
        replay = processes.start("webhooks", "replay", "--all", "--yes", env=environment)
        wait_until(lambda: any(one.deliveries for one in store.replays.all()), what="the first deliveries")
        replay.kill()
        (made,) = store.replays.all()
        if made.state.label == "open":  # else it was faster than we are
            assert 0 < made.deliveries < 6000
            assert processes.run("webhooks", "replay", "resume", str(made.id), env=environment).wait() == 0
        (done,) = store.replays.all()
        assert (done.state.label, done.deliveries) == ("done", 6000)
        assert sum(store.replays.progress(done.id).values()) == 6000
    finally:
        database.dispose()
