"""docs/observability.md leads an operator from nothing to a first alarm by what it prints; test_metrics.py goes on from there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.acceptance.reading import Newcomer, blocks, part, typed
from tests.acceptance.support import Processes

pytestmark = pytest.mark.release

PAGE = "docs/observability.md"


def notice(line: str) -> tuple[str, dict[str, Any]]:
    """(type, data) of a line that a target wrote."""
    document = json.loads(line)
    return document["type"], document["data"]


def test_an_operator_comes_to_a_first_alarm(processes: Processes) -> None:
    newcomer = Newcomer(processes)
    section = part(PAGE, "From nothing to a first alarm", "From nothing to a first scrape")
    init, cd, dev, test, cat, trigger, wait, tail, alarms, requeue, wait_again, tail_again = typed(section)
    assert dev == "webhooks dev"
    newcomer.type(init)
    newcomer.type(f"true && {cd}")
    (toml,), (handler,) = blocks(section, "toml"), blocks(section, "python")
    with (newcomer.directory / "webhooks.toml").open("a") as file:
        file.write(f"\n{toml}")
    stock = newcomer.directory / "handlers" / "stock.py"
    stock.write_text(handler)
    newcomer.type(dev)

    assert "target here was told" in newcomer.type(test)
    assert notice(newcomer.type(cat))[0] == "alarm.test"
    newcomer.type(trigger)
    newcomer.type(wait)
    kind, told = notice(newcomer.type(tail))
    assert (kind, told["alarm"], told["subject"], told["count"]) == ("alarm.raised", "dead", "stock", 1)
    assert told["command"] in section
    assert told["example"] in newcomer.type(told["command"])
    assert re.search(r"dead +stock .*here", newcomer.type(alarms))

    newcomer.save(stock, re.sub(r"raise .*", "pass", handler))
    newcomer.type(requeue)
    newcomer.type(wait_again)
    assert notice(newcomer.type(tail_again))[0] == "alarm.resolved"
