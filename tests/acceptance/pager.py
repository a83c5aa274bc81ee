"""Who is told in the drills: a receiver that verifies what it is sent, and a dead man's switch that notices silence."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support import wait_until
from webhooks.model import Headers, InboundRequest
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

SIGNING = "whsec_" + base64.b64encode(b"0123-a-key-of-many-bytes").decode()
OPS = make_source(SourceSettings("ops", "standard", (Secret(SIGNING),)))


class Pager:
    """What a pager would be: it verifies signatures, and counts. Below /beat it is a dead man's switch."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        #: (when, by the monotonic clock; whether all was well) of each call of the switch
        self.beats: list[tuple[float, bool]] = []
        pager = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                OPS.verify(InboundRequest(Headers(dict(self.headers.items())), body, id="r"), datetime.now(UTC))
                pager.told.append(json.loads(body))
                self._end()

            def do_GET(self) -> None:
                pager.beats.append((time.monotonic(), self.path == "/beat"))
                self._end()

            def _end(self) -> None:
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def counts(self) -> Counter[str]:
        """{`raised no-worker`: how often it was told}"""
        return Counter(f"{each['type'].removeprefix('alarm.')} {each['data']['alarm']}" for each in self.told)

    def wait_for(self, what: str, within: timedelta = timedelta(seconds=60)) -> None:
        wait_until(lambda: self.counts()[what], within, f"{what!r} among {dict(self.counts())}")

    def is_down(self, grace: timedelta) -> bool:
        """Whether the switch would call somebody: the last call told of trouble, or is older than `grace`."""
        if not self.beats:
            return False
        at, is_well = self.beats[-1]
        return not is_well or time.monotonic() - at > grace.total_seconds()

    def falls(self, since: float, grace: timedelta) -> int:
        """How often the switch went from up to down since then (of the monotonic clock)."""
        calls = [*self.beats, (time.monotonic(), True)]
        count, was_up = 0, True
        for (before, _), (at, is_well) in itertools.pairwise(calls):
            is_up = is_well and at - before <= grace.total_seconds()
            if at >= since and was_up and not is_up:
                count += 1
            was_up = is_well  # a call ends a silence
        return count
