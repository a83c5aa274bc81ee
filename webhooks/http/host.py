"""A host application's own hooks, kept from harming our requests: undone where that can be, named where it cannot.

`guard` is for applications that hold more than our routes. A hook may read a body before us, so what it reads is kept and
read once more. Flask-WTF's CSRFProtect is told that our blueprint is exempt: senders prove themselves by signatures. A hook
that answers in our place (a redirect to a login, say) is named in the log, once for each status, with what to do.

All of it hangs on Flask's signals, which are sent before and after an application's hooks whatever their order.
"""

from __future__ import annotations

import logging
import threading
from typing import IO, TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, request, request_finished, request_started

from webhooks.formats import one_line

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

logger = logging.getLogger(__name__)

#: In the environment of a request that our own route has answered.
ANSWERED = "webhooks.answered"


class KeptInput:
    """A request's body that can be read twice: by the application's hooks, and by us.

    stream: the server's `wsgi.input`.
    keep: so many bytes are kept; where more was read, only these are read again.
    """

    def __init__(self, stream: IO[bytes], keep: int) -> None:
        self._stream = stream
        self._keep = keep
        self._kept = bytearray()
        self._again: int | None = None

    def rewind(self) -> None:
        """Read what was read already once more, and then the rest."""
        self._again = 0

    def read(self, size: int = -1) -> bytes:
        """As of any stream."""
        if self._again is not None and self._again < len(self._kept):
            end = len(self._kept) if size < 0 else self._again + size
            piece = bytes(self._kept[self._again : end])
            self._again += len(piece)
            return piece if size >= 0 else piece + self._first(-1)
        return self._first(size)

    def readline(self, size: int = -1) -> bytes:
        """As of any stream; only the hooks read lines, so only what comes for the first time."""
        return self._keeping(self._stream.readline(size))

    def readlines(self, hint: int = -1) -> list[bytes]:
        """As of any stream."""
        return list(self)

    def __iter__(self) -> KeptInput:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _first(self, size: int) -> bytes:
        return self._keeping(self._stream.read(size) if size >= 0 else self._stream.read())

    def _keeping(self, piece: bytes) -> bytes:
        if self._again is None:
            self._kept += piece[: max(0, self._keep - len(self._kept))]
        return piece


def rewind(environ: WSGIEnvironment) -> None:
    """Have the body of a request read from its beginning, even where a hook read it before."""
    stream = environ["wsgi.input"]
    if isinstance(stream, KeptInput):
        stream.rewind()


def guard(app: Flask, blueprint: Blueprint, *, url_prefix: str, max_body: int) -> None:
    """Keep the hooks of `app` from harming requests below `url_prefix`.

    blueprint: has our routes.
    url_prefix: begins with a slash and ends without one.
    max_body: longer bodies are refused, in bytes.
    """
    told: set[int] = set()
    lock = threading.Lock()
    below = f"{url_prefix}/"

    def begin(sender: Flask, **_: Any) -> None:
        _exempt(sender, blueprint)
        environ = request.environ
        if environ["PATH_INFO"].startswith(below):
            environ["wsgi.input"] = KeptInput(environ["wsgi.input"], max_body + 1)

    def end(sender: Flask, response: Response, **_: Any) -> None:
        if ANSWERED in request.environ or not request.environ["PATH_INFO"].startswith(below):
            return
        with lock:
            if response.status_code in told:
                return
            told.add(response.status_code)
        logger.warning(
            "a hook of this application answered %s %r with %d before it reached webhooks, so its sender is refused: let "
            "requests with request.blueprint == %r pass in %s",
            one_line(request.method, 20),
            one_line(request.path, 200),
            response.status_code,
            blueprint.name,
            _hooks(sender, blueprint),
        )

    request_started.connect(begin, app, weak=False)
    request_finished.connect(end, app, weak=False)


def _exempt(app: Flask, blueprint: Blueprint) -> None:
    """Tell Flask-WTF's CSRFProtect, where there is one, to leave our requests alone; it may have come after us."""
    protection = app.extensions.get("csrf")
    exempt = getattr(protection, "exempt", None)
    if exempt is not None:
        exempt(blueprint)


def _hooks(app: Flask, blueprint: Blueprint) -> str:
    """The application's functions that run before a request, for people: those that are not ours."""
    ours = blueprint.import_name
    names = [
        f"{function.__module__}.{function.__qualname__}"
        for function in app.before_request_funcs.get(None, [])
        if function.__module__ != ours
    ]
    return ", ".join(names[:5]) or "its before_request functions, or what stands before them"
