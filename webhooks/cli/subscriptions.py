"""`webhooks subscriptions`: the sender's subscriptions to us. Works before a source has its first key.

No command prints or logs a key: they go from Close's answer into the source's SECRET_FILE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import actor, instance_of_flask, json_option, read_settings
from webhooks.errors import ConfigurationError, SelectionError
from webhooks.formats import did_you_mean, printable
from webhooks.operations import records
from webhooks.operations.words import change_lines
from webhooks.selection import parse_duration

if TYPE_CHECKING:
    from webhooks.operations import Subscriptions, Wanted
    from webhooks.routing import Registry
    from webhooks.settings import Settings, SourceSettings
    from webhooks.sources import Subscription, Topic
    from webhooks.store import Store

COLUMNS = ("ID", "STATUS", "EVENTS", "URL", "KEY", "KEY LAST USED", "HEALTH", "NOTE")
SCHEME = "close"


@dataclass(frozen=True)
class SubscriptionContext:
    """What these commands work with. handlers: loads the handlers, when they are asked for."""

    name: str
    subscriptions: Subscriptions
    handlers: Callable[[], Sequence[Any]]

    def wanted(self) -> Wanted:
        """What the registered handlers want of this source."""
        from webhooks.operations import wanted_types
        from webhooks.sources.close.catalogue import known_types, published_types

        return wanted_types(self.handlers(), self.name, published_types(), known_types())


@contextmanager
def opened(source: str | None) -> Iterator[SubscriptionContext]:
    """The context of a source of Close's; the only one when None. Raises SelectionError, ConfigurationError."""
    from webhooks.app import Role, open_store

    instance = instance_of_flask()
    if instance is not None:
        yield _make(instance.settings, source, instance.store, lambda: instance.registry)
        return
    settings = read_settings(with_demo=True)
    store = open_store(settings, Role.CLI)
    try:
        yield _make(settings, source, store, lambda: _load_handlers(settings))
    finally:
        store.database.dispose()


def _load_handlers(settings: Settings) -> Registry:
    from webhooks.routing import default_registry, find_modules, load_modules

    load_modules(find_modules(settings.handlers_dir, settings.handlers))
    return default_registry


def _make(
    settings: Settings, source: str | None, store: Store, registry: Callable[[], Registry]
) -> SubscriptionContext:
    from webhooks.app import make_subscriptions
    from webhooks.sources.calling import log_retries
    from webhooks.sources.close.api import read_api
    from webhooks.sources.close.client import CloseClient
    from webhooks.sources.close.signature import decode_key
    from webhooks.sources.close.source import words

    section = _section(settings, source)
    api, problems = read_api(section.name, section.options)
    if problems:
        raise ConfigurationError(problems)
    client = CloseClient(api)
    log_retries()
    click.get_current_context().call_on_close(client.close)
    labels = [secret.label for secret in section.secrets]
    subscriptions = make_subscriptions(section, client, store, labels, check_key=decode_key, words=words(section.name))
    return SubscriptionContext(section.name, subscriptions, lambda: registry().handlers())


def _section(settings: Settings, name: str | None) -> SourceSettings:
    ours = {key: section for key, section in settings.sources.items() if section.scheme == SCHEME}
    if name is None and len(ours) == 1:
        return next(iter(ours.values()))
    if not ours:
        raise ConfigurationError(
            "no source of the scheme 'close' is configured; write into webhooks.toml: [sources.close] and below it "
            'secret_file = "keys.json"'
        )
    shown = ", ".join(sorted(ours))
    if name is None:
        raise SelectionError(f"there are several sources of Close's; say which: --source {shown.replace(', ', ' or ')}")
    if name not in ours:
        raise SelectionError(f"no source of Close's is named {name!r}{did_you_mean(name, ours)}; there are: {shown}")
    return ours[name]


source_option = click.option("--source", metavar="NAME", help="Of this source. Default: the only one of Close's.")


# -- commands -----------------------------------------------------------------------------------------------


@click.group(cls=LazyGroup)
def subscriptions() -> None:
    """The sender's subscriptions to us: list, make, compare with the handlers, pause, resume, rotate keys."""


