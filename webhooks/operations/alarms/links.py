"""Where a message leads: the page of the dashboard for its alarm, or the one page that the operator names.

`PAGES` is the one place to fill in when the dashboard has a page for an alarm; a test holds it to the dashboard's addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

#: {alarm: its page, below the dashboard's root; `{subject}` stands for the subject}. One without leads to the overview.
PAGES: Mapping[str, str] = {}


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
        below = PAGES.get(name, "").format(subject=quote(subject, safe=""))
        return f"{self.dashboard.rstrip('/')}/{below}"


__all__ = ["PAGES", "AlarmLinks"]
