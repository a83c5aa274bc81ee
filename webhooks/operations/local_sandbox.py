"""Ask the sandbox that runs beside `webhooks dev`, and have it change something.

A note in the project says where it listens. Only an address of this machine is asked, and none through a proxy. Not here: what
it imitates (`sandbox`), which may run in another process.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from webhooks.errors import NotFound, WebhooksError

#: An answer is waited for so long; it comes from this machine.
PATIENCE_SECONDS = 5.0
#: {name of a change: what it does, for people}
CHANGES: Mapping[str, str] = {
    "contact": "make a contact",
    "lead": "change a lead",
    "message": "receive a WhatsApp message",
    "pause": "pause the subscription",
    "resume": "resume the subscription",
}


class SandboxUnavailable(WebhooksError):
    """It does not answer, or refuses what was asked."""


@dataclass(frozen=True, slots=True)
class LocalSandbox:
    """One that runs. api_url: of its API. api_key: may do everything there."""

    api_url: str
    api_key: str

    def state(self) -> Mapping[str, Any]:
        """Its objects, subscriptions and what waits, as `GET /sandbox/state` says. Raises `SandboxUnavailable`."""
        found: Mapping[str, Any] = self._ask("GET", "/sandbox/state")
        return found

    def change(self, name: str) -> str:
        """Do one of `CHANGES`; a sentence of what was done. Raises `NotFound` and `SandboxUnavailable`."""
        changes = {
            "contact": self._make_contact,
            "lead": self._change_lead,
            "message": self._receive_message,
            "pause": self._pause,
            "resume": self._resume,
        }
        if name not in changes:
            raise NotFound(f"nothing is called {name!r} here; there are: {', '.join(changes)}")
        return changes[name]()

    def _make_contact(self) -> str:
        made = self._api("POST", "contact/", {"name": "Rosa Lindqvist"})
        return f"{made['id']} and its lead were made; two webhooks follow."

    def _change_lead(self) -> str:
        lead = self._latest("lead", "make a contact first, which brings one")
        changed = self._api("PUT", f"lead/{lead['id']}/", {"name": f"{lead['name'] or 'Lead'} +"})
        return f"{lead['id']} is called {changed['name']!r} now; its webhook follows in seconds."

    def _receive_message(self) -> str:
        contact = self._latest("contact", "make one first")
        message = {
            "lead_id": contact["lead_id"],
            "contact_id": contact["id"],
            "direction": "incoming",
            "status": "received",
            "message_markdown": "Can we move the demo to Friday?",
            "external_whatsapp_message_id": f"wamid.{self.state()['events']}",
            "local_phone": "+15555550100",
            "remote_phone": "+15555550123",
        }
        made = self._api("POST", "activity/whatsapp_message/", message)
        return f"{made['id']} came; its webhook follows."

    def _pause(self) -> str:
        id = self._subscription("active")
        self._ask("POST", "/sandbox/pause", {"subscription_id": id, "reason": "failing"})
        return f"{id} is paused, as after days of failures: what happens now is in the log only, and catch-up finds it."

    def _resume(self) -> str:
        id = self._subscription("paused")
        self._api("PUT", f"webhook/{id}/", {"status": "active"})
        return f"{id} sends again."

    def _latest(self, kind: str, otherwise: str) -> Mapping[str, Any]:
        every = list(self.state()["objects"][kind].values())
        if not every:
            raise NotFound(f"the sandbox has no {kind}; {otherwise}")
        latest: Mapping[str, Any] = every[-1]
        return latest

    def _subscription(self, status: str) -> str:
        found = [each["id"] for each in self.state()["subscriptions"] if each["status"] == status]
        if not found:
            raise NotFound(f"the sandbox has no subscription that is {status}")
        return str(found[0])

    def _api(self, method: str, path: str, body: Any = None) -> Any:
        return self._ask(method, urlsplit(self.api_url).path.rstrip("/") + f"/{path}", body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        parts = urlsplit(self.api_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_SECONDS)
        token = base64.b64encode(f"{self.api_key}:".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            raw = answer.read()
            if answer.status >= 300:
                raise SandboxUnavailable(f"the sandbox refused it with {answer.status}")
            return json.loads(raw)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SandboxUnavailable(
                f"the sandbox does not answer ({type(error).__name__}); start it again: webhooks sandbox"
            ) from error
        finally:
            connection.close()


def find(note: Path) -> LocalSandbox | None:
    """The sandbox of which a note tells; None where there is none. note: the file."""
    try:
        found = json.loads(note.read_text("utf-8"))
        close = LocalSandbox(str(found["api_url"]), str(found["api_key"]))
        parts = urlsplit(close.api_url)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    return close if is_here and parts.port is not None else None


__all__ = ["CHANGES", "LocalSandbox", "SandboxUnavailable", "find"]
