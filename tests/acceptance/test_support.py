"""The helpers for processes: what they start can be waited for, and does not outlive the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.support import SCRIPTS, Processes, free_port, send
from tests.support import ROOT, wait_until

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201); self.end_headers(); self.wfile.write(body[::-1])
    def log_message(self, *arguments): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


def test_a_server_is_started_and_answers(processes: Processes) -> None:
    port = free_port()
    processes.start(sys.executable, "-c", SERVER, str(port)).wait_for("listening")
    answer = send(f"http://127.0.0.1:{port}/", b"abc")
    assert (answer.status, answer.body) == (201, b"cba")


def test_ports_are_none_that_a_connection_gets_and_none_of_another_process() -> None:
    ports = {free_port() for _ in range(30)}
    assert len(ports) == 30, "each is handed out once before it comes again"
    others = subprocess.run(
        [sys.executable, "-c", "from tests.acceptance.support import free_port\nfor _ in range(30): print(free_port())"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not ports & set(map(int, others))
    connected = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first, last = map(int, connected.read_text().split()) if connected.exists() else (49_152, 65_535)
    assert not ports & set(range(first, last + 1))


def test_what_a_process_wrote_is_shown_when_the_wait_is_in_vain(processes: Processes) -> None:
    process = processes.start("sh", "-c", "echo something else; exit 3")
    with pytest.raises(AssertionError, match=r"ended with 3:\nsomething else"):
        process.wait_for("never written")


def test_children_that_outlive_their_parent_are_ended_too(processes: Processes) -> None:
    parent = processes.start("sh", "-c", "sleep 60 & echo child $!; wait")
    child = int(parent.wait_for(r"child (\d+)")[1])
    parent.kill()
    assert parent.members() == [child]
    parent.end()
    assert parent.members() == []


def test_a_stopped_process_reports_its_exit_status(processes: Processes) -> None:
    process = processes.start("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    process.wait_for("ready")
    assert process.stop() == 7


def test_settings_of_the_developer_do_not_reach_a_process(processes: Processes) -> None:
    process = processes.run("env", env={"WEBHOOKS_PORT": "1"})
    assert [line for line in process.output.splitlines() if line.startswith(("WEBHOOKS_", "DATABASE_URL"))] == [
        *(f"{name}={value}" for name, value in os.environ.items() if name.startswith("WEBHOOKS_TEST_")),
        "WEBHOOKS_PORT=1",
    ]


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.01 s in vain for rain"):
        wait_until(lambda: False, timedelta(milliseconds=10), "rain")


@pytest.mark.forks
def test_a_forked_program_is_what_an_executed_one_is(processes: Processes) -> None:
    executed = subprocess.run([SCRIPTS / "webhooks", "nonsense"], capture_output=True, text=True)
    forked = processes.run("webhooks", "nonsense")
    assert forked.wait() == executed.returncode == 2
    assert forked.output == executed.stderr
    sleeping = processes.start(
        "python", "-m", "timeit", "-n", "1", "-r", "1", "print('asleep'); __import__('time').sleep(60)"
    )
    sleeping.wait_for("asleep")
    assert sleeping.members() == [sleeping.pid]
    sleeping.kill()
    assert sleeping.wait() == -signal.SIGKILL
    assert sleeping.members() == []
