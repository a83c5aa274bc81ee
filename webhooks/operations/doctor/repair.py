"""Do what is safe about findings: resume, subscribe, fetch keys, catch up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from webhooks.operations.actor import Actor
from webhooks.operations.doctor.facts import Facts, SourceFacts
from webhooks.operations.doctor.findings import Finding, Fix, some
from webhooks.operations.subscriptions import SubscriptionChange, Subscriptions
from webhooks.sources import Source, SourceWithLog, with_log


class Repairer:
    """Repairs what findings say can be. The arguments are those of `Doctor`."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        subscriptions: Callable[[SourceWithLog, Any], Subscriptions] | None,
        catch_up: Callable[[SourceWithLog, Actor], object] | None,
    ) -> None:
        self._sources = sources
        self._subscriptions = subscriptions
        self._catch_up = catch_up

    def repair(self, facts: Facts, findings: Sequence[Finding], *, actor: Actor) -> list[str]:
        """Do what is safe about `findings`; a sentence for each thing done.

        facts: that the findings were made of.
        actor: on whose behalf; each thing done is an action of its own.

        Raises ApiError and StorageUnavailable.
        """
        done: list[str] = []
        for source in facts.sources:
            log = with_log(self._sources[source.name])
            if source.subscriptions is None or log is None:
                continue
            subjects = {source.name, *(each.id for each in source.subscriptions)}
            fixes = [
                (finding.fix, finding.subject) for finding in findings if finding.fix and finding.subject in subjects
            ]
            if fixes:
                done += self._repair(log, source, fixes, actor)
        return done

    def _repair(
        self, log: SourceWithLog, source: SourceFacts, fixes: Sequence[tuple[Fix, str]], actor: Actor
    ) -> list[str]:
        done = []
        kinds = {fix for fix, _ in fixes}
        with log.connect() as client:
            if self._subscriptions is not None and kinds - {Fix.CATCH_UP}:
                subscriptions = self._subscriptions(log, client)
                if kinds & {Fix.SUBSCRIBE, Fix.FETCH_KEY}:
                    done += _sync(subscriptions, source, actor)
                for fix, id in fixes:
                    if fix is Fix.RESUME:
                        subscriptions.resume(id, actor=actor)
                        done.append(f"{id} is resumed")
        if self._catch_up is not None and kinds & {Fix.CATCH_UP, Fix.RESUME}:
            self._catch_up(log, actor)
            done.append(f"caught up with {source.name}")
        return done


def _sync(subscriptions: Subscriptions, source: SourceFacts, actor: Actor) -> list[str]:
    """Subscribe to what handlers lack and fetch keys; nothing is taken away, and nothing moved."""
    done = []
    for change in subscriptions.plan_sync(source.wanted, keep=True, move=False):
        if change.subscription is not None and change.is_needed:
            subscriptions.apply([change], actor=actor)
            done.append(f"{change.subscription.id}{_told(change)}")
    return done


def _told(change: SubscriptionChange) -> str:
    added = f" asks for {some(change.add)} as well" if change.add else ""
    key = " has its key held" if change.needs_key else ""
    return " and".join(part for part in (added, key) if part)


__all__ = ["Repairer"]
