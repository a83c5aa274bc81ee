"""docs/observability.md takes an operator from nothing to a first alarm, and to a first scrape, with what it prints."""

from __future__ import annotations

import json
import os
import re
import secrets
from typing import Any

import pytest

from tests.acceptance.support import Processes, free_port
from tests.acceptance.test_quickstart import Newcomer, part, typed

pytestmark = pytest.mark.release

PAGE = "docs/observability.md"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


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

    stock.write_text(re.sub(r"raise .*", "pass", handler))
    newcomer.restart()
    newcomer.type(requeue)
    newcomer.type(wait_again)
    assert notice(newcomer.type(tail_again))[0] == "alarm.resolved"


def test_an_operator_comes_to_a_first_scrape(processes: Processes) -> None:
    newcomer = Newcomer(processes)
    newcomer.type("webhooks init shop")
    newcomer.type("true && cd shop")
    port = free_port()
    section = part(PAGE, "From nothing to a first scrape", "Prometheus")
    section = section.replace("127.0.0.1:8000", f"127.0.0.1:{newcomer.port}").replace("9108", str(port))
    said: list[str] = []
    for command in typed(section):
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            newcomer.env[name] = secrets.token_hex(24) if value.startswith("$(openssl") else value
        else:
            said.append(newcomer.type(command))
    _, _, requests, up, slots, health = said
    assert re.search(r'webhooks_requests_total\{.*status="200".*\} 1\.0', requests)
    assert "webhooks_database_up 1.0" in up
    assert "webhooks_slots " in slots
    assert json.loads(health)
    assert os.environ.get("WEBHOOKS_METRICS") is None
