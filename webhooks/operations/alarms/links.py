"""Where a message leads: the page of the dashboard for its alarm, or the one page that the operator names.

`PAGES` is the one place to fill in when the dashboard has a page for an alarm; a test holds it to the dashboard's addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from webhooks.model import DeliveryState
from webhooks.operations.alarms.table import ALARMS
from webhooks.selection import Selection


@dataclass(frozen=True, slots=True)
class AlarmPage:
    """A page of the dashboard.

    path: below its root; `{subject}` stands for the subject.
    selection: what it shows; the alarm's handler or source comes on top; None where it shows no selection.
    """

    path: str
    selection: Selection | None = None


_WAITING = AlarmPage("deliveries", Selection(states=(DeliveryState.PENDING,)))
_DEAD = AlarmPage("deliveries", Selection(states=(DeliveryState.DEAD,)))

#: {alarm: its page}. One without leads to the overview.
PAGES: Mapping[str, AlarmPage] = {
    "source-silent": AlarmPage("events", Selection()),
    "no-worker": _WAITING,
    "backlog-old": _WAITING,
    "dead": _DEAD,
    "failing": _WAITING,
    "circuit-open": _WAITING,
    "lane-blocked": _DEAD,
    "paused-long": _WAITING,
}


@dataclass(frozen=True, slots=True)
class AlarmLinks:
    """Where messages lead.

    page: of the operator's own (setting `dashboard_url`), for all alarms; "" for none.
    dashboard: root of ours, such as https://hooks.example.com/dashboard; "" where it has no public address.
    """

    page: str = ""
    dashboard: str = ""

    def of(self, name: str = "", subject: str = "") -> str:
        """The address for an alarm, or for what is about several; "" when there is none to lead to."""
        if self.page or not self.dashboard:
            return self.page
        root, page = f"{self.dashboard.rstrip('/')}/", PAGES.get(name)
        if page is None:
            return root
        address = root + page.path.format(subject=quote(subject, safe=""))
        if page.selection is None:
            return address
        shown = page.selection.only(**{ALARMS[name].about: subject})
        return f"{address}?{urlencode({'q': shown.to_line()})}"


__all__ = ["PAGES", "AlarmLinks", "AlarmPage"]
