"""Where alarms meet the other objects; nothing of `operations.alarms` is imported unless the settings ask for it.

A worker looks at them as one of its duties; a web process stands in while no worker does; a command lists, mutes and tests.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError
from webhooks.formats import did_you_mean, one_line

if TYPE_CHECKING:
    from webhooks.operations.alarms import AlarmBounds, AlarmDuty, AlarmLinks, AlarmWatch, StandIn
    from webhooks.routing import Registry
    from webhooks.settings import Settings
    from webhooks.store import Store

logger = logging.getLogger(__name__)


def are_asked_for(settings: Settings) -> bool:
    """Whether anything is to be told to anyone."""
    return bool(settings.alarms or settings.heartbeat_url)


def require_names(settings: Settings) -> None:
    """Raise `ConfigurationError` for names of alarms that there are not."""
    named = [(f"only in [alarms.{target.name}]", name) for target in settings.alarms.values() for name in target.only]
    named += [("alarm_after", name) for name in settings.alarm_after]
    if not named:
        return
    from webhooks.operations.alarms import ALARMS

    every = f"; alarms: {', '.join(ALARMS)}"
    problems = [
        f"{where}: there is no alarm {name!r}{did_you_mean(name, ALARMS) or every}"
        for where, name in named
        if name not in ALARMS
    ]
    if problems:
        raise ConfigurationError(problems)


def bounds_of(settings: Settings, registry: Registry | None) -> AlarmBounds:
    """What the operator and the handlers' authors say. registry: None where no handlers are loaded."""
    from webhooks.operations.alarms import AlarmBounds

    handlers = registry.handlers() if registry is not None else ()
    return AlarmBounds(
        {name: source.expect_within for name, source in settings.sources.items() if source.expect_within is not None},
        settings.max_wait,
        {handler.name: handler.max_wait or settings.max_wait for handler in handlers},
        settings.payload_retention,
        frozenset(settings.sources),
    )


def make_watch(
    settings: Settings, store: Store, registry: Registry | None, paused: Callable[[], Mapping[str, int]] = dict
) -> AlarmWatch:
    """What looks and tells.

    registry: of the handlers, which may have a `max_wait`; None where none are loaded.
    paused: asks senders; {source: subscriptions that it has paused}.
    """
    from webhooks.operations.alarms import AlarmWatch

    return AlarmWatch(
        store,
        list(settings.alarms.values()),
        bounds_of(settings, registry),
        after=settings.alarm_after,
        links=_links(settings),
        heartbeat_url=settings.heartbeat_url,
        interval=settings.alarm_interval,
        paused=paused,
    )


def _links(settings: Settings) -> AlarmLinks:
    from webhooks.operations.alarms import AlarmLinks

    ours = settings.dashboard.public_url
    return AlarmLinks(settings.dashboard_url, f"{ours.rstrip('/')}/dashboard" if ours else "")


def duties(
    settings: Settings, store: Store, registry: Registry, paused: Callable[[], Mapping[str, int]]
) -> list[AlarmDuty]:
    """A worker's duty, where anything is to be told. Arguments: as `make_watch`'s."""
    if not are_asked_for(settings):
        return []
    from webhooks.operations.alarms import AlarmDuty

    return [AlarmDuty(make_watch(settings, store, registry, paused))]


def stand_in(
    settings: Settings, store: Store, registry: Registry, run: Callable[[Callable[[], object]], object]
) -> StandIn | None:
    """What a web process does while no worker looks; None where nothing is to be told to a target.

    run: how what uses the database is called.
    """
    if not settings.alarms:
        return None
    from webhooks.operations.alarms import StandIn

    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return StandIn(make_watch(settings, store, registry), name, run)


def ask_senders(sources: Mapping[str, Any]) -> Mapping[str, int]:
    """{source: subscriptions to us that its sender has paused}. One that cannot be asked is left out, and logged.

    sources: those whose senders can be asked, each with `connect` and `labels`.
    """
    found: dict[str, int] = {}
    for name, source in sources.items():
        try:
            ours = set(source.labels())
            with source.connect() as client:
                paused = [each for each in client.subscriptions() if each.id in ours and not each.is_active]
        except Exception as error:
            logger.info("the subscriptions of %s were not looked at: %s", name, one_line(str(error)))
            continue
        found[name] = len(paused)
    return found


__all__ = ["are_asked_for", "ask_senders", "bounds_of", "duties", "make_watch", "require_names", "stand_in"]
