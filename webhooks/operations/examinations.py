"""Look for what is wrong every five minutes in one worker, and keep what was found, with since when it has been there.

`Doctor.collect` asks senders and takes seconds, so a page shows the last examination with its age. Losing one loses
nothing: it is made again. Not here: what is wrong (`doctor`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.formats import iso_text
from webhooks.operations import records
from webhooks.operations.background import BackgroundDuty
from webhooks.operations.doctor import diagnose
from webhooks.operations.figures import guarded

if TYPE_CHECKING:
    from webhooks.operations.doctor import Doctor, Finding
    from webhooks.store import Store

#: The name of the lease that elects a worker, and of the snapshot.
DOCTOR = "doctor"
EXAMINE_EVERY = timedelta(minutes=5)


class DoctorDuty(BackgroundDuty):
    """Examines the installation every five minutes, and keeps what was found for every page.

    make: a `Doctor` for the process of that id.
    """

    #: How often it is looked whether an examination is due.
    LOOK_EVERY = timedelta(seconds=15)

    def __init__(
        self,
        make: Callable[[str], Doctor],
        store: Store,
        every: timedelta = EXAMINE_EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("webhooks-doctor", self.LOOK_EVERY, monotonic)
        self._make = make
        self._store = store
        self._every = every
        self._looked_at = monotonic()  # a worker that has just begun has other things to do

    def tick(self, holder: str) -> None:
        """Begin an examination when one is due."""
        if self.may_look():
            self.begin(lambda: guarded(lambda: self.turn(holder), "what is wrong"))

    def turn(self, holder: str) -> bool:
        """Examine, if that is due and `holder` is elected; whether it did. Raises StorageUnavailable."""
        last = self._store.snapshots.get([DOCTOR]).get(DOCTOR)
        if last is not None and timedelta(0) <= self._store.database.now() - last.at < self._every:
            return False
        if not self._store.processes.acquire(DOCTOR, holder, self._every):
            return False
        examine(self._make(holder), self._store)
        return True


def examine(doctor: Doctor, store: Store) -> Sequence[Finding]:
    """Examine now, and keep what was found for every page. Raises StorageUnavailable."""
    findings = diagnose(doctor.collect())
    before = store.snapshots.get([DOCTOR]).get(DOCTOR)
    known = before.body if before is not None else {}
    store.snapshots.put(DOCTOR, document(findings, known, iso_text(store.database.now())))
    return findings


def document(findings: Sequence[Finding], before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """What was found, as `webhooks doctor --json` says it, with since when each has been there.

    before: the document before this one.
    now: for what is new.
    """
    since = {(each["code"], each["subject"]): each["since"] for each in before.get("findings", ())}
    return {
        "findings": [
            {**records.finding_json(finding), "since": since.get((finding.code, finding.subject), now)}
            for finding in findings
        ],
        "repaired": [],
    }


__all__ = ["DOCTOR", "DoctorDuty", "document", "examine"]
