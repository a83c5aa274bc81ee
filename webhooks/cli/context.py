"""What commands work on, and the options that many of them share.

`webhooks()` is the consumer of the working directory, made at first use; under `flask webhooks …` it is the
application's. Commands that only look at what is stored take `read_only()` instead: settings, sources and store without
the handlers, because an operator must be able to look while a handler does not import, and because it starts sooner.
Both are made by `app`, the one root; nothing is constructed here.

When no source is configured but `webhooks dev` has run here, its demo source is used, and while it runs with the
demo's handlers, those too, so that the commands it recommends work and see what its worker sees.
"""

from __future__ import annotations

import gc
import getpass
import os
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from webhooks.cli import NO_SCHEMA, lacks_schema, output, typed
from webhooks.errors import SelectionError, StorageUnavailable
from webhooks.formats import is_by_the_wall, shown_instant
from webhooks.selection import Selection, parse_duration, parse_id

if TYPE_CHECKING:
    from webhooks.app import ReadOnlyContext, Webhooks
    from webhooks.database import Database
    from webhooks.operations import Actor
    from webhooks.settings import Settings

#: Of so many digits is what is taken for the end of an id; whole ones have more.
SHORTEST_ENDING, LONGEST_ENDING = 5, 12

Answer = TypeVar("Answer")
Command = TypeVar("Command", bound=Callable[..., Any])


def webhooks(*, role: str = "cli") -> Webhooks:
    """The consumer that this command is about; made once a command. Raises `ConfigurationError`."""
    root = click.get_current_context().find_root()
    found = root.meta.get("webhooks")
    if found is None:
        found = root.meta["webhooks"] = _of_flask(root.obj) or _of_directory(role)
        root.call_on_close(found.close)
        gc.enable()
    made: Webhooks = found
    return made


def _of_flask(info: Any) -> Any:
    """The instance of `flask --app …`, where that is how we were started."""
    load = getattr(info, "load_app", None)
    return load().extensions["webhooks"] if load is not None else None


def instance_of_flask() -> Webhooks | None:
    """The instance of the application that `flask --app …` names; None under `webhooks …`."""
    context = click.get_current_context(silent=True)
    found: Webhooks | None = _of_flask(context.find_root().obj) if context is not None else None
    return found


def read_settings(*, with_demo: bool = False) -> Settings:
    """The settings that this command is about: under `flask webhooks …` those of the application, its config on top.

    with_demo: elsewhere, with what a demo that has run here adds. Raises `ConfigurationError`.
    """
    from webhooks.cli import demo
    from webhooks.settings import load_settings

    instance = instance_of_flask()
    if instance is not None:
        return instance.settings
    return load_settings(os.environ, overrides=demo.overrides_if_needed(Path.cwd(), os.environ) if with_demo else None)


def _of_directory(role: str) -> Any:
    from webhooks.app import load
    from webhooks.cli import demo

    return load(role=role, overrides=demo.overrides_if_needed(Path.cwd(), os.environ))


def read_only() -> ReadOnlyContext:
    """Settings, sources and store, without handlers; made once a command. Raises `ConfigurationError`."""
    root = click.get_current_context().find_root()
    whole: Webhooks | None = root.meta.get("webhooks") or _of_flask(root.obj)
    if whole is not None:
        return whole.read_only()
    found: ReadOnlyContext | None = root.meta.get("webhooks.read_only")
    if found is None:
        from webhooks.app import open_read_only

        found = root.meta["webhooks.read_only"] = open_read_only(read_settings(with_demo=True))
        root.call_on_close(found.database.dispose)
        gc.enable()
    return found


def or_explain(database: Database, read: Callable[[], Answer]) -> Answer | None:
    """What the database says; None, and a line that says what is missing, where it cannot be asked.

    For commands that have something to show without it. A file that is not there is not made.
    """
    if database.path is not None and not database.path.exists():
        why = f"there is no file {str(database.path)!r}; run: webhooks db upgrade"
    else:
        try:
            return read()
        except Exception as error:
            if lacks_schema(error):
                why = NO_SCHEMA
            elif isinstance(error, StorageUnavailable):
                why = f"the database cannot be reached: {error.reason}"
            else:
                raise
    output.print_note(f"shown without what the database knows: {typed(why)}")
    return None


