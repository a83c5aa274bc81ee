"""Try one handler with one event, and say what it would have written: what `webhooks handlers test` does.

The event is stored nowhere, the database is an empty one of the try, and what the handler writes through its session is rolled back.
What it does elsewhere, it does: no filter of ours stands between a handler and the network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.testing.records import Values

if TYPE_CHECKING:
    from webhooks.delivery import Rehearsal
    from webhooks.routing import Handler
    from webhooks.testing.kit import Kit


def try_handler(
    name: str,
    what: str | None = None,
    *,
    source: str | None = None,
    set: Values | None = None,
    project: Path | None = None,
) -> tuple[str, Rehearsal]:
    """The type of the event, and what the handler would have done with it.

    name: of the handler.
    what: the type of a sample, or a file; None: the first sample that it would get.
    source: whose event it is; None: the handler's, or the only one.
    set: {path: value} to replace in the body.
    project: where `webhooks.toml` and `handlers/` are; None: the working directory, or what is above it.

    Raises `NotFound` for a handler, a sample or a source that there is not, and as `make_kit` does.
    """
    from webhooks.delivery import Rehearsal, Rehearser
    from webhooks.testing.making import make_kit

    with (
        tempfile.TemporaryDirectory(prefix="webhooks-testing-") as directory,
        make_kit(directory=directory, project=project) as kit,
    ):
        handler = _find(kit, name)
        source = source or handler.source
        event = kit.event(what or _sample_for(kit, handler, source), source=source, set=set)
        why_not = kit.explain(event).get(name)
        if why_not is not None:
            return event.type, Rehearsal(event.id, name, "filtered", why_not)
        [done] = Rehearser(kit.webhooks.dispatcher).run([(event, handler)])
        return event.type, done


def _find(kit: Kit, name: str) -> Handler:
    known: Mapping[str, Handler] = {handler.name: handler for handler in kit.webhooks.registry.handlers()}
    if name not in known:
        raise NotFound(f"no handler named {name!r}{did_you_mean(name, known)}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _sample_for(kit: Kit, handler: Handler, source: str | None) -> str:
    """The type of the first sample that a handler would get, filters included if one passes them. Raises `NotFound`."""
    from webhooks.sources.samples import samples

    schemes = [each.settings.scheme for name, each in kit.webhooks.sources.items() if source in (None, name)]
    types = [each.type for scheme in schemes for each in samples(scheme)]
    asked = [type for type in dict.fromkeys(types) if any(pattern.matches(type) for pattern in handler.patterns)]
    passing = (type for type in asked if handler.name in kit.routes(kit.event(type, source=source)))
    found = next(passing, asked[0] if asked else None)
    if found is None:
        patterns = ", ".join(pattern.text for pattern in handler.patterns)
        raise NotFound(
            f"there is no sample of {patterns}; give a file with --sample, such as a body that you have received"
        )
    return found


__all__ = ["try_handler"]
