"""Draw one trace: `python -m tests.trace_picture` runs an event, and writes docs/trace.svg anew (or the file that it is given).

The spans are those that OpenTelemetry's SDK kept of a real run: a request, its commit, two handlers of which one fails, and
the retry of that, which is a trace of its own with a link. `draw` is a pure function of spans.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.support import PAYLOADS, ROOT

PICTURE = ROOT / "docs" / "trace.svg"

_WIDTH, _LEFT, _ROW, _BAR = 900, 300, 30, 16
_KINDS = {"SERVER": "#2563a8", "INTERNAL": "#7a8794", "CONSUMER": "#2e7d4f", "CLIENT": "#8a5a00"}
_FAILED = "#b3261e"


@dataclass(frozen=True, slots=True)
class DrawnSpan:
    """What is drawn of a span.

    kind: SERVER, INTERNAL, CONSUMER or CLIENT.
    start, end: seconds.
    parent: id of the span above it, "" for a root.
    links: ids of the traces that it is linked to.
    error: type of the error that ended it, or "".
    """

    id: str
    trace: str
    name: str
    kind: str
    start: float
    end: float
    parent: str = ""
    links: tuple[str, ...] = ()
    error: str = ""


def of_sdk(span: Any) -> DrawnSpan:
    """One of OpenTelemetry's `ReadableSpan`."""
    context = span.get_span_context()
    return DrawnSpan(
        f"{context.span_id:016x}",
        f"{context.trace_id:032x}",
        span.name,
        span.kind.name,
        span.start_time / 1e9,
        span.end_time / 1e9,
        "" if span.parent is None else f"{span.parent.span_id:016x}",
        tuple(f"{link.context.trace_id:032x}" for link in span.links),
        str((span.attributes or {}).get("error.type", "")),
    )


def in_order(spans: Sequence[DrawnSpan]) -> Iterator[tuple[int, DrawnSpan]]:
    """(depth, span), each below its parent; traces and children by their start."""

    def below(parent: str, depth: int) -> Iterator[tuple[int, DrawnSpan]]:
        for span in sorted((each for each in spans if each.parent == parent), key=lambda each: each.start):
            yield depth, span
            yield from below(span.id, depth + 1)

    yield from below("", 0)


def draw(spans: Sequence[DrawnSpan]) -> str:
    """An SVG document: a row a span, a scale of its own for each trace, and a dashed line where one is linked."""
    rows: list[str] = []
    y, last = 10, ""
    for depth, span in in_order(spans):
        if span.trace != last:
            rows += _heading(span, y, is_first=not last)
            y += 2 * _ROW
            last = span.trace
        whole = [each for each in spans if each.trace == span.trace]
        begin, end = min(each.start for each in whole), max(each.end for each in whole)
        rows += _bar(
            span, depth, y, (span.start - begin) / (end - begin or 1), (span.end - span.start) / (end - begin or 1)
        )
        y += _ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 10}" width="{_WIDTH}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">'
    )
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{y + 10}" fill="#ffffff"/>', *rows, "</svg>", ""])


def _heading(span: DrawnSpan, y: int, *, is_first: bool) -> list[str]:
    linked = f", linked to {span.links[0][:8]}…" if span.links else ""
    rule = [] if is_first else [f'<path d="M10 {y + 8} H{_WIDTH - 10}" stroke="#7a8794" stroke-dasharray="4 4"/>']
    return [
        *rule,
        f'<text x="10" y="{y + 40}" fill="#4a5560" font-size="12">trace {span.trace[:8]}…{linked}</text>',
    ]


def _bar(span: DrawnSpan, depth: int, y: int, at: float, share: float) -> list[str]:
    room = _WIDTH - _LEFT - 110
    x, width = _LEFT + at * room, max(2.0, share * room)
    took = (span.end - span.start) * 1000
    told = f"{took:.1f} ms" + (f" ✗ {span.error}" if span.error else "")
    colour = _FAILED if span.error else _KINDS.get(span.kind, "#7a8794")
    # beside the bar, or before it where there is no room behind
    beside = f'x="{x + width + 6:.1f}"' if x + width < _WIDTH - 160 else f'x="{x - 6:.1f}" text-anchor="end"'
    return [
        f'<text x="{10 + 18 * depth}" y="{y + 12}" fill="#1d242b">{escape(span.name)}</text>',
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"><title>'
        f"{escape(f'{span.name}: {told}, {span.kind.lower()}')}</title></rect>",
        f'<text {beside} y="{y + 12}" fill="#4a5560" font-size="12">{escape(told)}</text>',
    ]


# -- a run -----------------------------------------------------------------------------------------------------


def record(directory: Path) -> list[DrawnSpan]:
    """The spans of one event, run in this process on a database in `directory`: intake, worker, a failure, its retry."""
    from flask import Flask
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from webhooks.app import Webhooks
    from webhooks.app.running import make_worker
    from webhooks.routing import Registry, RetryPolicy

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    registry, refused = Registry(), [True]
    again = RetryPolicy(base=timedelta(milliseconds=300), cap=timedelta(milliseconds=300))

    @registry.on("**", name="whatsapp.mirror")
    def mirror() -> None:
        time.sleep(0.02)

    @registry.on("**", name="forward.warehouse", retry=again)
    def forward() -> None:
        time.sleep(0.05)
        if refused:
            refused.clear()
            raise ConnectionError("the warehouse answered 503")

    settings = {
        "database_url": f"sqlite:///{directory / 'webhooks.db'}",
        "sources": {"close": {"secret": "6b8f0c1e5a2d4973" * 4}},
        "tracing": True,
        "tracing_accept": "ignore",
    }
    app = Flask(__name__)
    webhooks = Webhooks(registry=registry, overrides=settings, environ={})
    webhooks.init_app(app)
    body = (PAYLOADS / "whatsapp_message_created_incoming.json").read_bytes()
    signed = dict(webhooks.sources["close"].sign(body, webhooks.clock()))
    assert app.test_client().post("/webhooks/close", data=body, headers=signed).status_code == 200
    worker = make_worker(webhooks)
    thread = threading.Thread(target=worker.run)
    thread.start()
    until = time.monotonic() + 30
    while len(exporter.get_finished_spans()) < 5 and time.monotonic() < until:
        time.sleep(0.02)
    worker.stop()
    thread.join()
    webhooks.close()
    return [of_sdk(span) for span in exporter.get_finished_spans()]


def main(picture: Path = PICTURE) -> None:
    """Write the picture anew."""
    from tests.conftest import migrate

    with tempfile.TemporaryDirectory() as directory:
        migrate(f"sqlite:///{directory}/webhooks.db")
        spans = record(Path(directory))
    picture.write_text(draw(spans), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
