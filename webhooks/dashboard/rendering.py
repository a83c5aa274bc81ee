"""Templates become pages, in an environment of our own: the host application's filters and templates are not ours.

Whatever is printed is escaped, and controls and bidirectional marks in it become visible escapes, so no text of a sender
can look like another or act. An undefined name is an error.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from webhooks.dashboard import figures, show
from webhooks.dashboard.search import FIELDS
from webhooks.formats import counted, printable

#: Longer texts are cut where they are printed; pages that show more escape them by themselves.
LONGEST_TEXT = 20_000


def visible(value: Any) -> Any:
    """What is printed of a value: text with its controls made visible; what is markup already stays."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, LONGEST_TEXT)
    return value


def exact(value: str) -> Markup:
    """A text as a form's value: escaped, but character for character, since it comes back to us."""
    return Markup(escape(str(value)))  # escaped on this line


def all_of(text: str) -> Markup:
    """A long text whole: escaped, with its controls made visible."""
    return Markup(escape(printable(text, 10 * len(text) + 10)))  # escaped on this line


def broken(text: str) -> Markup:
    """A dotted name that may be broken behind its dots and underscores."""
    shown = escape(printable(text, 400))
    return Markup(shown.replace(".", Markup(".<wbr>")).replace("_", Markup("_<wbr>")))  # escaped above


@functools.cache
def environment() -> Environment:
    """The templates' environment; made once a process."""
    made = Environment(
        loader=PackageLoader("webhooks.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        all_of=all_of,
        exact=exact,
        broken=broken,
        rough=show.rough,
        span=show.span,
        full_time=show.full_time,
        iso=show.iso,
        size=show.size,
        milliseconds=figures.milliseconds,
        rate=figures.rate,
        instant=datetime.fromisoformat,
    )
    made.globals.update(
        counted=counted,
        search_fields=FIELDS,
        STATES=show.STATES,
        RECEIPTS=show.RECEIPTS,
        RECEIPTS_SAY=show.RECEIPTS_SAY,
        FATES=show.FATES,
        state_tag=show.state_tag,
    )
    return made


def render(template: str, **context: Any) -> str:
    """A page's text. template: a file of `templates/`."""
    return environment().get_template(template).render(**context)


__all__ = ["all_of", "broken", "environment", "exact", "render", "visible"]
