"""What a run does outside its session, seen in a process of its own: an audit hook stays until the process ends."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support import ROOT

SCRIPT = """
import json, os, socket, sys
from pathlib import Path
from webhooks.delivery.witness import watching

def write(): Path("made").write_text("x")
def read(): Path("made").read_text()
def own(): Path("app.db-journal").write_text("x")
def leave(): kept.append(open("made"))
def connect():
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))
def run(): os.system("true")
def nothing(): import wave

kept, found = [], {}
for act in (write, read, own, leave, connect, run, nothing):
    with watching(but=Path("app.db")) as seen:
        act()
    found[act.__name__] = seen
Path("after").write_text("x")
print(json.dumps(found))
"""


def test_it_tells_what_was_written_connected_started_and_left_open(tmp_path: object) -> None:
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=str(tmp_path), env=environ, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["write"] == ["open: made"]
    assert (found["read"], found["own"], found["nothing"]) == ([], [], [])
    assert [line.partition(": ")[0] for line in found["leave"]] == ["left open"]
    assert found["connect"] == ["socket.connect: ('127.0.0.1', 9)"]
    assert found["run"] == ["os.system"]
