"""`webhooks sandbox`: a local Close, for developing without an account. What it imitates is in docs/sandbox.md.

Beside a running `dev` nothing needs to be said: it posts there, signed with the secret of this directory's Close source,
which is not shown. Elsewhere it makes a key and shows it; that key guards nothing. `catch-up`, `subscriptions` and
`doctor` of this directory ask it while it runs, if the source is the demo's; for another it says how.
"""

from __future__ import annotations

import functools
import json
import secrets
import signal
import socket
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, demo, output
from webhooks.cli.context import read_settings
from webhooks.errors import SelectionError
from webhooks.formats import did_you_mean
from webhooks.operations.trigger import complete_url
from webhooks.routing import Pattern, expand
from webhooks.selection import parse_duration

if TYPE_CHECKING:
    from webhooks.sandbox.rules import Rules
    from webhooks.sandbox.subscriptions import LocalSubscription, Post
    from webhooks.settings import Settings
    from webhooks.sources import Source

PORT = 8765


@click.command(epilog="Example: webhooks sandbox --url http://127.0.0.1:8000/webhooks/close --rule duplicates=0.2")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--url", metavar="URL", help="Post webhooks there; default: to the `dev` that runs in this directory.")
@click.option("--type", "patterns", multiple=True, metavar="PATTERN", help="Only these types; may be repeated.")
@click.option("--secret-file", type=click.Path(path_type=Path), help="Make a key, and put it into this SECRET_FILE.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="The same ids at every start, rather than others.")
@click.option("--unlisted", is_flag=True, help="Also send outcome.* events, which Close does not publish.")
@click.option("--latency", metavar="TIME", help="How long each answer of its API takes at least, e.g. 200ms.")
@click.option(
    "--rule", "rules", multiple=True, metavar="NAME=VALUE", help="Change a rule, e.g. disorder=30; may be repeated."
)
def sandbox(
    port: int,
    url: str | None,
    patterns: tuple[str, ...],
    secret_file: Path | None,
    seed: int | None,
    unlisted: bool,
    latency: str | None,
    rules: tuple[str, ...],
) -> None:
    """Run a local Close on 127.0.0.1 until Ctrl-C: its API, its event log and its signed webhooks.

    It signs with the secret of this directory's Close source, else with a key that it shows. Each post is shown with
    its answer. Everything is gone when it ends. docs/sandbox.md says what it imitates, and what not.
    """
    from webhooks.sandbox import poster, run
    from webhooks.sandbox.refusals import Invalid

    _require_free(port)
    try:
        changed = read_rules(rules)
        events = choose_types(patterns, unlisted=unlisted or changed.unlisted) if patterns else None
        wait = parse_duration(latency, "latency") if latency is not None else timedelta(0)
        settings = read_settings(with_demo=True)
        source = find_source(settings)
        url = find_url(url, settings, source)
        run(
            port=port,
            url=url,
            seed=seed if seed is not None else secrets.randbits(64),
            unlisted=unlisted,
            latency=wait,
            rules=changed,
            secret_file=secret_file,
            events=events,
            signature_key=key_of(source) if secret_file is None else None,
            post=announcing(poster.post),
            say=output.print_note,
            started=functools.partial(_tell_commands, source=source),
            until=_asked_to_stop(),
        )
    except Invalid as error:
        raise Failure(str(error), 2) from error
    except OSError as error:
        if secret_file is None:
            raise
        raise Failure(f"{secret_file} cannot be written: {error.strerror or error}") from error
    finally:
        demo.remove_close_note(Path.cwd())


def _require_free(port: int) -> None:
    """Raise `Failure` when the port is taken; the server would say so in words of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(f"port {port} cannot be had: {error.strerror}; --port 0 takes a free one") from error


def _asked_to_stop() -> threading.Event:
    """Set at SIGTERM; at Ctrl-C, `run` ends by itself."""
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGTERM, stop)
    return asked


# -- where to, and signed with what ------------------------------------------------------------------------------


def find_source(settings: Settings) -> Source | None:
    """The configured Close source, or the demo's; None where there is none."""
    from webhooks.sources import make_source

    for section in settings.sources.values():
        if section.scheme == "close":
            return make_source(section)
    return None


def find_url(url: str | None, settings: Settings, source: Source | None) -> str | None:
    """Where to post: what was given, or the `dev` that runs in this directory; None, which is said, when it does not."""
    name = source.name if source is not None else demo.SOURCE
    if url is not None:
        return complete_url(url, settings, name)
    running = demo.running_url(Path.cwd())
    if running is not None:
        return complete_url(running, settings, name)
    output.print_note(
        "nothing is subscribed: start `webhooks dev` here first, or give --url, or subscribe over the API"
    )
    return None


def _tell_commands(api_url: str, subscription: LocalSubscription | None, source: Source | None) -> None:
    """Let the commands of this directory ask it; where a source is configured, only say how."""
    from webhooks.sandbox.accounts import ADMIN_KEY

    demo.leave_close_note(Path.cwd(), api_url, ADMIN_KEY, subscription.url if subscription is not None else None)
    if source is None:
        return
    if not read_settings().sources:  # it is the demo's
        if subscription is not None and subscription.signature_key == key_of(source):
            demo.label_key(demo.secret_path(Path.cwd()), subscription.id, subscription.signature_key)
    else:
        setting = f"WEBHOOKS_SOURCES__{source.name}__API_"
        output.print_note(
            f"catch-up, subscriptions and doctor ask it with {setting}URL={api_url} and {setting}KEY={ADMIN_KEY}"
        )


def key_of(source: Source | None) -> str | None:
    """The first key of a source, as hex; None when it has none."""
    keys: Sequence[Any] = source.keys.current() if source is not None and hasattr(source, "keys") else ()
    return keys[0].value.hex() if keys else None


# -- options -----------------------------------------------------------------------------------------------------


def read_rules(texts: Sequence[str]) -> Rules:
    """Rules changed by `name=value`, durations in seconds. Raises `SelectionError`, and Invalid."""
    from webhooks.sandbox import Rules

    rules = Rules()
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SelectionError(f"--rule {text[:80]!r} is not name=value, such as disorder=30", text, len(text))
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        rules = rules.changed({name.strip(): read})
    return rules


def choose_types(patterns: Sequence[str], *, unlisted: bool) -> list[str]:
    """The event types that the patterns name. Raises `SelectionError` for one that names none."""
    from webhooks.sandbox.subscriptions import OUTCOME_TYPES
    from webhooks.sources.close.catalogue import known_types

    known = known_types() | (OUTCOME_TYPES if unlisted else frozenset())
    chosen: set[str] = set()
    for pattern in patterns:
        found = expand(Pattern(pattern), known)
        if not found:
            raise SelectionError(
                f"--type {pattern[:80]!r} names no event type of Close{did_you_mean(pattern, known)}", pattern, 0
            )
        chosen.update(found)
    return sorted(chosen)


def announcing(post: Post) -> Post:
    """`post`, with a line for each answer."""

    def posting(url: str, headers: Any, body: bytes) -> int:
        event = json.loads(body)["event"]
        what = f"{event['object_type']}.{event['action']} {event['id']}"
        try:
            status = post(url, headers, body)
        except Exception as error:
            output.print_note(f"--- {what}: no answer ({type(error).__name__}); it is tried again")
            raise
        output.print_note(
            f"{status} {what}" if 200 <= status < 300 else f"{status} {what}: not taken; it is tried again"
        )
        return status

    return posting
