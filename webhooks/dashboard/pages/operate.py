"""What keeps an installation going: what doctor found, alarms, subscriptions, and the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from webhooks.dashboard import looks, remedies
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.operations import records
from webhooks.operations.examinations import SUBSCRIPTIONS
from webhooks.version import VERSION

PAGES = Pages()


@PAGES.get("/doctor", needs=UserRole.VIEWER, forms=("html", "json"))
def doctor(visit: Visit) -> Response:
    """Everything that is wrong or worth knowing, by what it is about."""
    standing = looks.stand(visit.services)
    if visit.form == "json":
        return visit.json(looks.doctor_document(standing))
    advised = remedies.with_remedies(visit, standing.findings)
    subjects: dict[str, list[remedies.Advised]] = {}
    for each in advised:
        subjects.setdefault(each.finding["subject"], []).append(each)
    return visit.page(
        "doctor.html",
        subjects=subjects,
        standing=standing,
        alarms=[row for row in visit.store.alarms.rows().values() if row.ended_at is None],
        has_targets=bool(visit.services.settings.alarms),
        without_worker=looks.no_worker(visit.services),
        has_fixes=any(each["fix"] for each in standing.findings),
    )


@PAGES.get("/subscriptions", needs=UserRole.VIEWER, forms=("html", "json"))
def subscriptions(visit: Visit) -> Response:
    """What senders said of their subscriptions to us, when they were asked last."""
    snapshot = looks.snapshots(visit.services).get(SUBSCRIPTIONS)
    said: Mapping[str, Any] = snapshot.body if snapshot is not None else {}
    if visit.form == "json":
        return visit.json({"subscriptions": [one for each in said.values() for one in each["subscriptions"]]})
    return visit.page(
        "subscriptions.html",
        said=said,
        asked_at=snapshot.at if snapshot is not None else None,
        without_worker=looks.no_worker(visit.services),
    )


@PAGES.get("/processes", needs=UserRole.VIEWER, forms=("html", "json"))
def processes(visit: Visit) -> Response:
    """The processes that reported, and which of them have which handlers."""
    every = visit.store.processes.all()
    running = {process.id for process in looks.on_record(visit.services).processes}
    if visit.form == "json":
        return visit.json({"processes": [records.process_json(each, each.id in running) for each in every]})
    versions = {each.version for each in every if each.id in running}
    return visit.page(
        "processes.html",
        processes=every[:200],
        running=running,
        versions=sorted(versions),
        ours=VERSION,
        differing=differing([each.handlers for each in every if each.id in running and each.is_worker]),
        without_worker=looks.no_worker(visit.services),
    )


def differing(handlers: Sequence[Sequence[str]]) -> list[str]:
    """Names that some of the running workers have and others have not."""
    every = {name for names in handlers for name in names}
    return sorted(name for name in every if any(name not in names for names in handlers))


__all__ = ["PAGES", "differing"]
