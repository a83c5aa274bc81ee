"""How the shipped service writes its log: one line a record, for people or as JSON, gunicorn's own lines included.

The library itself only uses `logging`; an application that has its own set-up keeps it (`Webhooks(app)` touches
nothing). Control and bidirectional characters of stored text come out as escapes, in exceptions as well, whose texts are
without the values that a database quotes.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any

from webhooks.formats import (
    error_summary,
    exception_text,
    frames_of,
    own_frames,
    printable,
    screen_line,
    wants_colour,
)

#: What `logging` puts on every record; the rest is ours, handed over by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(level: str, style: str) -> None:
    """Log to standard error.

    level: a name of `logging`.
    style: "console", "json" or "dev".
    """
    guard_tracebacks()
    handler = logging.StreamHandler(sys.stderr)
    if style == "dev":
        handler.addFilter(_is_news)
        handler.setFormatter(ScreenFormatter())
    else:
        handler.setFormatter(_structured(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("gunicorn.error", "gunicorn.access", "alembic"):
        child = logging.getLogger(name)
        child.handlers[:] = []
        child.propagate = True
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _structured(style: str) -> logging.Formatter:
    """The formatter of the styles "console" and "json"."""
    with _hidden("rich"):  # structlog would load it for tracebacks, which are plain text here: 5 MB in every process
        import structlog

    processors: list[Any] = [
        _take_extra,
        _take_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _format_exception,
        _escape,
    ]
    if style == "json":
        renderer: Any = structlog.processors.JSONRenderer()
        # structlog calls the text "event", which means something else here
        processors.append(structlog.processors.EventRenamer("message"))
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=wants_colour(sys.stderr), pad_event_to=0)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=processors,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


#: What `app.screen` tells in its own words, by the `action` of its line in the log; and what is no news while one develops.
_TOLD = frozenset(("event", "fail", "start", "stop"))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is to be seen beside what `app.screen` tells."""
    action = getattr(record, "action", None)
    if action == "reject":  # of a source that there is, it is told with what its signature shows
        return record.levelno >= logging.ERROR or not getattr(record, "source", "")
    return action not in _TOLD and (record.levelno > logging.INFO or not record.name.startswith(_QUIET))


#: Whose lines at info are about the service rather than about what one develops.
_QUIET = ("webhooks.", "gunicorn.", "alembic.")


class ScreenFormatter(logging.Formatter):
    """A record as a short line: of a handler its name and what it said, of an exception the author's own frames."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and what stands below it; never raises for what was logged."""
        is_plain = record.levelno == logging.INFO
        handler = getattr(record, "handler", "")
        text = f"{handler}: {record.getMessage()}" if handler and is_plain else record.getMessage()
        below = []
        if record.exc_info and (error := record.exc_info[1]) is not None:
            here = Path.cwd()
            frames = own_frames(frames_of(exception_text(error)), here)
            below = [*(f"{frame.said(here)}: {frame.code}" for frame in frames[-5:]), error_summary(error)]
        at = datetime.fromtimestamp(record.created)
        word = "log" if is_plain else record.levelname.lower()
        return screen_line(word, text, below, at=at, colours=wants_colour(sys.stderr)).rstrip("\n")


@contextlib.contextmanager
def _hidden(library: str) -> Iterator[None]:
    """Keep `library` from being imported meanwhile, unless it was before."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[library]


def _take_extra(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = fields.get("_record")
    if isinstance(record, logging.LogRecord):
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                fields[name] = value
    return fields


def _take_trace(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the current span, where something has imported OpenTelemetry; nothing here does."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            fields["trace_id"] = trace.format_trace_id(context.trace_id)
            fields["span_id"] = trace.format_span_id(context.span_id)
    return fields


def _format_exception(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    found = fields.pop("exc_info", None)
    if isinstance(found, tuple):
        found = found[1]
    elif found is True:
        found = sys.exc_info()[1]
    if isinstance(found, BaseException):
        fields["exception"] = exception_text(found)
    return fields


def _escape(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in fields.items():
        if isinstance(value, str) and name != "exception":
            fields[name] = printable(value).replace("\n", "\\n")
        elif isinstance(value, BaseException):
            fields[name] = error_summary(value)
    return fields


def print_safely(
    kind: type[BaseException], error: BaseException | None, traceback: object = None, *, thread: str = ""
) -> None:
    """`sys.excepthook` of our processes: an exception that was not caught, as the log would show it."""
    if error is None or isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), None)
        return
    where = f"Exception in thread {printable(thread)}:\n" if thread else ""
    print(f"{where}{exception_text(error)}", file=sys.stderr, flush=True)


def guard_tracebacks() -> None:
    """Have exceptions that are not caught printed by `print_safely`, in every thread; hooks of others stay."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = print_safely
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _in_thread


def _in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_type is not SystemExit:
        print_safely(given.exc_type, given.exc_value, thread=given.thread.name if given.thread else "?")