@subscriptions.command("list", epilog="Example: webhooks subscriptions list")
@source_option
@json_option
def list_(source: str | None, as_json: bool) -> None:
    """List every subscription that the API key may see, and whether we hold its key."""
    with opened(source) as context:
        labels, uses = context.subscriptions.labels(), context.subscriptions.key_uses()
        found = context.subscriptions.all()
    if as_json:
        output.emit_json(
            {"subscriptions": [records.subscription_json(each, each.id in labels, uses.get(each.id)) for each in found]}
        )
        return
    rows = [
        (
            each.id,
            each.status,
            str(len(each.topics)),
            each.url,
            "held" if each.id in labels else "not ours",
            output.when(uses.get(each.id)),
            each.health_status or "",
            each.pause_reason or each.latest_error or "",
        )
        for each in found
    ]
    output.emit_table(
        COLUMNS, rows, empty="no subscriptions; make one with: webhooks subscriptions create --url https://…"
    )


@subscriptions.command(
    "create", epilog="Example: webhooks subscriptions create --url https://example.com/webhooks/close"
)
@click.option("--url", metavar="URL", help="Where Close shall post. Default: public_url of the source.")
@click.option(
    "--type", "patterns", metavar="PATTERN", multiple=True, help="Event types. Default: what the handlers want."
)
@click.option("--no-verify-ssl", is_flag=True, help="Let Close take any certificate.")
@source_option
@json_option
def create(url: str | None, patterns: tuple[str, ...], no_verify_ssl: bool, source: str | None, as_json: bool) -> None:
    """Make a subscription, and write its key into the source's secret_file."""
    from webhooks.sources import Topic

    with opened(source) as context:
        topics = _topics(patterns) if patterns else [Topic(type) for type in sorted(_said(context.wanted()).types)]
        where = url or context.subscriptions.public_url
        if not where:
            raise SelectionError(
                f"say where Close reaches us: --url https://…/webhooks/{context.name}, or public_url in [sources.{context.name}]"
            )
        made = context.subscriptions.create(where, topics, actor=actor(), verify_ssl=not no_verify_ssl)
    if as_json:
        output.emit_json({"subscription": records.subscription_json(made, True, None)})
        return
    click.echo(printable(made.id))
    output.print_note(
        f"{made.id} posts {output.counted(len(made.topics), 'event type')} to {made.url}; its key is in the secret_file"
    )


@subscriptions.command("sync", epilog="Example: webhooks subscriptions sync --dry-run")
@click.option("--url", metavar="URL", help="Where Close shall post. Default: public_url of the source, or as it is.")
@click.option("--keep", is_flag=True, help="Take nothing away that no handler wants.")
@click.option("--dry-run", is_flag=True, help="Only show the difference. Exit code 1 when there is one.")
@source_option
@json_option
def sync(url: str | None, keep: bool, dry_run: bool, source: str | None, as_json: bool) -> None:
    """Make our subscriptions ask for exactly what the handlers want; show the difference, then apply it."""
    with opened(source) as context:
        wanted = _said(context.wanted())
        changes = context.subscriptions.plan_sync(wanted, url=url or "", keep=keep)
        if not as_json:
            for change in changes:
                for line in change_lines(change):
                    click.echo(printable(line))
        needed = [change for change in changes if change.is_needed]
        done = [] if dry_run else context.subscriptions.apply(needed, actor=actor())
    if as_json:
        output.emit_json(
            {
                "is_dry_run": dry_run,
                "changes": [records.change_json(change) for change in changes],
                "subscriptions": [each.id for each in done],
                "unknown": list(wanted.unknown),
            }
        )
    elif not needed:
        output.print_note("the subscriptions ask for exactly what the handlers want")
    elif dry_run:
        output.print_note("nothing was changed; apply it with: webhooks subscriptions sync")
    else:
        output.print_note(f"done: {', '.join(each.id for each in done)}")
        if any(change.add for change in needed):
            output.print_note(f"what happened before is in the log: webhooks catch-up {context.name} --since 6h")
    if dry_run and needed:
        raise SystemExit(1)


