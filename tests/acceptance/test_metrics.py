"""Metrics as deployed: several processes, some of them killed, one text that never tells less than before."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.fleet import fleet
from tests.acceptance.reading import Newcomer, part, typed
from tests.acceptance.support import Processes, free_port, send
from tests.acceptance.test_server import KEY, Server, body, stored
from tests.support import PROFILE, ROOT, wait_until

TOKEN = "0123456789abcdef"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
DIRECTORY = re.compile(r"(/\S*/webhooks-metrics-[^/\s]+)/")


def samples(text: str) -> dict[str, float]:
    """{series as it is written: value}."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def scrape(url: str, path: str = "/metrics") -> dict[str, float]:
    answer = send(url + path, headers=AUTHORIZED)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/plain")
    assert "set-cookie" not in answer.headers
    return samples(answer.body.decode())


def total(found: dict[str, float], name: str, **labels: str) -> float:
    """The sum of the series of that name that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for series, value in found.items()
        if series.partition("{")[0] == name and all(each in series for each in wanted)
    )


def workers_of(master: int) -> list[int]:
    """Ids of the processes that a master started and that have not ended."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "--ppid", str(master)], capture_output=True, text=True, check=False
    )
    return [
        int(pid) for pid, state in (line.split() for line in listed.stdout.splitlines()) if not state.startswith("Z")
    ]


def directory_of(pid: int) -> Path | None:
    """Where a process keeps its numbers, by the files that it has mapped."""
    with contextlib.suppress(OSError):
        match = DIRECTORY.search(Path(f"/proc/{pid}/maps").read_text())
        return Path(match[1]) if match else None
    return None


@pytest.fixture(
    params=[
        ("gthread", "sqlite_url"),
        *(
            [("gevent", "postgresql_url"), ("gevent", "sqlite_url"), ("sync", "postgresql_url")]
            if PROFILE == "full"
            else []
        ),
    ],
    ids="-".join,
)
def served(request: pytest.FixtureRequest) -> tuple[Server, str]:
    worker_class, database = request.param
    url: str = request.getfixturevalue(database)
    processes: Processes = request.getfixturevalue("processes")  # they end before their database is looked at
    return Server(processes, url, worker_class, WEBHOOKS_METRICS="1", WEBHOOKS_METRICS_TOKEN=TOKEN).ready(), url


@pytest.mark.thorough
def test_totals_never_fall_and_tell_what_was_stored_although_workers_are_killed(served: tuple[Server, str]) -> None:
    server, url = served
    master = server.process.pid
    wait_until(lambda: all(map(directory_of, workers_of(master))), timedelta(seconds=30), "both workers to be loaded")
    directory = directory_of(workers_of(master)[0])
    assert directory is not None
    assert directory_of(master) is None, "the master keeps no numbers, and never imports prometheus-client"
    answered: list[str] = []
    seen: list[tuple[float, float, float]] = []  # (when a scrape began, when it ended, events stored)
    over = threading.Event()

    def post(number: int) -> None:
        turn = 0
        while not over.is_set():
            key, turn = f"{number}-{turn}", turn + 1
            with contextlib.suppress(Exception):  # its worker was killed
                if server.post(body(key)).status == 200:
                    answered.append(key)

    def look() -> None:
        while not over.is_set():
            began = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException):  # its worker was killed
                found = scrape(server.url)
                # before the first event there is no such series
                events = found.get('webhooks_events_total{receipt="stored",source="close"}', 0.0)
                seen.append((began, time.monotonic(), events))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for kills in range(3):
            wait_until(lambda kills=kills: len(answered) > 40 * (kills + 1), timedelta(seconds=40), "answers")  # type: ignore[misc]
            # not any child of the master: what folds the numbers of the ended is one too, for a moment
            booted = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.process.output)]
            assert len(booted) == 2 + kills
            os.kill(booted[-1], signal.SIGKILL)
            wait_until(
                lambda kills=kills: len(re.findall("Booting worker", server.process.output)) == 3 + kills,  # type: ignore[misc]
                what="another worker",
            )
    finally:
        over.set()
        for thread in threads:
            thread.join()

    def left() -> set[int]:
        """Ids of processes that have files and are gone."""
        found = {int(re.sub(r"\D", "", path.name)) for path in directory.glob("*.db")}
        return found - {0, *workers_of(master)}

    wait_until(lambda: not left(), what="the files of the killed to be folded")
    found = scrape(server.url)
    rows = len(stored(url))
    counted = total(found, "webhooks_events_total", source="close", receipt="stored")
    # a kill between the commit and the answer leaves an event that is stored, and perhaps counted, and not answered
    assert len(answered) <= counted <= rows <= len(answered) + 3 * 4
    assert total(found, "webhooks_requests_total", source="close", status="200") >= len(answered)
    assert total(found, "webhooks_commit_events_sum") >= len(answered)
    assert total(found, "webhooks_waiting_requests") == 0
    assert len(seen) > 10
    for _, ended, value in seen:
        assert value <= min((later for began, _, later in seen if began >= ended), default=counted)
    assert server.process.stop() == 0
    assert not directory.exists()


