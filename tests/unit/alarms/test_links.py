"""Where a message leads."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from tests.support import START, each
from webhooks.dashboard.endpoints import PREFIX, every_endpoint
from webhooks.model import DeliveryState
from webhooks.operations.alarms import ALARMS, AlarmLinks
from webhooks.operations.alarms.links import PAGES
from webhooks.selection import Selection

OURS = "https://hooks.example.com/dashboard"
THEIRS = "https://grafana.example/d/1"


@each(
    ["links", "expected"],
    [
        (AlarmLinks(), ""),
        (AlarmLinks(THEIRS), THEIRS),
        (AlarmLinks(THEIRS, OURS), THEIRS),
        (AlarmLinks("", OURS), f"{OURS}/"),
    ],
)
def test_what_is_about_several_leads_to_the_operators_page_or_to_the_overview(links: AlarmLinks, expected: str) -> None:
    assert links.of() == expected
    assert links.of("an alarm without a page") == expected


def test_an_alarm_leads_to_what_it_is_about() -> None:
    found = urlsplit(AlarmLinks("", OURS).of("dead", "crm sync&more"))
    assert found.path == f"{PREFIX}/deliveries"
    (line,) = parse_qs(found.query)["q"]
    assert Selection.parse_line(line, START) == Selection(handler="crm sync&more", states=(DeliveryState.DEAD,))


def test_pages_are_of_the_dashboard_and_of_alarms_that_there_are() -> None:
    assert set(PAGES) <= set(ALARMS)
    paths = {page.path for page in every_endpoint() if page.method == "GET"}
    for page in PAGES.values():
        assert f"/{page.path.format(subject='<name>')}" in paths
