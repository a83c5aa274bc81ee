"""How the shipped service sets up its log."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging, sys
from webhooks.logs import set_up_logging
set_up_logging("info", {style!r})
print(sorted(name for name in ("rich", "pygments") if name in sys.modules))
import rich.table
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("ours").exception("it failed", extra={{"event_id": 7}})
"""


def run(style: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(style=style)], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_a_traceback_is_plain_text_and_costs_no_library() -> None:
    """rich would cost 5 MB in each server process; whoever wants it afterwards still gets it."""
    out, log = run("console")
    assert out == "[]\n"
    assert "it failed" in log
    assert "event_id=7" in log
    assert log.endswith("\nZeroDivisionError: division by zero\n")


def test_json_has_one_object_a_line() -> None:
    import json

    out, log = run("json")
    (line,) = log.splitlines()
    record = json.loads(line)
    assert out == "[]\n"
    assert (record["message"], record["event_id"], record["level"]) == ("it failed", 7, "error")
    assert record["exception"].endswith("ZeroDivisionError: division by zero")
