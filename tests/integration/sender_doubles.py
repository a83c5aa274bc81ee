"""Stripe, PayPal and GitHub as far as catch-up asks them: a log each, over HTTP on this machine.

What a double is asked to send again waits in `asked`, and is posted by the test. A request of another kind than the sender
documents is answered 400, so that a client which asks otherwise fails.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: (status, body, headers)
Said = tuple[int, Any, Mapping[str, str]]


class Double:
    """A server with an address, which answers by `answer(method, path, query, headers, body)`."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        #: said in place of the next answers
        self.failures: list[Said] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                double.requests.append(f"{self.command} {self.path}")
                said = double.failures.pop(0) if double.failures else None
                status, found, more = said or double.answer(self.command, parts.path, query, dict(self.headers), body)
                raw = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_GET

            def log_message(self, format: str, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Said:
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


REFUSED: Said = (400, {"message": "no such request"}, {})


class StripeDouble(Double):
    """events: newest first, as `/v1/events` has them; thin: as `/v2/core/events` has them. page: the most on one."""

    KEY = "rk_test_4f9d0c7be2a1"

    def __init__(self, page: int = 100) -> None:
        super().__init__()
        self.page = page
        self.events: list[dict[str, Any]] = []
        self.thin: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Said:
        if headers.get("Authorization") != f"Bearer {self.KEY}":
            return 401, {"error": {"message": "Invalid API Key provided"}}, {}
        if (
            method == "GET"
            and path == "/v1/events"
            and not set(query) - {"created[gte]", "created[lte]", "limit", "starting_after"}
        ):
            low, high = int(query.get("created[gte]", 0)), int(query.get("created[lte]", 2**40))
            found = [each for each in self.events if low <= each["created"] <= high]
            if "starting_after" in query:
                found = found[[each["id"] for each in found].index(query["starting_after"]) + 1 :]
            most = min(self.page, int(query["limit"]))
            # two blanks, as Stripe's API indents; the post of the same event is written otherwise
            listed = {"object": "list", "data": found[:most], "has_more": len(found) > most, "url": "/v1/events"}
            return 200, json.dumps(listed, indent=2).encode(), {}
        if method == "GET" and path == "/v2/core/events" and headers.get("Stripe-Version"):
            start = int(query.get("page", 0))
            more = start + self.page < len(self.thin)
            following = f"{self.url}/v2/core/events?page={start + self.page}" if more else None
            return 200, {"data": self.thin[start : start + self.page], "next_page_url": following}, {}
        return REFUSED


class PayPalDouble(Double):
    """events: newest first, as `webhooks-events` has them."""

    CLIENT, SECRET, WEBHOOK = "client-4f9d0c7b", "secret-4f9d0c7b", "4JH86294D6297924G"

    def __init__(self, page: int = 100) -> None:
        super().__init__()
        self.page = page
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.tokens = 0
        #: events that are not resent
        self.pending: set[str] = set()

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Said:
        if path == "/v1/oauth2/token":
            basic = base64.b64encode(f"{self.CLIENT}:{self.SECRET}".encode()).decode()
            if headers.get("Authorization") != f"Basic {basic}":
                return 401, {"error": "invalid_client", "error_description": "Client Authentication failed"}, {}
            if method != "POST" or body != b"grant_type=client_credentials":
                return REFUSED
            self.tokens += 1
            return 200, {"access_token": f"token-{self.tokens}", "token_type": "Bearer", "expires_in": 32400}, {}
        if headers.get("Authorization") != f"Bearer token-{self.tokens}":
            return 401, {"error": "invalid_token"}, {}
        events = "/v1/notifications/webhooks-events"
        if method == "GET" and path == events:
            start = int(query.get("start", 0))
            low, high = (_instant(query[name]) if name in query else None for name in ("start_time", "end_time"))
            found = [
                each
                for each in self.events
                if (low is None or _instant(each["create_time"]) >= low)
                and (high is None or _instant(each["create_time"]) <= high)
            ]
            kept = "&".join(f"{name}={value}" for name, value in query.items() if name != "start")
            # the host is not the one that was asked: nothing may be sent there
            link = f"https://api.elsewhere.example{events}?{kept}&start={start + self.page}"
            links = [{"href": link, "rel": "next", "method": "GET"}] if start + self.page < len(found) else []
            return 200, {"events": found[start : start + self.page], "count": len(found), "links": links}, {}
        if method == "POST" and path.startswith(f"{events}/") and path.endswith("/resend"):
            id = path.removeprefix(f"{events}/").removesuffix("/resend")
            if json.loads(body) != {"webhook_ids": [self.WEBHOOK]}:
                return REFUSED
            if id in self.pending:
                return 422, {"name": "UNPROCESSABLE", "message": "The event is pending"}, {}
            self.asked.append(id)
            return 202, {"id": id}, {}
        return REFUSED


class GitHubDouble(Double):
    """deliveries: newest first, as `hooks/ID/deliveries` has them."""

    TOKEN, HOOK = "github_pat_4f9d0c7be2", "repos/octo/hello/hooks/42"

    def __init__(self, page: int = 100) -> None:
        super().__init__()
        self.page = page
        self.deliveries: list[dict[str, Any]] = []
        self.asked: list[int] = []
        #: deliveries that are too old
        self.gone: set[int] = set()

    def delivered(
        self,
        guid: str,
        at: datetime,
        status: int,
        event: str = "issues",
        action: str | None = "opened",
        *,
        again: bool = False,
    ) -> int:
        """Note an attempt, which is the newest; its id."""
        id = 1000 + len(self.deliveries)
        self.deliveries.insert(
            0,
            {
                "id": id,
                "guid": guid,
                "delivered_at": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
                "redelivery": again,
                "duration": 0.27,
                "status": "OK" if 200 <= status <= 299 else "Invalid HTTP Response: 503",
                "status_code": status,
                "event": event,
                "action": action,
                "installation_id": None,
                "repository_id": 7,
            },
        )
        return id

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Said:
        if headers.get("Authorization") != f"Bearer {self.TOKEN}":
            return 401, {"message": "Bad credentials"}, {}
        deliveries = f"/{self.HOOK}/deliveries"
        if method == "GET" and path == deliveries and not set(query) - {"per_page", "cursor"}:
            start = int(query.get("cursor", "v1_0").removeprefix("v1_"))
            most = min(self.page, int(query["per_page"]))
            following = f'<{self.url}{deliveries}?per_page={most}&cursor=v1_{start + most}>; rel="next"'
            more = {"Link": following} if start + most < len(self.deliveries) else {}
            return 200, self.deliveries[start : start + most], more
        if method == "POST" and path.startswith(f"{deliveries}/") and path.endswith("/attempts"):
            id = int(path.removeprefix(f"{deliveries}/").removesuffix("/attempts"))
            if id in self.gone:
                return 404, {"message": "Not Found"}, {}
            self.asked.append(id)
            return 202, {}, {}
        return REFUSED


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


Make = Callable[..., Double]

__all__ = ["Double", "GitHubDouble", "PayPalDouble", "StripeDouble"]
