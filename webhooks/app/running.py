"""What processes are made of that run deliveries, a worker or another engine's, and the duties that one of them has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webhooks.app import alarms, assembly

if TYPE_CHECKING:
    from webhooks.app.webhooks import Webhooks
    from webhooks.delivery import Maintenance, Runner, Worker
    from webhooks.delivery.rescue import Duty
    from webhooks.settings import Settings


def make_worker(
    webhooks: Webhooks, *, slots: int | None = None, queues: frozenset[str] | None = None, isolates: bool = True
) -> Worker:
    """A worker for this process, all handlers registered.

    slots: in place of the setting `concurrency`.
    queues: those whose handlers it runs; None: all.
    isolates: whether attempts are given to processes of their own that are to have one.
    """
    from webhooks.delivery import IsolatedPool, Worker, WorkerSettings, handler_rows
    from webhooks.operations import former_names, take_over
    from webhooks.version import VERSION

    settings, dispatcher, store = webhooks.settings, webhooks.dispatcher, webhooks.store
    slots = slots or settings.concurrency
    webhooks.database.serve_worker(slots)
    unregistered = store.handlers.register(handler_rows(webhooks.registry))
    take_over(store, former_names(webhooks.registry))
    worker = Worker(
        store=store,
        registry=webhooks.registry,
        dispatcher=dispatcher,
        settings=WorkerSettings(poll_interval=settings.poll_interval, **_terms(settings, slots, queues)),
        version=VERSION,
        isolated=IsolatedPool(
            command=assembly.isolated_command() if isolates else None, dispatcher=dispatcher, store=store
        ),
        maintenance=make_maintenance(webhooks),
    )
    worker.register_later(unregistered)
    return worker


def make_maintenance(webhooks: Webhooks) -> Maintenance:
    """The duties that one process is elected to: rescue, retention, catch-up, detached replays, actions, alarms."""
    from webhooks.app.actions import make_runners
    from webhooks.delivery import Maintenance, Retention
    from webhooks.operations import CatchUpDuty, DetachedReplays, FormerNames, former_names
    from webhooks.operations.actions import ActionsDuty
    from webhooks.sources import with_log

    settings, store = webhooks.settings, webhooks.store
    logs = [log for log in map(with_log, webhooks.sources.values()) if log is not None and log.can_connect]
    return Maintenance(
        store,
        webhooks.dispatcher,
        Retention(payloads=settings.payload_retention, dedup=settings.dedup_retention),
        duties=[
            DetachedReplays(webhooks.make_replayer, store, lease=settings.lease),
            *figure_duties(webhooks),
            FormerNames(store, former_names(webhooks.registry)),
            ActionsDuty(webhooks.make_activity().changes, store, runners=make_runners(webhooks), lease=settings.lease),
            *([CatchUpDuty(logs, webhooks.make_catch_up, store, webhooks.clock)] if logs else []),
            *alarms.duties(
                settings,
                store,
                webhooks.registry,
                lambda: alarms.ask_senders({log.name: log for log in logs if log.lists_subscriptions}),
            ),
        ],
        lease=settings.lease,
    )


def figure_duties(webhooks: Webhooks) -> list[Duty]:
    """A worker's duties for the charts of the dashboard and what it says is wrong; none where they are off."""
    from webhooks.operations import DoctorDuty, FiguresDuty

    store = webhooks.store
    return [FiguresDuty(store), DoctorDuty(webhooks.make_doctor, store)] if webhooks.settings.tallies else []


def make_runner(webhooks: Webhooks, kind: str, *, slots: int, queues: frozenset[str]) -> Runner:
    """What runs deliveries that another engine claimed, all handlers registered.

    kind: of process.
    slots: handlers at once.
    queues: those whose handlers it runs.

    Raises `StorageUnavailable`.
    """
    from webhooks.delivery import IsolatedPool, Runner, RunnerSettings, handler_rows
    from webhooks.operations import former_names, take_over
    from webhooks.version import VERSION

    webhooks.name_unmigrated()
    settings, dispatcher, store = webhooks.settings, webhooks.dispatcher, webhooks.store
    webhooks.database.serve_worker(slots)
    unregistered = store.handlers.register(handler_rows(webhooks.registry))
    take_over(store, former_names(webhooks.registry))
    runner = Runner(
        store=store,
        registry=webhooks.registry,
        dispatcher=dispatcher,
        settings=RunnerSettings(**_terms(settings, slots, queues)),
        version=VERSION,
        isolated=IsolatedPool(command=assembly.isolated_command(), dispatcher=dispatcher, store=store),
        kind=kind,
    )
    runner.heartbeat.unregistered = unregistered
    return runner


def _terms(settings: Settings, slots: int, queues: frozenset[str] | None) -> dict[str, Any]:
    """On which terms deliveries run here, whatever claims them: the arguments of `RunnerSettings`."""
    return {
        "slots": slots,
        "lease": settings.lease,
        "heartbeat": settings.heartbeat,
        "grace": settings.grace,
        "abandoned_threads": settings.abandoned_threads or None,
        "queues": queues,
    }


__all__ = ["make_maintenance", "make_runner", "make_worker"]