def test_refusals_are_counted_strangers_make_no_series_and_are_told_nothing(served: tuple[Server, str]) -> None:
    server, _ = served
    before = scrape(server.url)
    for number in range(30):
        send(f"{server.url}/webhooks/x{number}", b"{}")
        send(f"{server.url}/{number}/nowhere", b"{}")
    send(f"{server.url}/webhooks/close", b"{}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(b"POST /webhooks/close HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in wire.recv(4096)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(b"nonsense\r\n\r\n")
        assert b" 400 " in wire.recv(4096)
    found = scrape(server.url)
    requests = {series: value for series, value in found.items() if series.startswith("webhooks_requests_total")}
    assert requests == {
        'webhooks_requests_total{source="",status="404"}': 60,
        'webhooks_requests_total{source="",status="400"}': 1,
        'webhooks_requests_total{source="close",status="401"}': 1,
        'webhooks_requests_total{source="close",status="413"}': 1,
    }
    assert len(found) - len(before) < 60, "a few series for what was first seen, none for each path"
    require_token(server)


def require_token(server: Server) -> None:
    """The installation is told, and strangers are not."""
    assert server.post(body("one")).status == 200
    for path in ("/metrics", "/metrics/database"):
        assert send(server.url + path).status == 401
        assert send(server.url + path, headers={"Authorization": "Bearer wrong"}).status == 401
        assert send(server.url + path, b"", headers=AUTHORIZED).status == 405
    found = scrape(server.url, "/metrics/database")
    assert found["webhooks_database_up"] == 1
    assert 'webhooks_quarantine_held{source="close"}' in found


@pytest.mark.thorough
def test_metrics_without_a_token_stop_the_start_and_say_why(processes: Processes, sqlite_url: str) -> None:
    env = {"DATABASE_URL": sqlite_url, "WEBHOOKS_SOURCES__close__SECRET": KEY, "WEBHOOKS_METRICS": "true"}
    run = processes.run("webhooks", "run", "--", "--bind", f"127.0.0.1:{free_port()}", env=env)
    assert run.wait() != 0
    assert "set WEBHOOKS_METRICS_TOKEN" in run.output


@pytest.mark.thorough
def test_the_page_leads_from_nothing_to_a_first_scrape(processes: Processes) -> None:
    """Its commands as they are typed, on ports that are free here."""
    newcomer = Newcomer(processes)
    newcomer.type("webhooks init shop && cd shop")
    ports = {"8000": str(newcomer.port), "9108": str(free_port())}
    said: list[str] = []
    for command in typed(part("docs/observability.md", "From nothing to a first scrape", "Prometheus")):
        for there, here in ports.items():
            command = re.sub(rf"\b{there}\b", here, command)
        if match := re.fullmatch(r"export (\w+)=(.*)", command):
            newcomer.env[match[1]] = newcomer.type(f"echo {match[2]}").strip()
        else:
            said.append(newcomer.type(command))
    assert 'webhooks_requests_total{source="close",status="200"} 1.0' in said[-4]
    assert "webhooks_database_up 1.0" in said[-3]
    assert "webhooks_slots 8.0" in said[-2]
    assert said[-1] == '{"status":"ok"}'


HANDLERS = """
    @on("lead.updated", name="plain")
    def plain(event, delivery):
        pass

    @on("lead.updated", name="apart", isolation="process")
    def apart(event, delivery, session):
        effect(session, event, delivery)

    @on("lead.updated", name="dying", isolation="process", retry=SOON)
    def dying(event, delivery):
        if delivery.number == 1 and json.loads(event.raw)["n"] < 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.thorough
def test_a_worker_tells_what_it_and_its_children_did_on_a_port_of_its_own(
    processes: Processes, sqlite_url: str, tmp_path: Path
) -> None:
    notes = tmp_path / "run"
    notes.mkdir()
    with fleet(processes, sqlite_url, HANDLERS, WEBHOOKS_METRICS_PORT="0", RUNTIME_DIRECTORY=str(notes)) as workers:
        (worker,) = workers.start()
        (note,) = notes.iterdir()
        ((target,),) = [each["targets"] for each in json.loads(note.read_text())]
        url = f"http://{target}"
        directory = directory_of(worker.pid)
        workers.put([{"key": "k", "n": n} for n in range(20)], "plain", "apart", "dying")
        workers.wait_until_finished(60)

        def attempts(handler: str, outcome: str) -> float:
            return total(scrape(url), "webhooks_attempts_total", handler=handler, outcome=outcome)

        wait_until(lambda: attempts("plain", "succeeded") == 20, what="what ran here to be told")
        wait_until(lambda: attempts("apart", "succeeded") == 20, what="what was committed by children to be told")
        wait_until(lambda: attempts("dying", "succeeded") == 20, what="what ran after a death to be told")
        found = scrape(url)
        assert attempts("dying", "failed") == 2
        assert found["webhooks_slots"] == 8
        assert found["webhooks_claimed_total"] >= 60
        assert total(found, "webhooks_wait_seconds_count", handler="apart") == 20
        assert found['webhooks_info{kind="worker",version="0.1.0"}'] == 1
        assert send(url + "/healthz").status == 200
        assert send(url + "/nowhere").status == 404
        figures = scrape(url, "/metrics/database")
        assert figures['webhooks_handler_workers{handler="plain"}'] == 1
        assert figures['webhooks_deliveries_dead{handler="plain"}'] == 0
        # one that finds its port taken works all the same
        (second,) = workers.start(1, WEBHOOKS_METRICS_PORT=target.rpartition(":")[2])
        assert "cannot be had (settings metrics_host and metrics_port)" in second.output
        assert directory is not None
        worker.signal(signal.SIGTERM)
        worker.wait()
        assert not directory.exists()
        assert not note.exists()


def test_where_metrics_are_off_nothing_of_them_is_imported(sqlite_url: str, tmp_path: Path) -> None:
    """A process takes an event in, runs it, and knows nothing of any library for being observed."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "h.py").write_text("from webhooks import on\n@on('**')\ndef h(event): print('ran')\n")
    code = f"""
import sys, threading, time
from datetime import datetime, UTC
from webhooks.app import create_app
from webhooks.sources import Secret, SourceSettings, make_source
app = create_app()
source = make_source(SourceSettings(name="close", scheme="close", secrets=[Secret({KEY!r})]))
content = {body("one")!r}
answer = app.test_client().post("/webhooks/close", data=content, headers=dict(source.sign(content, datetime.now(UTC))))
assert answer.status_code == 200, answer.data
ours = app.extensions["webhooks"]
ours.become("worker")
worker = ours.make_worker()
threading.Thread(target=lambda: (time.sleep(2), worker.stop())).start()
worker.run()
ours.close()
print("LOADED", *sys.modules)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WEBHOOKS_SOURCES__close__SECRET": KEY, "DATABASE_URL": sqlite_url}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ran" in done.stdout
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert not {name.partition(".")[0] for name in loaded} & {"prometheus_client", "opentelemetry", "sentry_sdk"}
    assert not [name for name in loaded if name.startswith("webhooks.http.metrics")]
