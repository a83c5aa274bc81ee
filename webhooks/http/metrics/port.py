"""A worker's own port: `/metrics`, `/metrics/database`, `/autoscale` and `/healthz`, by a thread beside the worker's.

A worker serves no requests otherwise, so this is a small server of the standard library, on this machine only unless the
settings say otherwise. A port that is taken is a warning: it must not end a worker.

Several workers on one machine cannot share a port. With port 0 each takes a free one and, where systemd gives the
service a directory (RuntimeDirectory=), names it there in a file for Prometheus's `file_sd_configs`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from webhooks.http.metrics.autoscale import Autoscale
from webhooks.http.metrics.exposition import CONTENT_TYPE, Exposition
from webhooks.http.metrics.tokens import is_authorized

logger = logging.getLogger(__name__)

#: A client that says nothing for so long is left, in seconds.
PATIENCE = 10.0


class MetricsPort:
    """The server. `start` binds and begins; `close` ends it.

    exposition: what a scrape gets.
    autoscale: answers scalers; None where there are none to be answered.
    host, port: to bind; port 0 takes a free one.
    token: what a scraper must send, if not "".
    """

    def __init__(
        self, exposition: Exposition, autoscale: Autoscale | None = None, *, host: str, port: int, token: str = ""
    ) -> None:
        self._pages = _pages(exposition, autoscale)
        self._address = (host, port)
        self._token = token
        self._server: ThreadingHTTPServer | None = None
        self._note: Path | None = None

    @property
    def port(self) -> int | None:
        """Where it listens; None when it does not."""
        return None if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen from now on, if the port can be had. Raises nothing."""
        try:
            self._server = _ScrapeServer(self._address, self._pages, self._token)
        except OSError as error:
            logger.warning(
                "no metrics of this worker: %s:%d cannot be had (settings metrics_host and metrics_port): %s",
                *self._address,
                error.strerror or error,
            )
            return
        threading.Thread(target=self._server.serve_forever, args=(0.5,), name="webhooks-metrics", daemon=True).start()
        logger.info("metrics of this worker are at http://%s:%d/metrics", self._address[0], self.port)
        self._leave_note()

    def close(self) -> None:
        """Stop listening."""
        if self._note is not None:
            self._note.unlink(missing_ok=True)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _leave_note(self) -> None:
        directory = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        if self._address[1] or not directory:
            return
        note = Path(directory) / f"worker-{os.getpid()}.json"
        with contextlib.suppress(OSError):
            note.write_text(json.dumps([{"targets": [f"{self._address[0]}:{self.port}"]}]))
            self._note = note


#: Makes of a request's query (status, body).
_Page = Callable[[str], tuple[int, bytes]]


def _pages(exposition: Exposition, autoscale: Autoscale | None) -> dict[str, tuple[str, _Page]]:
    """{path: (content type, what makes it)}."""
    pages: dict[str, tuple[str, _Page]] = {
        "/metrics": (CONTENT_TYPE, lambda query: (200, exposition.process())),
        "/metrics/database": (CONTENT_TYPE, lambda query: (200, exposition.database())),
        "/healthz": ("application/json", lambda query: (200, b'{"status":"ok"}')),
    }
    if autoscale is not None:
        pages["/autoscale"] = ("application/json", autoscale.answer)
    return pages


class _ScrapeServer(ThreadingHTTPServer):
    """A thread for each request. pages: see `_pages`. token: "" asks for none."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], pages: dict[str, tuple[str, _Page]], token: str) -> None:
        self.pages = pages
        self.token = token
        super().__init__(address, ScrapeHandler)


class ScrapeHandler(BaseHTTPRequestHandler):
    """Answers GET of the pages of its server."""

    server: _ScrapeServer
    timeout = PATIENCE
    server_version = "webhooks"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer 200, 401, 404 or 500."""
        path, _, query = self.path.partition("?")
        page = self.server.pages.get(path)
        given = self.headers.get("Authorization", "")
        if page is None:
            self._refuse(404, "not_found")
        elif path != "/healthz" and not is_authorized(given, self.server.token):
            self._refuse(401, "unauthorized", ("WWW-Authenticate", "Bearer"))
        else:
            content_type, make = page
            try:
                status, body = make(query)
            except Exception:
                logger.exception("a scrape of this worker failed")
                self._refuse(500, "internal_error")
            else:
                self._answer(status, content_type, body)

    def _refuse(self, status: int, slug: str, *headers: tuple[str, str]) -> None:
        self._answer(status, "application/json", b'{"error":"%b"}' % slug.encode(), *headers)

    def _answer(self, status: int, content_type: str, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", content_type), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """A scrape every few seconds is no line in the log."""


__all__ = ["MetricsPort"]
