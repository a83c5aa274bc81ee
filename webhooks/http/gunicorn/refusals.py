"""What gunicorn itself refuses leaves the traces of any other refusal (`intake.refusals`), under every worker class of ours.

gunicorn's parser answers what is no HTTP request, and logs a line for each; a client that sends many fills the log. Those lines
are left out, and `intake.refusals` logs a sample of them and how many more there were.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from webhooks.errors import Overloaded, Rejected, RequestTimeout
from webhooks.model import new_request_id

#: What gunicorn's line for a request that it refuses begins with (`gunicorn.workers.base.Worker.handle_error`).
_REFUSED_BY_GUNICORN = "Invalid request from ip="
#: A header's name. Source: https://www.rfc-editor.org/rfc/rfc9110#section-5.1
_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]{1,100}")


class LeavesTraces:
    """Mixed into gunicorn's worker classes, before them."""

    #: None: the application is not ours
    refusals: Any = None

    def load_wsgi(self) -> None:
        """Load the application, and find what records its refusals."""
        super().load_wsgi()  # type: ignore[misc]
        worker: Any = self
        ours = getattr(worker.wsgi, "extensions", {}).get("webhooks")
        if ours is not None:
            self.refusals = ours.refusals
            worker.log.error_log.addFilter(_is_not_recorded)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn could not parse, or an error while it called the application."""
        if self.refusals is not None and type(exc).__module__.startswith("gunicorn.http"):
            self.note_refused(Rejected(reason_of(exc)))
        super().handle_error(req, client, addr, exc)  # type: ignore[misc]

    def note_refused_in_part(self, source: str, status: int) -> None:
        """The same for a connection that was ended before a request had come whole. status: what it got."""
        if status == 408:
            self.note_refused(RequestTimeout("the request did not come in time"), source)
        elif status == 503:
            self.note_refused(Overloaded("incomplete requests hold all the bytes they may"), source)
        elif status:
            self.note_refused(Rejected("the request did not come whole"), source)

    def note_refused(self, error: Exception, source: str = "") -> None:
        """Record a refusal, where the application is ours. source: "" for none."""
        if self.refusals is not None:
            self.refusals.record(error, source=source, request_id=new_request_id())


def reason_of(error: BaseException) -> str:
    """What gunicorn's parser says of a request, without what may be secret in it: a query, and lines that are no header."""
    kind = type(error).__name__
    header = getattr(error, "hdr", None)
    if header is not None and _NAME.fullmatch(str(header)) is None:
        return f"{kind}: a line is no header"
    told, query, _ = str(error).partition("?")
    return f"{kind}: {told}{'?…' if query else ''}"


def _is_not_recorded(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_REFUSED_BY_GUNICORN)


__all__ = ["LeavesTraces", "reason_of"]