def operator_name() -> str:
    """The user who gives this command, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def actor() -> Actor:
    """On whose behalf this command changes something, for the record."""
    from webhooks.operations import Actor, Via

    return Actor(operator_name(), Via.CLI)


# -- options ------------------------------------------------------------------------------------------------

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (documented in docs/operations.md).")


def _read_patience(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    return parse_duration(value, "patience")


patience_option = click.option(
    "--patience",
    default="10s",
    show_default=True,
    metavar="TIME",
    callback=_read_patience,
    help="Look for so long where no index helps.",
)

_SELECTION = (
    click.option("--source", metavar="NAME", help="From this source."),
    click.option("--type", metavar="PATTERN", help="Event type, e.g. 'activity.whatsapp_message.**'."),
    click.option(
        "--state",
        metavar="STATE[,…]",
        help="With a delivery that is pending, running, succeeded, dead, cancelled; or unrouted.",
    ),
    click.option("--handler", metavar="NAME", help="With a delivery for this handler."),
    click.option("--key", metavar="KEY", help="The sender's own id of the event."),
    click.option(
        "--since",
        metavar="TIME",
        help="Arrived at or after: 6h, yesterday, monday 9:00, or ISO 8601 (UTC unless it says).",
    ),
    click.option("--until", metavar="TIME", help="Arrived before."),
    click.option("--error", metavar="GLOB", help="With a delivery whose error matches, e.g. '*Timeout*'."),
    click.option("--action", metavar="ID", help="With a delivery that this action changed last (webhooks activity)."),
    click.option("--where", metavar="EXPR", help="On the content, e.g. 'data.lead_id == \"lead_x\"'."),
)
_NAMES = ("source", "type", "state", "handler", "key", "since", "until", "error", "action", "where")


def selection_options(command: Command) -> Command:
    """Add the options of a selection; the command gets them as one `selection` mapping of texts."""
    import functools

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        chosen = {name: values.pop(name) for name in _NAMES}
        return command(**values, conditions={name: value for name, value in chosen.items() if value is not None})

    for option in reversed(_SELECTION):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def parse_selection(conditions: Mapping[str, Any], events: tuple[str, ...] = ()) -> Selection:
    """The selection of options and EVENT arguments, each our id or the sender's key. Raises `SelectionError`."""
    from webhooks.errors import NotFound

    for name, value in conditions.items():
        if value == "":
            # an unset shell variable must not turn into "everything"
            raise SelectionError(f"{name}: nothing given; leave --{name} out, or give it a value", value, 0)
    at = read_only()
    selection = Selection.parse(conditions, at.clock())
    for name in ("since", "until"):
        tell_instant(name, conditions.get(name), getattr(selection, name))
    ids: list[int] = []
    for event in events:
        is_number = event.isascii() and event.isdigit()
        if is_number and len(event) > LONGEST_ENDING:
            ids += Selection.parse({"event": event}, at.clock()).events
            continue
        found = at.store.listings.ids_of_key(event) or ([read_id(event, "event")] if is_number else [])
        if not found:
            raise NotFound(f"no event {event!r}: it is neither an id of ours nor a sender's key that is stored")
        ids += found
    _check_names(selection)
    _hint_at_type(selection)
    return selection.only(events=tuple(dict.fromkeys(ids))) if ids else selection


def read_id(text: str, what: str) -> int:
    """An id, or the one id that ends in the digits given. what: "event" or "delivery".

    Raises `SelectionError` for what is no id, and where several end so, or too many would have to be looked at.
    """
    id = parse_id(text, what)
    if not SHORTEST_ENDING <= len(text) <= LONGEST_ENDING:
        return id
    listings = read_only().store.listings
    if listings.has_many(what):
        raise SelectionError(f"there are too many to look for one that ends in {text}; give the whole id", text)
    found = listings.ids_ending(what, text)
    if len(found) > 1:
        raise SelectionError(
            f"several end in {text}, the latest {' and '.join(map(str, found))}; give more digits", text
        )
    return found[0] if found else id


def shown_ids(what: str, ids: Collection[int]) -> Callable[[int], str]:
    """How the ids of a page are shown: on a terminal by as many of their last digits as tell them apart from all others."""
    length = read_only().store.listings.ending_length(what, ids) if output.is_terminal() else None
    return str if length is None else lambda id: str(id)[-length:]


def tell_instant(name: str, text: str | None, instant: datetime | None) -> None:
    """Say in UTC how a time of a day was understood, which is of the terminal's zone: `yesterday`, `monday 9:00`."""
    if text is not None and instant is not None and is_by_the_wall(text):
        click.echo(f"{name}: {shown_instant(instant)}", err=True)


def _hint_at_type(selection: Selection) -> None:
    """Say what may be meant by a type of which nothing is known; senders add types, so it is no mistake for sure."""
    from webhooks.routing import Pattern, suggest

    at = read_only()
    if selection.type is None:
        return
    pattern = Pattern(selection.type)
    known = {type for source in at.sources.values() for type in source.known_types}
    if any(pattern.matches(type) for type in known):
        return
    known |= set(at.store.listings.suggestions("type"))
    if not any(pattern.matches(type) for type in known):
        meant = suggest(pattern, known)
        output.print_note(
            f"no type that is known matches {selection.type!r}" + (f"; did you mean {meant!r}?" if meant else "")
        )


def _check_names(selection: Selection) -> None:
    """Refuse a source or handler that neither the settings nor the stored rows know: a typing mistake."""
    from webhooks.formats import did_you_mean

    at = read_only()
    names: tuple[tuple[str, str | None, Callable[[], list[str]]], ...] = (
        ("source", selection.source, lambda: list(at.sources)),
        ("handler", selection.handler, lambda: [*at.handlers, *at.store.handlers.states()]),
    )
    for what, value, known_here in names:
        if value is None or value in (known := known_here()):
            continue
        known = sorted({*known, *at.store.listings.suggestions(what)})
        if value not in known:
            raise SelectionError(
                f"no {what} named {value!r}{did_you_mean(value, known)}; known: {', '.join(known) or 'none'}", value
            )
