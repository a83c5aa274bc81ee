"""Where a message leads."""

from __future__ import annotations

from tests.support import each
from webhooks.dashboard.endpoints import PREFIX
from webhooks.operations.alarms import ALARMS, AlarmLinks
from webhooks.operations.alarms import links as module

OURS = "https://hooks.example.com/dashboard"


@each(
    ["links", "expected"],
    [
        (AlarmLinks(), ""),
        (AlarmLinks("https://grafana.example/d/1"), "https://grafana.example/d/1"),
        (AlarmLinks("https://grafana.example/d/1", OURS), "https://grafana.example/d/1"),
        (AlarmLinks("", OURS), f"{OURS}/handlers/crm%2Fsync%20%3F"),
    ],
)
def test_a_message_leads_to_the_operators_page_or_to_ours(links: AlarmLinks, expected: str) -> None:
    before, module.PAGES = module.PAGES, {"dead": "handlers/{subject}"}
    try:
        assert links.of("dead", "crm/sync ?") == expected
        assert links.of() == (f"{OURS}/" if links == AlarmLinks("", OURS) else expected)
    finally:
        module.PAGES = before


def test_pages_are_of_alarms_that_there_are_and_ours_begin_where_the_dashboard_does() -> None:
    assert set(module.PAGES) <= set(ALARMS)
    assert OURS.endswith(PREFIX)