@subscriptions.command("pause", epilog="Example: webhooks subscriptions pause")
@click.argument("id", required=False)
@source_option
@json_option
def pause(id: str | None, source: str | None, as_json: bool) -> None:
    """Pause a subscription. Close empties its queue; what happens until it is resumed is in the log only."""
    with opened(source) as context:
        paused = context.subscriptions.pause(id, actor=actor())
        if as_json:
            _emit(context, paused)
            return
    output.print_note(
        f"{paused.id} is paused, and its queue emptied; continue with: webhooks subscriptions resume {paused.id}"
    )


@subscriptions.command("resume", epilog="Example: webhooks subscriptions resume")
@click.argument("id", required=False)
@source_option
@json_option
def resume(id: str | None, source: str | None, as_json: bool) -> None:
    """Let a subscription run again; a worker then fetches what it missed."""
    with opened(source) as context:
        resumed = context.subscriptions.resume(id, actor=actor())
        if as_json:
            _emit(context, resumed)
            return
    output.print_note(
        f"{resumed.id} is {resumed.status}; a running worker now catches up by itself, else run: webhooks catch-up {context.name}"
    )


@subscriptions.command("rotate", epilog="Example: webhooks subscriptions rotate")
@click.argument("id", required=False)
@click.option("--wait", default="15m", show_default=True, metavar="TIME", help="For a delivery under the new key.")
@click.option(
    "--grace", default="30s", show_default=True, metavar="TIME", help="How long the old key is still taken afterwards."
)
@source_option
@json_option
def rotate(id: str | None, wait: str, grace: str, source: str | None, as_json: bool) -> None:
    """Replace a subscription's key: by a second subscription, which takes over once a delivery under its key was seen.

    Interrupted, or when nothing was delivered in time, both stay; the same command continues.
    """
    longest, longer = parse_duration(wait, "wait"), parse_duration(grace, "grace")
    with opened(source) as context:
        done = context.subscriptions.rotate(id, actor=actor(), wait=longest, grace=longer, tell=output.print_note)
    if as_json:
        output.emit_json(
            {"old": done.old, "new": done.new, "seen_at": output.iso(done.seen_at), "old_key": done.old_key}
        )
        return
    click.echo(printable(done.new))
    output.print_note(
        f"{done.old} is gone; its key was {done.old_key}"
        if done.old_key == "removed"
        else f"{done.old} is gone; its key is {done.old_key}"
    )


# -- words --------------------------------------------------------------------------------------------------


def _emit(context: SubscriptionContext, subscription: Subscription) -> None:
    is_held = subscription.id in context.subscriptions.labels()
    used_at = context.subscriptions.key_uses().get(subscription.id)
    output.emit_json({"subscription": records.subscription_json(subscription, is_held, used_at)})


def _topics(patterns: Sequence[str]) -> list[Topic]:
    """The types that are named, wildcards expanded by the catalogue; a type that is not in it is Close's to refuse."""
    from webhooks.routing import Pattern, expand, suggest
    from webhooks.sources import Topic
    from webhooks.sources.close.catalogue import known_types, published_types

    types: list[str] = []
    for text in patterns:
        pattern = Pattern(text)
        found = expand(pattern, published_types())
        if not found and not pattern.is_exact:
            meant = suggest(pattern, published_types())
            raise SelectionError(
                f"no event type matches {text!r}" + (f"; did you mean {meant!r}?" if meant else ""), text
            )
        if not found and text not in known_types():
            meant = suggest(pattern, published_types())
            near = f" (did you mean {meant!r}?)" if meant else ""
            output.print_note(
                f"{text!r} is none of the types that Close is known to publish{near}; asking for it all the same"
            )
        types += found or [text]
    return [Topic(type) for type in dict.fromkeys(types)]


def _said(wanted: Wanted) -> Wanted:
    """Say which patterns cannot be subscribed to."""
    for pattern in wanted.unknown:
        output.print_note(
            f"the pattern {pattern!r} matches nothing that Close publishes, so it cannot be subscribed to"
        )
    return wanted
